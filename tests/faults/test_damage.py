"""A damaged database is never served as if it were whole: it is refused at start, or answered with 503."""

import os
import random
import re
import sqlite3
from contextlib import closing

import pytest
from conftest import IMAGE, Server

import search
from faults.conftest import rounds

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
        for statement in (search.INDEX, search.MARK):
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


def test_the_whole_one_is_answered_rightly(whole, tmp_path):
    content, answers = whole
    (tmp_path / "registry.db").write_bytes(content)
    server = Server(tmp_path / "registry.db").wait_until_ready()

    try:
        assert {path: ask(server, path) for path in answers} == answers
    finally:
        server.stop()
