"""``scan``: what is found in folders, and what the registry then says of it."""

import fcntl
import hashlib
import json
import os
import random
import signal
import subprocess
import threading
import time

import pytest
from conftest import free_port
from support.image_files import MEBIBYTE, make, make_disk, make_raw
from support.terminals import Folder

from cli.checksums import BLOCK_BYTES, Hasher, Stopped
from cli.file_walk import walk_files
from cli.inspection import CHANGED, IMAGE, UNREADABLE, inspect_file, open_regular_file
from config import read_settings
from formatting import file_url, path_of_url

FORMATS = read_settings({}).api.disk_formats


@pytest.fixture
def folder(tmp_path):
    """On the database that servers of tests serve."""
    return Folder(tmp_path, database="sqlite:///registry.db")


@pytest.fixture
def images(tmp_path):
    """A folder beside the database."""
    path = tmp_path / "images"
    path.mkdir()
    return path


@pytest.fixture
def scan(folder):
    """A function: (exit code, {path: [word, reason]}, the summary's lines)."""

    def run(*arguments, **variables):
        code, output, errors = folder.run("scan", "images", *arguments, **variables)
        assert "Traceback" not in errors
        lines = [line.split("\t") for line in output.split("\n")[:-1]]
        told = {path: [word.removeprefix("would be "), reason] for word, _, path, _, _, reason in lines}
        return code, {path.rpartition("/images/")[2]: what for path, what in told.items()}, errors.splitlines()

    return run


def records(folder, *arguments):
    """{name of the file: record}"""
    found = json.loads(folder.get("list", "--json", *arguments))
    return {path_of_url(image["location"]).rpartition("/")[2]: image for image in found}


def digests(path):
    content = path.read_bytes()
    return hashlib.md5(content).hexdigest(), hashlib.sha512(content).hexdigest()


def test_an_image_is_registered_with_all_that_its_file_says(folder, images, scan):
    path = make(images / "debian-13-genericcloud-amd64.qcow2", "qcow2")

    assert scan()[::2] == (0, ["1 added, 0 updated, 0 unchanged"])

    image = records(folder)[path.name]
    status, (md5, sha512) = path.stat(), digests(path)
    assert {name: image[name] for name in ("name", "status", "disk_format", "container_format", "is_public")} == {
        "name": "Debian 13 genericcloud x86_64",
        "status": "active",
        "disk_format": "qcow2",
        "container_format": "bare",
        "is_public": True,
    }
    assert (image["size"], image["virtual_size"], image["min_disk"]) == (status.st_size, 8 * MEBIBYTE, 0)
    assert (image["checksum"], image["location"]) == (md5, f"file://{path}")
    assert image["properties"] == {
        "os_distro": "debian",
        "os_version": "13",
        "architecture": "x86_64",
        "os_hash_algo": "sha512",
        "os_hash_value": sha512,
        "scan_mtime_ns": str(status.st_mtime_ns),
        "scan_inode": str(status.st_ino),
    }


def test_what_a_scan_added_is_in_the_list_that_anybody_gets(scan, images, client):
    make_raw(images / "disk.raw")

    scan()

    assert [image["name"] for image in client.get("/images").json["images"]] == ["disk"]


def test_a_file_that_has_not_changed_is_not_read_again(scan, images):
    path = make_raw(images / "disk.raw")
    scan()
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"others")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    code, told, errors = scan()

    assert (code, told, errors) == (0, {}, ["0 added, 0 updated, 1 unchanged"])


def later(path, seconds=10):
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + seconds * 10**9))


def grow(path):
    before = path.stat()
    with path.open("ab") as file:
        file.write(bytes(512))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def write_over(path):
    with path.open("r+b") as file:
        file.write(b"others")
    later(path)


def replace(path):
    before = path.stat()
    other = make_raw(path.with_name("other"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("change", [grow, write_over, replace])
def test_a_file_of_another_size_time_or_inode_is_read_and_its_record_updated(folder, scan, images, change):
    path = make_raw(images / "disk.raw")
    scan()
    image_id = folder.get("list", "--quiet").strip()
    folder.get("update", image_id, "--name", "mine", "--property", "os_distro=debian", "--private")

    change(path)
    code, told, _ = scan()

    assert (code, told["disk.raw"][0]) == (0, "updated")
    image = records(folder)["disk.raw"]
    assert (image["id"], image["size"]) == (image_id, path.stat().st_size)
    assert (image["checksum"], image["properties"]["os_hash_value"]) == digests(path)
    # What somebody said by hand stays.
    assert (image["name"], image["is_public"], image["properties"]["os_distro"]) == ("mine", False, "debian")
    assert scan()[2] == ["0 added, 0 updated, 1 unchanged"]


@pytest.mark.exhaustive
def test_a_file_that_was_only_touched_is_unchanged_and_not_read_a_third_time(folder, scan, images):
    path = make_raw(images / "disk.raw")
    scan()
    later(path)

    assert scan()[1:] == ({}, ["0 added, 0 updated, 1 unchanged"])
    assert records(folder)["disk.raw"]["properties"]["scan_mtime_ns"] == str(path.stat().st_mtime_ns)


@pytest.mark.exhaustive
def test_a_file_that_moved_keeps_its_record(folder, scan, images):
    path = make_raw(images / "disk.raw")
    scan()
    (image_id,) = (image["id"] for image in records(folder).values())
    (images / "below").mkdir()
    path.rename(images / "below" / "other.raw")

    told = scan()[1]

    assert told == {"below/other.raw": ["updated", f"moved from {path}"]}
    image = records(folder)["other.raw"]
    assert (image["id"], image["location"]) == (image_id, f"file://{images}/below/other.raw")


@pytest.mark.exhaustive
def test_a_file_that_is_gone_is_told_and_marked_only_on_request(folder, scan, images):
    path = make_raw(images / "disk.raw")
    scan()
    kept = path.rename(images.parent / "kept")

    assert scan()[1]["disk.raw"][0] == "missing"
    assert records(folder)["disk.raw"]["status"] == "active"
    assert scan("--mark-missing")[1]["disk.raw"] == ["missing", "image deactivated"]
    assert records(folder)["disk.raw"]["status"] == "deactivated"

    kept.rename(path)
    assert scan()[1]["disk.raw"][0] == "updated"
    image = records(folder)["disk.raw"]
    assert (image["status"], "scan_missing" in image["properties"]) == ("active", False)


def test_only_what_was_below_the_paths_can_be_missing(folder, scan, images):
    other = make_raw(images.parent / "imagesque.raw")
    folder.get("scan", other)
    other.unlink()

    assert scan()[1] == {}


def test_a_dry_run_says_what_would_be_done_and_does_nothing(folder, scan, images):
    make(images / "top.qcow2", "qcow2")
    changed, gone = make_raw(images / "changed.raw"), make_raw(images / "gone.raw")
    scan()
    before = folder.get("list", "--json")
    grow(changed)
    gone.unlink()
    make_raw(images / "new.raw")

    code, output, _ = folder.run("scan", "images", "--dry-run", "--mark-missing")

    assert code == 0
    told = {words[2]: [words[0], *words[3:]] for words in (line.split("\t") for line in output.splitlines())}
    assert told[f"{images}/new.raw"] == ["would be added", "raw", "new", ""]
    assert told[str(changed)] == ["would be updated", "raw", "changed", ""]
    assert told[str(gone)][0] == "missing"
    assert folder.get("list", "--json") == before


ODD_NAMES = [b"caf\xe9 \xff.raw", "größe %41 #?;&.raw".encode(), b"new\nline \x1b[31m.raw", b"'quoted' \"name\".raw"]


@pytest.mark.exhaustive
def test_names_of_odd_bytes_are_registered_found_again_and_shown_tamely(folder, scan, images):
    for name in ODD_NAMES:
        make_raw(images / os.fsdecode(name))

    code, output, errors = folder.run("scan", "images")

    assert (code, errors.strip()) == (0, "4 added, 0 updated, 0 unchanged")
    assert "\x1b" not in output
    found = json.loads(folder.get("list", "--json"))
    assert {os.fsencode(path_of_url(image["location"])).rpartition(b"/")[2] for image in found} == set(ODD_NAMES)
    assert scan()[2] == ["0 added, 0 updated, 4 unchanged"]
    assert folder.run("verify")[::2] == (0, "4 ok\n")


@pytest.mark.parametrize("url", ["file://host/a", "https://host/a", "file:///a%00b", "file:a", "http://[", "file://"])
def test_a_url_that_is_no_file_here_is_no_path(url):
    assert path_of_url(url) is None


def test_a_path_is_its_url_again():
    for seed in range(200):
        path = os.fsdecode(b"/" + random.Random(seed).randbytes(20).replace(b"\0", b"/"))
        assert path_of_url(file_url(path)) == path
        assert file_url(path).isascii()


def test_each_file_and_folder_counts_once_whatever_leads_to_it(scan, images, tmp_path):
    path = make_raw(images / "b.raw")
    (images / "a-link.raw").symlink_to("b.raw")
    (images / "c-hard.raw").hardlink_to(path)
    (images / "loop").symlink_to(".")
    outside = tmp_path / "outside"
    outside.mkdir()
    make_raw(outside / "far.raw")
    (images / "outside").symlink_to(outside)

    code, told, errors = scan("--verbose")

    assert (code, errors) == (0, ["2 added, 0 updated, 0 unchanged, 2 other files"])
    assert {name: word for name, (word, _) in told.items()} == {
        "a-link.raw": "none",
        "b.raw": "added",
        "c-hard.raw": "none",
        "outside/far.raw": "added",
    }
    assert scan()[1:] == ({}, ["0 added, 0 updated, 2 unchanged, 2 other files"])


@pytest.mark.exhaustive
def test_a_file_that_is_registered_is_not_registered_again_under_what_links_to_it(folder, images, scan, tmp_path):
    for name in ("store", "hard"):
        (tmp_path / name).mkdir()
    path = make_raw(tmp_path / "store" / "a.raw")
    (images / "soft.raw").symlink_to(path)
    (images / "up").symlink_to("../store")
    make_raw(images / "b.raw")
    (tmp_path / "hard" / "c.raw").hardlink_to(path)
    folder.get("scan", "store")
    folder.get("create", "--file", images / "b.raw")
    (tmp_path / "store" / "images").symlink_to(images)

    assert [scan()[2], folder.run("scan", "hard")[2], folder.run("scan", "store")[2]] == [
        ["0 added, 0 updated, 2 unchanged, 1 other file"],
        "0 added, 0 updated, 1 unchanged\n",
        "0 added, 0 updated, 2 unchanged, 1 other file\n",
    ]
    grow(path)
    assert [word for word, _ in folder_told(folder, "scan", "hard")] == ["updated"]
    assert set(records(folder)) == {"a.raw", "b.raw"}


def folder_told(folder, *arguments):
    """[(word, path)]"""
    return [tuple(line.split("\t")[:3:2]) for line in folder.get(*arguments).splitlines()]


def test_a_file_that_is_named_is_told_of_whatever_it_is(folder, images):
    path = images / "notes.txt"
    path.write_text("no image")

    code, output, errors = folder.run("scan", path)

    assert (code, errors) == (0, "0 added, 0 updated, 0 unchanged, 1 other file\n")
    assert output == f"none\t\t{path}\t\t\tis text\n"


def test_no_name_speaks_to_the_terminal_and_none_forges_a_line(folder, images):
    for number, name in enumerate(["esc\x1b[31mred.raw", "new\nline.raw", "a\ttab.raw"]):
        make_raw(images / name, 4096 + 512 * number)

    shown = folder.get("scan", "images", FORCE_COLOR="1", NO_COLOR="1")

    lines = sorted(shown.splitlines())
    assert "\x1b" not in shown
    assert [line.rpartition(": ")[2] for line in lines] == [r"raw, a\ttab", r"raw, esc\x1b[31mred", r"raw, new\nline"]
    assert all(len(line.split("\t")) == 6 for line in folder.get("scan", "images", "--verbose").splitlines())


def test_files_of_the_same_content_are_told_of_in_few_words(folder, images, scan):
    for number in range(25):
        (images / f"{number:02}.raw").write_bytes(bytes([0, 100]) * 256)
        for letter in "ab":
            (images / f"{letter}{number:02}.raw").write_bytes(bytes([0, number]) * 256)

    lines = scan()[2][1:]

    assert len(lines) == 21
    assert lines[0].endswith("19.raw, and 5 more")
    assert lines[-1] == "identical content: 6 more groups of files"


def test_pipes_sockets_and_what_leads_nowhere_hold_nothing_up(scan, images):
    os.mkfifo(images / "pipe.raw")
    (images / "nowhere.raw").symlink_to("missing")
    (images / "self.raw").symlink_to("self.raw")
    (images / "device.raw").symlink_to("/dev/zero")
    make_raw(images / "disk.raw")

    code, told, _ = scan()

    assert code == 0
    assert told["disk.raw"][0] == "added"
    assert told["nowhere.raw"] == told["self.raw"] == ["skipped", "is a broken symbolic link"]


def test_a_folder_that_cannot_be_read_is_told_and_the_others_are_scanned(scan, images):
    if os.geteuid() == 0:
        pytest.skip("the superuser reads every folder")
    make_raw(images / "disk.raw")
    (images / "closed").mkdir(mode=0)

    code, told, _ = scan()

    assert (code, told["closed"][0], told["disk.raw"][0]) == (1, "failed", "added")


def test_what_is_refused_or_skipped_says_why_and_only_refusals_fail(scan, images):
    base = make(images / "base.qcow2", "qcow2")
    make(images / "disk.vhdx", "vhdx")
    (images / "README.txt").write_text("no image")
    assert scan()[::2] == (0, ["1 added, 0 updated, 0 unchanged, 1 skipped, 1 other file"])
    make(images / "top.qcow2", "qcow2", f"backing_file={base}", "backing_fmt=qcow2")

    code, told, errors = scan()

    assert (code, errors) == (1, ["0 added, 0 updated, 1 unchanged, 1 skipped, 1 refused, 1 other file"])
    assert told["disk.vhdx"] == ["skipped", "has format vhdx, which [api] disk_formats does not list"]
    assert told["top.qcow2"][0] == "refused"
    assert f"needs the backing file {base}; flatten it with: qemu-img convert" in told["top.qcow2"][1]


def test_a_registered_file_that_is_no_image_any_more_is_refused(scan, images):
    path = make(images / "disk.qcow2", "qcow2")
    scan()
    path.write_text("no image")

    code, told, _ = scan()

    assert (code, told["disk.qcow2"]) == (1, ["refused", "is registered as qcow2, but is text"])


def test_formats_that_are_configured_are_registered(folder, scan, images):
    make(images / "disk.vhdx", "vhdx")

    assert scan(REGISTRY_API_DISK_FORMATS="raw,qcow2,vhdx")[1]["disk.vhdx"][0] == "added"
    assert records(folder)["disk.vhdx"]["disk_format"] == "vhdx"


def test_files_of_the_same_content_are_told(scan, images):
    path = make_raw(images / "a.raw")
    (images / "b.raw").write_bytes(path.read_bytes())
    make_raw(images / "c.raw")

    assert scan()[2][1:] == [f"identical content: {images}/a.raw, {images}/b.raw"]
    assert scan()[2][1:] == [f"identical content: {images}/a.raw, {images}/b.raw"]


def test_a_path_that_is_not_there_is_wrong_usage(folder):
    code, output, errors = folder.run("scan", "missing")

    assert (code, output) == (2, "")
    assert "'missing' does not exist" in errors


# Against a server


@pytest.mark.exhaustive
def test_a_server_gets_the_same_records_and_the_name_of_the_machine(folder, scan, images, start_server):
    server = start_server()
    path = make_raw(images / "disk.raw")

    assert scan("--url", server.url)[1]["disk.raw"][0] == "added"
    assert scan("--url", server.url)[2] == ["0 added, 0 updated, 1 unchanged"]

    image = server.request("GET", "/images/detail")[2]["images"][0]
    assert (image["location"], image["checksum"]) == (f"file://{path}", digests(path)[0])
    # Another machine's file of this name is not ours, neither unchanged nor missing.
    change = {"image": {"properties": {"scan_host": "elsewhere"}}}
    assert server.request("PUT", f"/images/{image['id']}", change)[0] == 200
    assert scan("--url", server.url)[1]["disk.raw"][0] == "added"
    path.unlink()
    code, told, errors = scan("--url", server.url)
    assert (code, told["disk.raw"][0], errors) == (0, "missing", ["0 added, 0 updated, 0 unchanged, 1 missing"])


@pytest.fixture
def token_server(run, start_server):
    """A function: (server, token) of a caller with a role."""
    server = start_server(auth__flavor="token")

    def make_token(role):
        code, output, errors = run("token", "create", "--tenant", "acme", "--role", role)
        assert code == 0, errors
        return server, output.decode().strip()

    return make_token


@pytest.mark.exhaustive
def test_who_is_no_admin_is_told_what_to_do(scan, images, token_server):
    make_raw(images / "disk.raw")
    server, token = token_server("member")

    code, told, errors = scan("--url", server.url, "--token", token)

    assert (code, told) == (1, {})
    assert "accepts file: locations only from admins. Use the token of an admin" in errors[-1]


@pytest.mark.exhaustive
def test_an_admins_token_adds_private_images_unless_told_otherwise(images, scan, folder, token_server):
    server, token = token_server("admin")
    make_raw(images / "disk.raw")
    scan("--url", server.url, "--token", token)
    make_raw(images / "open.raw")
    scan("--public", REGISTRY_URL=server.url, REGISTRY_TOKEN=token)

    found = records(folder, "--url", server.url, "--token", token)
    assert {name: image["is_public"] for name, image in found.items()} == {"disk.raw": False, "open.raw": True}


def test_a_server_that_is_not_there_ends_the_scan(scan, images):
    make_raw(images / "disk.raw")

    code, told, errors = scan("--url", f"http://127.0.0.1:{free_port()}")

    assert (code, told) == (5, {})
    assert "cannot be reached" in errors[-1]


# On a terminal, and watching


@pytest.mark.exhaustive
def test_a_terminal_sees_bars_and_a_pipe_does_not(folder, images):
    make_disk(images / "large.img", b"x", 200 * MEBIBYTE)

    code, shown = folder.shown("scan", "images")

    assert code == 0
    assert "/200.0 MiB" in shown
    assert "large.img" in shown
    assert "MiB/s" in shown
    (images / "large.img").touch()
    assert "\x1b" not in "".join(map(str, folder.run("scan", "images")))


@pytest.fixture
def started(folder):
    """A function: a scan that runs on, ended at last."""
    processes = []

    def start(*arguments):
        command = [folder.launcher, "scan", "images", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        variables = folder.variables | {"PYTHONUNBUFFERED": "1"}
        processes.append(subprocess.Popen(command, cwd=folder.path, env=variables, **pipes))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def added(process):
    """The path on the next line of a scan that runs."""
    word, _, path, *_ = process.stdout.readline().split("\t")
    assert word == "added"
    return path


@pytest.mark.exhaustive
def test_watching_outlives_a_server_that_is_gone_for_a_while(images, started, start_server):
    server = start_server()
    make_raw(images / "first.raw")
    process = started("--watch", "--interval", "0.2", "--url", server.url)
    assert process.stderr.readline().startswith("watching")
    assert added(process) == f"{images}/first.raw"

    assert server.stop()
    make_raw(images / "second.raw")
    assert process.stderr.readline().endswith(" Files will be registered once it answers.\n")
    again = start_server(port=server.port)
    assert added(process) == f"{images}/second.raw"

    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert (process.returncode, errors) == (0, "stopped\n2 added, 0 updated, 0 unchanged\n")
    assert again.request("GET", "/images")[0] == 200


def test_watching_registers_a_file_when_it_has_stopped_changing(folder, images, started):
    there = make_raw(images / "there.raw")
    slow, is_over = images / "slow.raw", threading.Event()
    process = started("--watch", "--interval", "1")
    assert added(process) == str(there)

    def write():
        with slow.open("wb") as file:
            while not is_over.is_set():
                os.pwrite(file.fileno(), os.urandom(4096), 0)
                time.sleep(0.001)
            file.write(os.urandom(16 * 1024))

    writer = threading.Thread(target=write)
    writer.start()
    make_raw(images / "quick.raw")
    first = added(process)  # it comes while the other one still changes
    is_over.set()
    writer.join()
    second = added(process)
    there.unlink()
    third = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)

    assert (first, second) == (f"{images}/quick.raw", str(slow))
    assert third.split("\t")[::2][:2] == ["missing", str(there)]
    assert (process.returncode, output) == (0, "")
    assert errors.splitlines()[-2:] == ["stopped", "3 added, 0 updated, 0 unchanged, 1 missing"]
    assert folder.run("verify")[2] == "2 ok, 1 missing\n"


@pytest.mark.exhaustive
def test_a_scan_waits_for_another_one_and_then_sees_what_that_registered(folder, images, started):
    path = make_raw(images / "a.raw")
    other = os.open(folder.path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    process = started()
    assert process.stderr.readline() == "waiting for another scan or sync to end; press Ctrl-C to cancel\n"

    folder.get("create", "a", "--file", path)
    os.close(other)
    output, errors = process.communicate(timeout=60)

    assert (process.returncode, output) == (0, "")
    assert errors == "0 added, 0 updated, 1 unchanged\n"


def test_what_only_looks_waits_for_nobody(folder, images, scan):
    make_raw(images / "a.raw")
    folder.run("import", "-", content="")  # a dry run makes no database
    other = os.open(folder.path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)

    code, told, _ = scan("--dry-run")
    os.close(other)

    assert (code, told) == (0, {"a.raw": ["added", ""]})


@pytest.mark.exhaustive
def test_ctrl_c_ends_a_scan_at_once_and_what_was_registered_stays(folder, images, started):
    make_raw(images / "a.raw")
    make_disk(images / "b.img", b"x", 1024 * 1024 * MEBIBYTE)
    process = started()
    assert process.stdout.readline().startswith("added")

    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)

    assert (process.returncode, output) == (1, "")
    assert errors.strip() == "Aborted!"
    assert set(records(folder)) == {"a.raw"}


# Reading


@pytest.fixture
def hasher():
    made = Hasher(2)
    yield made
    made.stop()


LENGTHS = [1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 4 * BLOCK_BYTES, 5 * BLOCK_BYTES + 3, 9 * BLOCK_BYTES]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("is_sparse", [False, True])
def test_checksums_are_those_of_the_content_holes_included(tmp_path, hasher, length, is_sparse):
    path = make_disk(tmp_path / "disk", os.urandom(0 if is_sparse else length), length)
    if is_sparse:
        with path.open("r+b") as file:
            for place in range(0, length, 2 * BLOCK_BYTES + 4096):
                file.seek(place)
                file.write(os.urandom(min(4096, length - place)))
    told = []

    with open_regular_file(path) as (file, _):
        found, count = hasher.hash_file(file, length, advance=told.append)

    assert (found["md5"], found["sha512"]) == digests(path)
    assert count == sum(told) == length


def append(path):
    with path.open("ab") as file:
        file.write(bytes(512))


def put_another_there(path):
    make_raw(path.with_name("other"), path.stat().st_size).replace(path)


@pytest.mark.parametrize("change", [append, write_over, put_another_there, os.unlink])
@pytest.mark.parametrize("size", [BLOCK_BYTES, 8 * BLOCK_BYTES])
def test_a_file_that_changes_while_it_is_read_is_not_taken(tmp_path, hasher, change, size):
    path = make_raw(tmp_path / "disk.raw", size)
    waiting = [change]

    def advance(count):
        if waiting:
            waiting.pop()(path)

    assert inspect_file(str(path), FORMATS, hasher).verdict == IMAGE
    assert inspect_file(str(path), FORMATS, hasher, advance=advance).verdict in (CHANGED, UNREADABLE)


def test_a_hasher_that_is_stopped_reads_no_further(tmp_path, hasher):
    path = make_disk(tmp_path / "disk.img", b"x", 1024 * 1024 * MEBIBYTE)

    def advance(count):
        hasher.is_stopped.set()

    with pytest.raises(Stopped):
        inspect_file(str(path), FORMATS, hasher, advance=advance)


def test_a_walk_finds_thousands_of_files_in_the_order_of_their_paths(tmp_path):
    for number in range(2000):
        (tmp_path / f"{number % 40:02}").mkdir(exist_ok=True)
        (tmp_path / f"{number % 40:02}" / f"{number}").touch()

    paths = [entry.path for entry in walk_files([str(tmp_path)]).entries]

    assert len(paths) == 2000
    assert paths == sorted(paths)


# Records over time: replaced, moved, rotated


def test_a_registered_file_that_is_replaced_by_no_image_is_marked_and_keeps_its_facts(folder, scan, images):
    path = make(images / "disk.img", "qcow2")
    whole = path.read_bytes()
    scan()
    before = records(folder)["disk.img"]

    for content, problem in ((b"<html>", "is an HTML or XML page"), (os.urandom(4096), "has no known image format")):
        path.write_bytes(content)
        code, told, _ = scan()
        marked = records(folder)["disk.img"]
        assert (code, told["disk.img"][0]) == (1, "refused")
        assert told["disk.img"][1].startswith(f"is registered as qcow2, but {problem}")
        assert marked["properties"].pop("scan_problem").startswith(problem)
        assert marked | {"updated_at": before["updated_at"]} == before
    path.write_bytes(whole)

    assert scan()[:2] == (0, {})
    assert "scan_problem" not in records(folder)["disk.img"]["properties"]


def test_a_file_that_was_registered_as_raw_on_purpose_stays_registered(folder, scan, images):
    path = images / "firmware.img"
    path.write_text("text, but to be served as it is")
    folder.get("create", "--file", path, "--disk-format", "raw")

    assert scan()[:2] == (0, {})
    assert "scan_problem" not in records(folder)["firmware.img"]["properties"]
    assert scan()[2] == ["0 added, 0 updated, 1 unchanged"]


def test_files_whose_names_promise_an_image_are_named_with_the_reason(scan, images):
    (images / "empty.qcow2").touch()
    (images / "page.vmdk").write_text("<!DOCTYPE html>")
    (images / "card.img.xz").write_bytes(b"\xfd7zXZ\0packed")
    (images / "notes.txt").write_text("notes")
    (images / "archive.zip").write_bytes(b"PK\3\4")

    code, told, errors = scan()

    assert told == {
        "empty.qcow2": ["skipped", "is empty"],
        "page.vmdk": ["skipped", "is an HTML or XML page; a download may have failed"],
        "card.img.xz": ["skipped", "is packed with xz; unpack it first"],
    }
    assert (code, errors) == (0, ["0 added, 0 updated, 0 unchanged, 3 skipped, 2 other files"])


@pytest.mark.exhaustive
def test_an_encrypted_image_is_told_and_its_property_goes_when_it_is_replaced(folder, scan, images):
    path = make(images / "disk.qcow2", "qcow2")
    plain = path.read_bytes()
    path.write_bytes(plain[:32] + b"\0\0\0\2" + plain[36:])

    assert scan()[1] == {"disk.qcow2": ["added", "encrypted (luks)"]}
    assert records(folder)["disk.qcow2"]["properties"]["encryption_format"] == "luks"
    path.write_bytes(plain)
    assert scan()[1]["disk.qcow2"][0] == "updated"
    assert "encryption_format" not in records(folder)["disk.qcow2"]["properties"]


def by_rename(old, new):
    old.rename(new)


def by_copy(old, new):
    new.write_bytes(old.read_bytes())


@pytest.mark.parametrize("keep", [by_rename, by_copy])
def test_in_a_rotation_the_record_follows_its_content(folder, scan, images, keep):
    current, previous = images / "current.raw", images / "previous.raw"
    make_raw(current)
    scan()
    folder.get("update", "current", "--property", "ticket=4711")
    before = records(folder)["current.raw"]

    keep(current, previous)
    make_raw(current)
    code, told, _ = scan()

    after = records(folder)
    assert (code, told["previous.raw"]) == (0, ["updated", f"moved from {current}"])
    assert told["current.raw"][0] == "added"
    assert [after["previous.raw"][name] for name in ("id", "checksum")] == [before[name] for name in ("id", "checksum")]
    assert after["previous.raw"]["properties"]["ticket"] == "4711"
    assert "ticket" not in after["current.raw"]["properties"]
    assert scan()[1] == {}


def test_a_file_that_is_renamed_over_a_registered_one_leaves_one_record_at_its_path(folder, scan, images):
    first, second = make_raw(images / "first.raw"), make_raw(images / "second.raw")
    scan()
    before = records(folder)

    first.rename(second)
    _, told, _ = scan()

    after = records(folder)
    assert {name: words[0] for name, words in told.items()} == {"first.raw": "missing", "second.raw": "updated"}
    assert {name: image["id"] for name, image in after.items()} == {name: image["id"] for name, image in before.items()}
    assert after["second.raw"]["checksum"] == before["first.raw"]["checksum"]


@pytest.mark.exhaustive
def test_a_rotation_of_several_files_moves_every_record(folder, scan, images):
    names = ["0.raw", "1.raw", "2.raw"]
    for name in names:
        make_raw(images / name)
    scan()
    before = records(folder)

    for number in (2, 1, 0):
        (images / f"{number}.raw").rename(images / f"{number + 1}.raw")
    make_raw(images / "0.raw")
    scan()

    after = records(folder)
    assert [after[f"{number + 1}.raw"]["id"] for number in range(3)] == [before[name]["id"] for name in names]
    assert [after[f"{number + 1}.raw"]["checksum"] for number in range(3)] == [
        before[name]["checksum"] for name in names
    ]
    assert len(after) == 4


@pytest.mark.exhaustive
def test_two_files_that_swap_their_names_swap_no_records(folder, scan, images):
    for name in ("a.raw", "b.raw"):
        make_raw(images / name)
    scan()
    before = records(folder)

    (images / "a.raw").rename(images / "c.raw")
    (images / "b.raw").rename(images / "a.raw")
    (images / "c.raw").rename(images / "b.raw")
    scan()

    after = records(folder)
    assert (after["a.raw"]["id"], after["b.raw"]["id"]) == (before["b.raw"]["id"], before["a.raw"]["id"])
    assert after["a.raw"]["checksum"] == before["b.raw"]["checksum"]


@pytest.mark.exhaustive
def test_a_file_that_was_moved_to_another_file_system_keeps_its_record(folder, scan, images):
    path = make_raw(images / "disk.raw")
    scan()
    before = records(folder)["disk.raw"]["id"]

    (images / "moved.raw").write_bytes(path.read_bytes())
    path.unlink()

    assert scan()[1] == {"moved.raw": ["updated", f"moved from {path}"]}
    assert records(folder)["moved.raw"]["id"] == before


@pytest.mark.exhaustive
def test_a_copy_of_a_file_that_stays_is_another_image(folder, scan, images):
    path = make_raw(images / "disk.raw")
    scan()

    (images / "copy.raw").write_bytes(path.read_bytes())
    path.touch()

    assert scan()[1] == {"copy.raw": ["added", ""]}
    assert len(records(folder)) == 2
