"""``verify``: whether files are still what their records say."""

import hashlib
import json
import os
import shutil

import httpx2
import pytest
from support.image_files import make, make_raw
from support.terminals import Folder


@pytest.fixture
def folder(tmp_path):
    """On the database that servers of tests serve."""
    return Folder(tmp_path, database="sqlite:///registry.db")


@pytest.fixture
def disk(folder, tmp_path):
    """A file that a scan has registered."""
    (tmp_path / "images").mkdir()
    path = make_raw(tmp_path / "images" / "disk.raw")
    folder.get("scan", "images")
    return path


def states(folder, *arguments):
    """(exit code, {name: (state, reason)})"""
    code, output, _ = folder.run("verify", "--json", *arguments)
    return code, {entry["name"]: (entry["state"], entry["reason"]) for entry in json.loads(output)}


def write_over(path):
    with path.open("r+b") as file:
        file.write(b"others")


def put_a_folder_there(path):
    path.unlink()
    path.mkdir()


def put_a_pipe_there(path):
    path.unlink()
    os.mkfifo(path)


CHANGES = {
    "the same": (lambda path: None, 0, "ok", None),
    "a new time": (os.utime, 0, "ok", None),
    "other content": (write_over, 1, "changed", "differs from the record in md5, sha512"),
    "another size": (lambda path: os.truncate(path, 5), 1, "changed", "has 5 bytes, the record says 65536"),
    "gone": (os.unlink, 1, "missing", "no such file or directory"),
    "gone with its folder": (lambda path: shutil.rmtree(path.parent), 1, "missing", "no such file or directory"),
    "a folder": (put_a_folder_there, 1, "unreadable", "is not a regular file"),
    "a pipe": (put_a_pipe_there, 1, "unreadable", "is not a regular file"),
}


@pytest.mark.sampled("state")
@pytest.mark.parametrize(("change", "code", "state", "reason"), CHANGES.values(), ids=CHANGES)
def test_a_file_is_held_against_its_record(folder, disk, change, code, state, reason):
    change(disk)

    assert states(folder) == (code, {"disk": (state, reason)})


def create(folder, name, path, **fields):
    record = {"name": name, "status": "active", "disk_format": "raw", "container_format": "bare", **fields}
    record |= {"location": f"file://{path}"} if path else {}
    assert folder.run("import", "-", content=json.dumps(record) + "\n")[0] == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "blake2b"])
def test_os_hash_value_is_of_the_algorithm_that_the_record_names(folder, disk, algorithm):
    digest = hashlib.new(algorithm, disk.read_bytes()).hexdigest()
    create(folder, "right", disk, properties={"os_hash_algo": algorithm, "os_hash_value": digest.upper()})
    create(folder, "wrong", disk, properties={"os_hash_algo": algorithm, "os_hash_value": digest[::-1]})

    assert states(folder, "right") == (0, {"right": ("ok", None)})
    assert states(folder, "wrong") == (1, {"wrong": ("changed", f"differs from the record in {algorithm}")})


@pytest.mark.exhaustive
def test_what_cannot_be_compared_is_said_and_is_no_fault(folder, disk):
    create(folder, "bare", disk)
    create(folder, "unknown algorithm", disk, properties={"os_hash_algo": "shake_128", "os_hash_value": "00"})
    create(folder, "no location", None, checksum="0" * 32)
    create(folder, "another host", None, location="file://host/disk.raw")
    create(folder, "mirror", None, location="https://host/disk.raw")

    code, found = states(folder)

    assert code == 0
    assert {name: state for name, (state, _) in found.items()} == {
        "disk": "ok",
        "bare": "unknown",
        "unknown algorithm": "unknown",
        "no location": "no file",
        "another host": "no file",
        "mirror": "no file",
    }


@pytest.mark.exhaustive
def test_images_are_chosen_by_name_or_the_beginning_of_an_id(folder, disk):
    create(folder, "gone", disk.with_name("missing"), checksum="0" * 32)
    image_id = json.loads(folder.get("show", "disk", "--json"))["id"]

    assert states(folder, image_id[:8]) == (0, {"disk": ("ok", None)})
    assert set(states(folder, "disk", "gone", image_id)[1]) == {"disk", "gone"}
    assert folder.run("verify", "nothing")[0] == 3


@pytest.mark.exhaustive
def test_scripts_get_lines_people_a_table_and_both_the_sums(folder, disk):
    image_id = json.loads(folder.get("show", "disk", "--json"))["id"]

    assert folder.run("verify") == (0, f"ok\t{image_id}\tdisk\t{disk}\t\n", "1 ok\n")
    os.unlink(disk)
    code, shown = folder.shown("verify", columns=200)
    assert code == 1
    assert "STATE" in shown
    assert "no such file or directory" in shown
    assert "0 ok, 1 missing" in shown


@pytest.mark.exhaustive
def test_files_that_another_machine_registered_are_not_looked_for(folder, disk, start_server):
    server = start_server()
    create(folder, "theirs", "/their/disk.raw", checksum="0" * 32, properties={"scan_host": "elsewhere"})

    code, found = states(folder, "--url", server.url)

    assert code == 0
    assert found == {"disk": ("ok", None), "theirs": ("elsewhere", "registered by a scan on elsewhere")}


# The trace that a verification leaves


def verified(folder, *arguments):
    """Return {name: (state, reason)} of ``list --long`` in a pipe."""
    lines = [line.split("\t") for line in folder.get("list", "--long", *arguments).splitlines()]
    return {words[1]: (words[-3], words[-1]) for words in lines}


def record_of(folder):
    """Return the record with its ETag, its history, and everything else that a verification must not change."""
    (image,) = json.loads(folder.get("list", "--json"))
    return image, folder.get("history", image["id"], "--json")


def test_a_verification_is_kept_with_the_image_and_changes_nothing_of_it(folder, disk):
    before = record_of(folder)
    never = verified(folder)

    states(folder)
    whole = verified(folder)
    disk.unlink()
    states(folder)

    assert never == {"disk": ("", "")}
    assert whole == {"disk": ("ok", "")}
    assert verified(folder) == {"disk": ("missing", "no such file or directory")}
    assert record_of(folder) == before


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("change", "is_kept"),
    [
        (["--name", "other", "--property", "note=x", "--private"], True),
        (["--size", "1"], False),
        (["--checksum", "0" * 32], False),
        (["--property", "os_hash_value=0"], False),
        (["--location", "file:///elsewhere"], False),
    ],
)
def test_a_result_is_dropped_when_the_record_names_another_file(folder, disk, change, is_kept):
    states(folder)

    folder.get("update", "disk", *change)

    assert [*verified(folder).values()] == [("ok", "") if is_kept else ("", "")]


@pytest.mark.exhaustive
def test_a_deleted_image_has_no_result_even_when_it_is_restored(folder, disk):
    states(folder)
    image_id = folder.get("list", "--quiet").strip()

    folder.get("delete", image_id, "--yes")
    folder.get("undelete", image_id)

    assert verified(folder) == {"disk": ("", "")}


def test_only_what_was_not_verified_since_is_read(folder, disk):
    other = make_raw(disk.with_name("other.raw"))
    states(folder)
    folder.get("scan", "images")
    other.unlink()

    assert states(folder, "--stale", "1h")[1] == {"other": ("missing", "no such file or directory")}
    assert states(folder, "--stale", "1h") == (0, {})
    assert folder.run("verify", "--stale", "1h")[2] == "0 ok, 2 verified since\n"
    assert folder.run("verify")[2] == "1 ok, 1 missing\n"


def test_stale_images_are_known_in_the_local_database_only(folder, disk, start_server):
    code, _, errors = folder.run("verify", "--stale", "7d", "--url", "http://127.0.0.1:1")

    assert code == 2
    assert "--stale needs the local database, which keeps the results; omit --url." in errors


def test_a_file_that_needs_another_one_is_not_intact(folder, tmp_path):
    make(tmp_path / "base.qcow2", "qcow2")
    top = make(tmp_path / "top.qcow2", "qcow2", "backing_file=base.qcow2", "backing_fmt=qcow2")
    create(folder, "top", top, checksum=hashlib.md5(top.read_bytes()).hexdigest())

    code, found = states(folder)

    assert (code, found["top"][0]) == (1, "incomplete")
    assert found["top"][1].startswith("needs the backing file base.qcow2; flatten it with: qemu-img convert")


def test_the_pages_and_the_metrics_tell_which_images_are_not_intact(folder, disk, start_server):
    make_raw(disk.with_name("sound.raw"))
    folder.get("scan", "images")
    disk.unlink()
    states(folder)
    server = start_server(REGISTRY_SERVER_METRICS="anyone")
    image_id = folder.get("list", "--name", "disk", "--quiet").strip()

    paths = ("/ui/dashboard", "/ui/images", f"/ui/images/{image_id}", "/metrics")
    pages = {path: httpx2.get(server.url + path, trust_env=False).text for path in paths}

    badge = '<span class="status killed" title="no such file or directory">file missing</span>'
    assert pages["/ui/images"].count(badge) == 2  # one for narrow screens
    assert pages[f"/ui/images/{image_id}"].count(badge) == 1
    assert "<dt>Verified</dt><dd><strong>missing</strong>" in pages[f"/ui/images/{image_id}"]
    assert "1 image whose last verification failed" in pages["/ui/dashboard"]
    assert "whose file is missing" not in pages["/ui/dashboard"]
    assert 'registry_verified_images{state="missing"} 1.0' in pages["/metrics"]
    assert 'registry_verified_images{state="ok"} 1.0' in pages["/metrics"]


@pytest.mark.exhaustive
def test_a_killed_verification_leaves_the_results_that_it_had(folder, disk):
    states(folder)

    assert folder.run("verify", "nothing")[0] == 3
    assert verified(folder) == {"disk": ("ok", "")}
