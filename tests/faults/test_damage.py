"""A damaged database is never served as if it were whole: it is refused at start, or answered with 503."""

import os
import random
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from conftest import FLASK, IMAGE, Server, clean_environment, environment
from test_cli import on_terminal

from faults.conftest import rounds
from faults.servers import BrokenServer
from storage import search_index, wal

PAGE = 4096
ROUNDS = rounds(6, 200)
SEED = int(os.environ.get("TORTURE_SEED", "20261125"))
QUERIES = (
    *("?limit=7", "?limit=7&sort_key=name&sort_dir=asc", "?sort_key=size", "?sort_key=updated_at", "?name=image%203"),
    *("?property-os=linux", "?property-text=" + "x" * 6000, "?size_min=5", "?deleted=true", "?min_ram=64"),
    *("?checksum=" + "3" * 32, "?disk_format=raw", "?changes-since=2020-01-01", "?is_public=false"),
    *("?q=image", "?q=linux%20image%203", "?q=im&sort_key=name&count=true", "?q=xxxxxxxxxx&count=true", "?q=nothing"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(bytes of a database with long texts and properties, {path: answer} of all that is asked of it)"""
    path = tmp_path_factory.mktemp("whole") / "registry.db"
    server = Server(path).wait_until_ready()
    try:
        ids = [make_image(server, number) for number in range(40)]
        paths = [f"/images{part}{query}" for part in ("", "/detail") for query in QUERIES]
        paths += [f"/images/{image_id}{part}" for image_id in ids for part in ("", "/members", "/history")]
        paths += ["/shared-images/friend"]
        answers = {path: ask(server, path) for path in paths}
        assert {status for status, _ in answers.values()} == {200}
    finally:
        server.stop()
    with closing(sqlite3.connect(path)) as connection:
        for statement in (search_index.INDEX, search_index.MARK):
            connection.execute(statement)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes(), answers


def make_image(server, number):
    long = {"text": "x" * 6000, "random": random.Random(number).randbytes(4000).hex()}
    fields = {
        "name": f"image {number}",
        "size": number,
        "min_ram": 64 * (number % 2),
        "checksum": str(number % 10) * 32,
    }
    fields |= {"is_public": number % 3 > 0, "owner": f"tenant {number % 4}", "locations": [f"file:///{number}"]}
    fields |= {"disk_format": "raw"} if number % 2 else {}
    body = {"image": {**IMAGE, **fields, "properties": {"os": "linux", **(long if number % 4 == 0 else {})}}}
    image_id = server.request("POST", "/images", body)[2]["image"]["id"]
    assert server.request("PUT", f"/images/{image_id}/members/friend")[0] == 204
    if number % 7 == 0:
        assert server.request("DELETE", f"/images/{image_id}")[0] == 200
    return image_id


def ask(server, path):
    status, headers, body = server.request("GET", path)
    assert status != 503 or headers["Content-Type"] == "application/problem+json"
    return status, body


def overwrite(content, chance, make_page):
    """Some pages, but the first, are others."""
    pages = [content[start : start + PAGE] for start in range(0, len(content), PAGE)]
    for number in chance.sample(range(1, len(pages)), chance.choice([1, 1, 2, 5])):
        pages[number] = make_page(pages)
    return b"".join(pages)


def cut(content, chance):
    return content[: chance.randrange(1, len(content))]


def zero_pages(content, chance):
    return overwrite(content, chance, lambda pages: bytes(PAGE))


def fill_pages(content, chance):
    return overwrite(content, chance, lambda pages: chance.randbytes(PAGE))


def misplace_pages(content, chance):
    return overwrite(content, chance, chance.choice)


def zero_sectors(content, chance):
    """512 bytes each, as a torn write leaves them."""
    damaged = bytearray(content)
    for _ in range(chance.choice([1, 3])):
        start = chance.randrange(PAGE // 512, len(content) // 512) * 512
        damaged[start : start + 512] = bytes(512)
    return bytes(damaged)


def flip_bits(content, chance):
    damaged = bytearray(content)
    for _ in range(chance.choice([1, 1, 8, 64])):
        damaged[chance.randrange(100, len(content))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


KINDS = (cut, zero_pages, fill_pages, misplace_pages, zero_sectors, flip_bits)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_damaged_database_is_refused_or_answered_rightly_or_with_503(whole, tmp_path, number):
    content, answers = whole
    chance, path = random.Random(f"{SEED} {number}"), tmp_path / "registry.db"
    damaged = KINDS[number % len(KINDS)](content, chance)
    path.write_bytes(damaged)
    server = Server(path)

    try:
        server.wait_until_ready()
        wrong = [path for path, answer in answers.items() if (found := ask(server, path)) != answer and found[0] != 503]
    except AssertionError as error:
        printed = str(error).removeprefix("the server did not answer: ")
        assert re.fullmatch(r"(\[.*Starting gunicorn .*\n)?registry: \[database\] connection = .*\n", printed)
        return
    finally:
        server.stop()

    assert wrong == []


@pytest.mark.exhaustive
def test_the_whole_one_is_answered_rightly(whole, tmp_path):
    content, answers = whole
    (tmp_path / "registry.db").write_bytes(content)
    server = Server(tmp_path / "registry.db").wait_until_ready()

    try:
        assert {path: ask(server, path) for path in answers} == answers
    finally:
        server.stop()


# The write-ahead log: what was acknowledged last stands there alone.


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """({name: bytes} of what a server leaves that was killed, the ids of the images it had acknowledged)"""
    path = tmp_path_factory.mktemp("killed") / "registry.db"
    server = BrokenServer(path).wait_until_ready()
    try:
        ids = [server.request("POST", "/images", {"image": IMAGE})[2]["image"]["id"] for _ in range(30)]
    finally:
        server.kill()
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}, ids


@pytest.fixture
def leave(killed, database_path):
    """A function: those files, with this log, and with the ``-shm`` file or without; their content, to compare."""

    def write(log, *, with_index):
        files = {**killed[0], "registry.db-wal": log}
        for name, content in files.items():
            if with_index or name != "registry.db-shm":
                database_path.with_name(name).write_bytes(content)
        return content_of(database_path.parent)

    return write


def content_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def zeroed(content, start, size):
    return content[:start] + bytes(size) + content[start + size :]


def started(path):
    """(whether a server answers, what it printed)"""
    server = Server(path)
    try:
        server.wait_until_ready()
    except AssertionError as error:
        return False, str(error)
    return True, server.stop()


FRAME = 24 + PAGE
# What is done to the log, and whether that is told without the -shm file, which counts the frames.
DAMAGED_LOGS = {
    "a bit in the middle": (lambda log: flipped(log, len(log) // 2), True),
    "a bit of the first frame's salts": (lambda log: flipped(log, 32 + 8), True),
    "a bit of a frame's checksum": (lambda log: flipped(log, 32 + 5 * FRAME + 16), True),
    "a sector in the middle": (lambda log: log[:51200] + log[61440:61952] + log[51712:], True),
    "a page in the middle": (lambda log: zeroed(log, 32 + 20 * FRAME, FRAME), True),
    "half cut off": (lambda log: log[: len(log) // 2], False),
    "a byte cut off": (lambda log: log[:-1], False),
    "a bit of the last frame": (lambda log: flipped(log, len(log) - 100), False),
}
CASES = [
    pytest.param(damage, with_index, id=f"{name}, {'with' if with_index else 'without'} -shm")
    for name, (damage, is_told_by_log) in DAMAGED_LOGS.items()
    for with_index in ([True, False] if is_told_by_log else [True])
]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("damage", "with_index"), CASES)
def test_a_damaged_log_is_told_and_refused(killed, leave, run, database_path, damage, with_index):
    before = leave(damage(killed[0]["registry.db-wal"]), with_index=with_index)

    code, output, _ = run("check")
    is_served, printed = started(database_path)

    assert (code, is_served) == (1, False)
    assert "is damaged: what was committed is missing in its log, registry.db-wal, from byte " in output.decode()
    assert re.search(r"^registry: \[database\] connection = .*docs/operations.md says how to go on", printed, re.M)
    assert content_of(database_path.parent) == before, "whoever opens it ends the log, and then nothing tells"


@pytest.mark.exhaustive
def test_no_command_ends_a_damaged_log_until_somebody_goes_on_without_the_rest(
    killed, leave, run, database_path, tmp_path
):
    before = leave(flipped(killed[0]["registry.db-wal"], 200_000), with_index=True)
    commands = [("backup", tmp_path / "elsewhere.db"), ("list",), ("export", "-"), ("token", "list"), ("doctor",)]

    assert {run(*command)[0] for command in commands} <= {1, 3, 4, 5}
    assert run("restore", database_path, database=tmp_path / "new.db")[0] == 1
    assert content_of(database_path.parent) == before

    with closing(sqlite3.connect(database_path)) as connection:  # as docs/operations.md says
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert run("check")[0] == 0
    assert started(database_path)[0]


@pytest.mark.exhaustive
@pytest.mark.parametrize("with_index", [True, False])
def test_a_log_left_by_a_kill_is_taken(killed, leave, run, with_index):
    leave(killed[0]["registry.db-wal"], with_index=with_index)

    assert run("check") == (0, b"", "checked 30 images: no faults\n")


@pytest.mark.parametrize("number", range(rounds(3, 200)))
def test_a_bit_anywhere_in_a_log_that_the_index_counts_is_told(killed, leave, database_path, number):
    log, chance = killed[0]["registry.db-wal"], random.Random(f"{SEED} {number}")

    leave(flipped(log, chance.randrange(len(log))), with_index=True)

    assert wal.log_fault(database_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("damage", [lambda log: log[: len(log) // 2], lambda log: flipped(log, len(log) - 100)])
def test_a_damaged_end_without_index_is_what_a_loss_of_power_leaves(killed, leave, run, database_path, damage):
    leave(damage(killed[0]["registry.db-wal"]), with_index=False)

    assert run("check")[0] == 0
    with closing(sqlite3.connect(database_path)) as connection:
        kept = [image_id for (image_id,) in connection.execute("SELECT id FROM image ORDER BY pk")]
    assert kept == killed[1][: len(kept)]


def test_to_look_at_a_damaged_log_on_a_terminal_does_not_end_it(killed, leave, database_path):
    before = leave(flipped(killed[0]["registry.db-wal"], 9000), with_index=True)

    with pytest.raises(AssertionError, match="1 fault in 0 images"):  # its exit code is 1
        on_terminal([*FLASK, "check"], {**clean_environment(), **environment(database_path), "TERM": "xterm"})

    assert content_of(database_path.parent) == before


def test_a_log_whose_commits_were_synced_together_may_break_off_anywhere(killed, leave, run, database_path):
    leave(zeroed(killed[0]["registry.db-wal"], 32 + 20 * FRAME, FRAME), with_index=False)
    mark = database_path.with_name("registry.db-unsynced")

    mark.touch()  # as a scan leaves it that the loss of power has ended

    assert run("check")[0] == 0
    (database_path.parent / "images").mkdir()
    assert run("scan", database_path.parent / "images")[0] == 0
    assert not mark.exists()


WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA wal_autocheckpoint = 20")
while True:
    connection.execute("INSERT INTO words_of_others VALUES (randomblob(5000))")
"""


@pytest.mark.exhaustive
def test_a_log_that_others_write_is_not_taken_for_damaged(tmp_path):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE words_of_others (x)")
        with subprocess.Popen([sys.executable, "-c", WRITE, path]) as writer:
            try:
                generations = set()
                for _ in range(rounds(300, 10_000)):
                    assert wal.log_fault(path) is None
                    with open(wal.log_of(path), "rb") as log:
                        generations.add(log.read(32))
            finally:
                writer.kill()

    assert len(generations) > 5
