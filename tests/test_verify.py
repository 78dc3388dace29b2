"""``verify``: whether files are still what their records say."""

import hashlib
import json
import os
import shutil

import pytest
from support.image_files import make_raw
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
