"""One file, one record: ``create`` of a registered file, ``merge``, and what ``doctor`` finds."""

import json

import pytest
from support.image_files import make_raw


@pytest.fixture
def disk(folder, tmp_path):
    """Return the path of a file that a scan has registered, with a property made by hand."""
    (tmp_path / "images").mkdir()
    path = make_raw(tmp_path / "images" / "disk.raw")
    folder.get("scan", "images")
    folder.get("update", "disk", "--property", "ticket=1")
    return path


def images(folder):
    return json.loads(folder.get("list", "--json", "--sort-key", "created_at", "--sort-dir", "asc"))


def test_creating_a_registered_file_updates_its_record(folder, disk):
    (before,) = images(folder)

    code, output, errors = folder.run("create", "named", "--file", disk, "--property", "os_distro=debian")

    (after,) = images(folder)
    assert (code, output) == (0, f"{before['id']}\n")
    assert errors == (
        f"{disk} is registered already as image {before['id']}, which was updated; --new creates another record.\n"
    )
    assert (after["id"], after["name"], after["checksum"]) == (before["id"], "named", before["checksum"])
    assert after["properties"] == before["properties"] | {"os_distro": "debian"}


@pytest.mark.parametrize("link", ["symbolic", "relative"])
def test_a_file_is_known_by_every_path_that_leads_to_it(folder, disk, tmp_path, link):
    (tmp_path / "link.raw").symlink_to(disk)

    folder.get("create", "--file", "link.raw" if link == "symbolic" else "images/../images/disk.raw")

    assert len(images(folder)) == 1


@pytest.mark.exhaustive
def test_a_new_record_of_a_registered_file_is_made_on_purpose_only(folder, disk):
    code, _, errors = folder.run("create", "--file", disk, "--id", "0c1d2e3f-4a5b-4c6d-8e7f-001122334455")
    assert (code, len(images(folder))) == (1, 1)
    assert "omit --id to update that record, or add --new to create another" in errors

    folder.get("create", "--new", "--file", disk)

    assert len(images(folder)) == 2


def test_show_finds_an_image_by_the_path_of_its_file(folder, disk, tmp_path):
    (image,) = images(folder)
    (tmp_path / "a link").symlink_to(disk)

    for path in (disk, "images/disk.raw", "./a link"):
        assert folder.get("show", path, "--quiet").strip() == image["id"]
    assert folder.run("show", "images/other.raw")[0] == 3


def test_a_file_that_is_named_by_an_id_is_known_too(folder, tmp_path):
    image_id = "0c1d2e3f-4a5b-4c6d-8e7f-001122334455"
    path = make_raw(tmp_path / image_id)

    for _ in range(2):
        folder.get("create", "x", "--file", path, "--id", image_id, "--disk-format", "raw")

    assert [image["id"] for image in images(folder)] == [image_id]


def test_files_with_several_records_are_found_and_merged(folder, disk):
    folder.get("create", "other", "--new", "--file", disk, "-p", "ticket=2", "-p", "note=x")
    first, second = images(folder)
    folder.get("share", second["id"], "acme", "--can-share")

    code, output, _ = folder.run("doctor")
    told = f"file://{disk} has several records: make one of them with: ./registry merge {first['id']} {second['id']}"
    assert (code, told in output) == (1, True)
    dry = folder.run("merge", first["id"], second["id"], "--dry-run")
    assert len(images(folder)) == 2
    code, output, errors = folder.run("merge", first["id"], second["id"])

    (merged,) = images(folder)
    lost = f"{second['id']}: property ticket=2 is not kept; the value is 1\n"
    assert dry == (0, f"1 image would be merged into {first['id']}.\n", lost)
    assert (code, output, errors) == (0, f"1 image merged into {first['id']}.\n", lost)
    assert (merged["id"], merged["name"]) == (first["id"], "disk")
    assert merged["properties"] == first["properties"] | {"note": "x"}
    assert "member\tacme\ttrue" in folder.get("show", first["id"])
    assert "has several records" not in folder.run("doctor")[1]
    folder.get("undelete", second["id"])
    assert len(images(folder)) == 2


@pytest.mark.exhaustive
def test_images_of_different_files_are_not_merged(folder, disk):
    folder.get("create", "other", "--disk-format", "raw")
    first, other = images(folder)

    code, output, errors = folder.run("merge", first["id"], other["id"])

    assert (code, output) == (1, "")
    assert f"Image {other['id']} has neither a location nor a checksum in common with {first['id']}" in errors
    assert images(folder) == [first, other]


@pytest.mark.exhaustive
def test_a_protected_image_is_not_merged_into_another(folder, disk):
    folder.get("create", "other", "--new", "--file", disk, "--protected")
    before = images(folder)

    code, _, errors = folder.run("merge", before[0]["id"], before[1]["id"])

    assert code == 1
    assert "is protected; unprotect it first. Nothing was merged." in errors
    assert images(folder) == before


@pytest.mark.exhaustive
def test_an_image_is_not_merged_with_itself(folder, disk):
    code, _, errors = folder.run("merge", "disk", "disk")

    assert code == 2
    assert "OTHER must be other images than" in errors
