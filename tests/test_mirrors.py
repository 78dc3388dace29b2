"""``sync simplestreams`` over time and with several mirrors: what is whose, what is left out, and why."""

import json

import pytest
from support.image_files import make
from support.mirrors import INCUS, UBUNTU, incus_product, item_of, publish, serving, ubuntu_product
from test_sync import qcow2, records

from cli.image_names import parse_image_name
from cli.item_selection import select_newest, version_order
from cli.mirror_records import is_same_address, mirror_address
from cli.simplestreams import choose_names, parse_products


@pytest.fixture
def sync(folder):
    """Return a function (source, options) → (exit code, lines as lists of words, lines of the error stream)."""

    def run(*arguments):
        code, output, errors = folder.run("sync", "simplestreams", *arguments)
        assert "Traceback" not in errors
        return code, [line.split("\t") for line in output.splitlines()], errors.splitlines()

    return run


@pytest.fixture
def make_mirror(tmp_path):
    """Return a function (name, {version: content}) → root of a mirror with one product of Incus."""

    def make_one(name, disks, **texts):
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        publish(root, INCUS, {"debian:trixie:amd64:default": incus_product(root, disks) | texts})
        return root

    return make_one


# Two mirrors


def test_mirrors_with_the_same_content_id_keep_their_own_records(folder, sync, make_mirror):
    one, other = make_mirror("a", {"1": qcow2(1)}), make_mirror("b", {"1": qcow2(2), "2": qcow2(3)})

    first = sync(one)
    before = folder.get("list", "--json")
    assert first[0] == 0
    assert [line[0] for line in sync(other, "--all-versions")[1]] == ["added", "added"]
    assert sync(one)[1] == []
    assert sync(other, "--all-versions")[1] == []

    kept = [image for image in folder.get("list", "--json").splitlines() if f"file://{one}/" in image]
    assert len(kept) == 1
    assert kept[0] in before


def test_a_mirror_is_the_same_over_http_and_https_and_with_its_port_named():
    assert mirror_address("https://user:secret@Example.org:443/images/") == "https://example.org/images/"
    assert mirror_address("http://[::1]:8080/") == "http://[::1]:8080/"
    assert is_same_address("http://example.org/images/", "https://example.org/images/")
    assert not is_same_address("https://example.org/images/", "https://example.org/daily/")


def forget_source(folder):
    """Change the records to what earlier versions wrote."""
    for image in json.loads(folder.get("list", "--json")):
        folder.get("update", image["id"], "--remove-property", "stream_source")


def test_records_of_an_earlier_version_are_taken_by_the_mirror_that_has_their_file(folder, sync, make_mirror):
    one, other = make_mirror("a", {"1": qcow2(1)}), make_mirror("b", {"1": qcow2(2)})
    sync(one)
    before = folder.get("list", "--quiet")
    forget_source(folder)

    assert [line[0] for line in sync(other)[1]] == ["added"]
    assert [line[0] for line in sync(one)[1]] == ["updated"]
    assert sync(one)[1] == sync(other)[1] == []
    assert len(records(folder, "--limit", "5")) == 1  # both have the published name
    assert before.strip() in folder.get("list", "--quiet")


@pytest.mark.exhaustive
def test_a_fetched_record_of_an_earlier_version_is_taken_by_its_content(folder, sync, make_mirror, tmp_path):
    root = make_mirror("a", {"1": qcow2(1)})
    with serving(root) as (url, _):
        sync(url, "--download", "kept")
        forget_source(folder)

        assert [line[0] for line in sync(url, "--download", "kept")[1]] == ["updated"]
        assert len(folder.get("list", "--quiet").splitlines()) == 1


# Refused, empty and foreign


def test_an_item_that_is_refused_is_not_gone(folder, sync, make_mirror):
    root = make_mirror("a", {"1": qcow2(1)})
    sync(root)
    before = folder.get("list", "--json")
    path = root / "streams/v1/images.json"
    document = json.loads(path.read_text())
    del document["products"]["debian:trixie:amd64:default"]["versions"]["1"]["items"]["disk.qcow2"]["size"]
    path.write_text(json.dumps(document))

    code, lines, errors = sync(root)

    assert (code, [line[0] for line in lines]) == (1, ["refused"])
    assert lines[0][-1] == "has no valid size"
    assert errors[-1] == "0 added, 0 updated, 0 unchanged, 1 refused"
    assert folder.get("list", "--json") == before


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON, but is empty"),
        (b"<!DOCTYPE html><html>", "is not JSON, but is an HTML or XML page"),
        (b'{"format": "products:1.0", "content_id": "images", "products": {}}', "lists no products"),
    ],
)
def test_a_document_without_products_is_told_and_nothing_is_gone(sync, make_mirror, content, reason):
    root = make_mirror("a", {"1": qcow2(1)})
    sync(root)
    (root / "streams/v1/images.json").write_bytes(content)

    code, lines, _ = sync(root)

    assert (code, [line[0] for line in lines]) == (1, ["refused"])
    assert reason in lines[0][-1]


# Left out


def test_items_that_are_no_disks_are_counted_and_named(sync, make_mirror):
    root = make_mirror("a", {"1": qcow2(1)})
    path = root / "streams/v1/images.json"
    document = json.loads(path.read_text())
    del document["products"]["debian:trixie:amd64:default"]["versions"]["1"]["items"]["disk.qcow2"]
    path.write_text(json.dumps(document))

    assert sync(root) == (
        0,
        [],
        ["2 items are no disk images: incus.tar.xz, squashfs", "0 added, 0 updated, 0 unchanged"],
    )


def test_formats_that_are_not_configured_are_counted_and_named(folder, sync, make_mirror, tmp_path):
    root = tmp_path / "vmdk"
    root.mkdir()
    product = incus_product(root, {"1": qcow2(1)})
    product["versions"]["1"]["items"] = {"disk.vmdk": item_of(root, "vmdk", "disk.vmdk", b"KDMV")}
    publish(root, INCUS, {"x": product})
    folder.variables["REGISTRY_API_DISK_FORMATS"] = "qcow2,raw"

    assert sync(root)[::2] == (
        0,
        [
            "1 item is of formats that [api] disk_formats does not list: vmdk",
            "0 added, 0 updated, 0 unchanged",
        ],
    )


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (["--release", "focal"], "no item matches --release focal; the mirror has trixie"),
        (["--arch", "riscv64"], "no item matches --arch riscv64; the mirror has x86_64"),
        (["--release", "trixie", "--release", "sid"], "no item matches --release sid; the mirror has trixie"),
    ],
)
def test_a_choice_that_matches_nothing_is_told_with_what_there_is(sync, make_mirror, options, note):
    code, _, errors = sync(make_mirror("a", {"1": qcow2(1)}), *options)

    assert (code, errors[0]) == (0, note)


@pytest.mark.exhaustive
def test_older_versions_are_counted(sync, make_mirror):
    root = make_mirror("a", {"1": qcow2(1), "2": qcow2(2)})

    note = "1 item is of older versions; --all-versions registers them too"
    assert note in sync(root)[2]
    assert note not in sync(root, "--all-versions")[2]


# Releases, versions and names


@pytest.mark.exhaustive
@pytest.mark.parametrize("release", ["noble", "24.04", "NOBLE", "24.04 LTS", "lts", "Noble Numbat"])
def test_a_release_is_found_by_each_of_its_names(sync, tmp_path, release):
    root = tmp_path / "mirror"
    root.mkdir()
    publish(root, UBUNTU, {"x": ubuntu_product(root, {"1": qcow2(1)})})

    assert [line[0] for line in sync(root, "--release", release)[1]] == ["added"]


def test_a_release_is_found_in_the_aliases_of_another_publisher(folder, sync, make_mirror):
    root = make_mirror(
        "a", {"1": qcow2(1)}, os="Ubuntu", release="noble", release_title="noble", aliases="ubuntu/24.04/cloud,u/n"
    )

    assert [line[0] for line in sync(root, "--release", "24.04")[1]] == ["added"]
    (image,) = json.loads(folder.get("list", "--json"))
    assert image["properties"]["os_version"] == "24.04"


def test_numbers_in_a_document_are_taken_as_they_are_written(folder, sync, make_mirror):
    root = make_mirror("a", {"1": qcow2(1)}, release=10, release_title=None, aliases="")
    path = root / "streams/v1/images.json"
    path.write_text(path.read_text().replace('"variant": "default"', '"version": 22.10'))

    assert [line[0] for line in sync(root, "--release", "10")[1]] == ["added"]
    assert [line[0] for line in sync(root, "--release", "22.10")[1]] == []
    (image,) = json.loads(folder.get("list", "--json"))
    assert (image["properties"]["release"], image["properties"]["os_version"]) == ("10", "22.10")


SAME = [
    ("Debian", "trixie", "debian-13-generic-amd64.qcow2"),
    ("Debian", "trixie", "debian-trixie-generic-amd64.qcow2"),
    ("Ubuntu", "noble", "noble-server-cloudimg-amd64.img"),
    ("Fedora", "43", "Fedora-Cloud-Base-Generic-43-1.6.x86_64.qcow2"),
    ("CentOS", "9-Stream", "CentOS-Stream-GenericCloud-9-20250101.0.x86_64.qcow2"),
]


@pytest.mark.parametrize(("name", "release", "file_name"), SAME)
def test_os_version_means_the_same_for_a_sync_and_a_scan(tmp_path, name, release, file_name):
    product = incus_product(tmp_path, {"1": qcow2(1)})
    product |= {"os": name, "release": release, "release_title": release, "aliases": ""}
    document = {"format": "products:1.0", "content_id": "images", "products": {"x": product}}

    (item,) = parse_products(document).items

    scanned = parse_image_name(file_name).properties
    assert {key: item.properties[key] for key in ("os_distro", "os_version")} == {
        key: scanned[key] for key in ("os_distro", "os_version")
    }


def test_version_names_are_ordered_as_numbers_where_they_are(tmp_path):
    product = incus_product(tmp_path, {name: qcow2(1) for name in ("9", "10", "10.2", "10.10")})
    document = {"format": "products:1.0", "content_id": "images", "products": {"x": product}}

    assert [item.version for item in select_newest(parse_products(document).items)] == ["10.10"]
    assert max(["20260101_9", "20260101_10", "20251231_99"], key=version_order) == "20260101_10"


def test_names_are_unique_whatever_items_share(tmp_path):
    product = incus_product(tmp_path, {"1": qcow2(1)})
    long = product | {"os": "x" * 255}
    products = {"a": product, "b": product, "c": long, "d": long}
    document = {"format": "products:1.0", "content_id": "images", "products": products}

    names = choose_names(parse_products(document).items)

    assert len({*names.values()}) == len(names) == 4
    assert max(map(len, names.values())) <= 255


# Downloads and support


def test_a_refused_download_does_not_stay_in_the_folder(sync, tmp_path):
    root = tmp_path / "mirror"
    root.mkdir()
    make(tmp_path / "base.qcow2", "qcow2")
    top = make(tmp_path / "top.qcow2", "qcow2", f"backing_file={tmp_path}/base.qcow2", "backing_fmt=qcow2").read_bytes()
    bad = incus_product(root, {"1": top}, arch="arm64")
    publish(root, INCUS, {"good": incus_product(root, {"1": qcow2(1)}), "bad": bad})

    with serving(root) as (url, _):
        code, lines, _ = sync(url, "--download", "kept")

    assert (code, sorted(line[0] for line in lines)) == (1, ["added", "failed"])
    assert "needs the backing file" in next(line[-1] for line in lines if line[0] == "failed")
    left = [str(path.relative_to(tmp_path / "kept")) for path in (tmp_path / "kept").rglob("*")]
    assert [path for path in left if path.endswith(".qcow2")] == ["images/debian/trixie/amd64/default/1/disk.qcow2"]
    assert not any("arm64" in path for path in left)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("texts", "remark"),
    [
        ({"support_eol": "2020-01-31"}, "end of life 2020-01-31"),
        ({"supported": False}, "end of life"),
        ({"supported": True}, ""),
        ({"support_eol": "2999-01-01", "supported": False}, ""),
    ],
)
def test_releases_past_their_support_are_marked(folder, sync, make_mirror, texts, remark):
    (line,) = sync(make_mirror("a", {"1": qcow2(1)}, **texts))[1]

    (image,) = json.loads(folder.get("list", "--json"))
    assert (line[0], line[-1]) == ("added", remark)
    assert image["properties"].get("end_of_life") == ("true" if remark else None)


@pytest.mark.exhaustive
def test_a_release_is_marked_by_the_next_sync_when_its_support_has_ended(folder, sync, make_mirror):
    root = make_mirror("a", {"1": qcow2(1)}, support_eol="2999-01-01")
    sync(root)

    make_mirror("a", {"1": qcow2(1)}, support_eol="2020-01-01")

    assert [line[0] for line in sync(root)[1]] == ["updated"]
    (image,) = json.loads(folder.get("list", "--json"))
    assert (image["properties"]["end_of_life"], image["properties"]["support_eol"]) == ("true", "2020-01-01")
