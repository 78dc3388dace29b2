"""Replication by tools such as Litestream, which read the write-ahead log during a read transaction."""

import sqlite3
from contextlib import closing

import pytest
from conftest import IMAGE

SALTS = slice(16, 24)  # of the log's header: new ones whenever the log begins anew
CHECKPOINTED_PAGES = 1000  # SQLite's default, at which a commit copies the log into the file


@pytest.fixture
def log_path(database_path):
    return database_path.with_name(f"{database_path.name}-wal")


def write_more_than_is_checkpointed(server):
    image = {**IMAGE, "properties": {f"property {number}": "x" * 4000 for number in range(60)}}
    for _ in range(CHECKPOINTED_PAGES // 60 + 5):
        assert server.request("POST", "/images", {"image": image})[0] == 200


@pytest.mark.exhaustive
def test_the_log_is_kept_whole_while_somebody_reads_it(start_server, database_path, log_path):
    server = start_server()
    server.request("POST", "/images", {"image": IMAGE})
    with closing(sqlite3.connect(database_path, isolation_level=None)) as replicator:
        replicator.execute("BEGIN")
        replicator.execute("SELECT count(*) FROM image").fetchone()
        before = log_path.read_bytes()

        write_more_than_is_checkpointed(server)

        after = log_path.read_bytes()
        assert after[SALTS] == before[SALTS]
        assert after.startswith(before)
        assert len(after) > CHECKPOINTED_PAGES * 4096


def test_the_log_begins_anew_once_nobody_reads_it(start_server, log_path):
    server = start_server()
    server.request("POST", "/images", {"image": IMAGE})
    before = log_path.read_bytes()

    write_more_than_is_checkpointed(server)
    write_more_than_is_checkpointed(server)

    assert log_path.read_bytes()[SALTS] != before[SALTS]
