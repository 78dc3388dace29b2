"""``doctor``: what it says of registries that are well, broken, or missing."""

import contextlib
import json
import platform
import sqlite3

import pytest
from support.older import replace_by_older
from support.terminals import plain

from config import OPTIONS, VERSION


def facts(output):
    """{section: {name: text}}"""
    found = {}
    for line in output.splitlines():
        section, name, text = line.split("\t")
        found.setdefault(section, {})[name] = text
    return found


@pytest.fixture
def database(folder):
    """The path of a registry with two images."""
    folder.get("create", "a", "--disk-format", "raw")
    folder.get("create", "b", "--disk-format", "raw", "--status", "queued")
    return folder.path / "mine.db"


def change(path, statement):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def test_a_registry_that_is_well(folder, database):
    code, output, errors = folder.run("doctor")

    found = facts(output)
    assert (code, errors) == (0, "")
    assert found["version"]["registry"] == VERSION
    assert found["version"]["Python"] == platform.python_version()
    assert found["version"]["SQLite"] == sqlite3.sqlite_version
    assert found["images"] == {"active": "1", "queued": "1"}
    assert found["database"]["health"] == "ok"
    assert found["database"]["file"] == str(database)
    assert all(text.split()[1] == "ms" for text in found["speed"].values())
    assert {"a sync of the disk", "the write lock", "a page of the list"} <= set(found["speed"])


def test_every_option_is_told_with_where_it_came_from(folder, tmp_path):
    (tmp_path / "own.ini").write_text("[server]\nworkers = 3\n")
    variables = {"REGISTRY_CONFIG": "own.ini", "REGISTRY_AUTH_FLAVOR": "token"}

    options = facts(folder.run("doctor", **variables)[1])["options"]

    assert len(options) == len(OPTIONS)
    assert options["[server] workers"] == "3  (file own.ini)"
    assert options["[auth] flavor"] == "token  (environment variable REGISTRY_AUTH_FLAVOR)"
    assert options["[server] threads"] == "4  (default)"


def test_a_database_that_is_not_there_is_not_made(folder):
    code, output, errors = folder.run("doctor")

    assert (code, errors) == (1, "Error: 1 problem found.\n")
    assert facts(output)["what to do"]["1"].startswith("There is no database yet: ")
    assert list(folder.path.iterdir()) == []


BROKEN = {
    "no SQLite": (
        lambda path: path.write_bytes(b"x" * 9000),
        "is not a SQLite database",
        "is not a registry's database",
    ),
    "another's": (
        lambda path: change(path, "PRAGMA application_id = 7"),
        "another application's",
        "is not a registry's",
    ),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-4096]), "it has", "restore a backup"),
    "documents": (lambda path: change(path, "UPDATE image SET brief = '{}'"), "brief is not what", "Run check"),
    "rows": (lambda path: change(path, "UPDATE image SET name = 'c'"), "digest does not fit", "Run check"),
    "older": (
        replace_by_older,
        "is of an older version",
        "Start the server",
    ),
    "newer": (
        lambda path: change(
            path,
            "UPDATE schema_migration SET name = '9999_x' WHERE name = (SELECT max(name) FROM schema_migration)",
        ),
        "a newer version (9999_x)",
        "Run the newer version",
    ),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("damage", "words", "advice"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_said_with_what_to_do(folder, database, damage, words, advice):
    damage(database)
    before = database.read_bytes()

    code, output, errors = folder.run("doctor")

    found = facts(output)
    assert (code, errors) == (1, "Error: 1 problem found.\n")
    assert words in found["database"]["health"]
    assert advice in found["what to do"]["1"]
    assert database.read_bytes() == before


def test_a_lock_that_somebody_holds_is_told(folder, database):
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        code, output, _ = folder.run("doctor", REGISTRY_DATABASE_BUSY_TIMEOUT="0")

    assert code == 1
    assert "locked" in facts(output)["what to do"]["1"]


def test_images_that_never_became_active_are_counted(folder, database):
    record = {"status": "saving", "disk_format": "raw", "container_format": "bare", "updated_at": "2020-01-01"}
    folder.run("import", "-", content=json.dumps(record))

    assert facts(folder.get("doctor"))["images"]["stuck"] == "1 queued or saving for more than a day"


@pytest.mark.exhaustive
def test_on_a_terminal_it_has_heads_and_says_that_all_is_well(folder, database):
    code, shown = folder.shown("doctor", columns=120)

    lines = plain(shown).splitlines()
    assert code == 0
    assert [line for line in lines if not line.startswith(" ")] == [
        *("version", "options", "database", "images", "speed"),
        "No problems found.",
    ]


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda path: path.touch(), "create its tables by a command such as list"),
        (lambda path: path.mkdir(), "mine.db is not a file: set [database] connection to a file."),
    ],
    ids=["empty", "folder"],
)
def test_what_is_no_database_yet_is_told_from_what_was_one(folder, make, advice):
    make(folder.path / "mine.db")

    code, output, _ = folder.run("doctor")

    assert code == 1
    assert advice in facts(output)["what to do"]["1"]
