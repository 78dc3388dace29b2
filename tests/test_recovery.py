"""check, backup, restore and purge as an operator runs them; what a migration leaves when it is killed."""

import os
import re
import sqlite3
import stat
import subprocess
import threading
from contextlib import closing
from datetime import timedelta
from itertools import count

import pytest
from conftest import FLASK, IMAGE, ROOT, clean_environment, environment
from test_cli import on_terminal
from test_migrations import insert_first_rows, rows_of

import migrations
import models
from cli import purge
from listing import sqlite_planner
from storage import file_checks, integrity, search_index, timestamps
from storage.documents import words_of

SECRET = "swift+https://user:secret@store/1"
WELL = "checked {} images: no faults\n"


@pytest.fixture
def catalogue(client, make_image):
    """Three images: one plain, one with all that there is, one deleted; no connection is open."""
    images = [
        make_image(name="plain"),
        make_image(name="full", owner="acme", properties={"os": "linux"}, locations=[SECRET], members={"friend": True}),
        make_image(name="gone", is_deleted=True),
    ]
    models.database.close()
    return images


def alter(path, statement, *values):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement, values)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def flip(path, text, by):
    """Change bytes within the file, which SQLite does not notice."""
    content = path.read_bytes()
    assert content.count(text)
    path.write_bytes(content.replace(text, by))


def dump_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def test_a_database_that_is_whole_is_checked_without_a_word_of_complaint(run, catalogue):
    assert run("check") == (0, b"", WELL.format(3))


# (what happens to the row of the full image, what check says)
BEHIND_ITS_BACK = {
    "UPDATE image SET name = 'other' WHERE name = 'full'": "name differ from its documents",
    "UPDATE image SET visibility = 'community' WHERE name = 'full'": "visibility, revision or nonce has changed",
    "UPDATE image SET nonce = 'x' WHERE name = 'full'": "visibility, revision or nonce has changed",
    "UPDATE image SET list_partition = 0 WHERE name = 'full'": "list_partition is not what its row",
    "UPDATE image SET brief = '{}' WHERE name = 'full'": "brief is not what its row",
    "UPDATE image SET document = 'x' WHERE name = 'full'": "document is not what its row",
    "UPDATE image SET location_document = 'x' WHERE name = 'full'": "location_document is not what its row",
    "UPDATE image SET digest = 1 WHERE name = 'full'": "its digest fits neither",
    "UPDATE image SET deleted_at = created_at WHERE name = 'full'": "deleted_at must be a time where the image",
    "UPDATE image SET container_format = 'ami' WHERE name = 'full'": "disk_format must be the container_format",
    "UPDATE image SET size = -1 WHERE name = 'full'": "size must be a number, 0 or more",
    "UPDATE image SET created_at = 'then' WHERE name = 'full'": "created_at must be a time",
    "UPDATE property SET value = 'windows'": "properties differ from its documents",
    "UPDATE property SET created_at = ''": "its properties have other index columns",
    "UPDATE property SET beginning = ''": "its properties have other index columns",
    "UPDATE property SET image_uuid = ''": "its properties have other index columns",
    "UPDATE location SET url = 'x:1'": "location, location_data differ from its documents",
    "UPDATE location SET metadata = '{'": "cannot be read",
    "UPDATE location SET position = 7": "its locations must be numbered from 0",
    "DELETE FROM property": "properties differ from its documents",
    "UPDATE member SET can_share = 0": "a member's digest does not fit its member or can_share",
    "UPDATE member SET member = 'fiend'": "a member's digest does not fit its member or can_share",
    "UPDATE words SET text = ' other' WHERE image_id = 2": "the words that searches find it by are not",
    "DELETE FROM words WHERE image_id = 2": "the words that searches find it by are not",
    "DELETE FROM words": "the words that searches find it by are not",
    "UPDATE indexed SET up_to = 0": "the index of words is not of the images' words",
    "UPDATE indexed SET up_to = 2": "the index of words is not of the images' words",
    "DELETE FROM indexed": "the index of words is not of the images' words",
    "INSERT INTO indexed VALUES (7)": "the index of words is not of the images' words",
    "DELETE FROM search_config": "the index of words is not of the images' words",
    "DELETE FROM search_data WHERE id > 10": "the index of words is not of the images' words",
    "INSERT INTO search(search) VALUES ('delete-all')": "the index of words is not of the images' words",
    "INSERT INTO search(rowid, text) VALUES (2, ' other')": "the index of words is not of the images' words",
    "INSERT INTO search(search, rowid, text) VALUES ('delete', 2, ' full')": "the index of words is not",
    "UPDATE change SET changes = '[{}]' WHERE image_id = 2": "an entry of its history does not fit it",
    "UPDATE change SET tenant = 'nobody' WHERE image_id = 2": "an entry of its history does not fit it",
    "UPDATE change SET is_admin = 0, action = 'shared' WHERE image_id = 2": "an entry of its history does not fit it",
    "UPDATE change SET at = 'then' WHERE image_id = 2": "an entry of its history does not fit it",
    "UPDATE change SET image_id = 999 WHERE image_id = 2 AND number = 1": "a row of change belongs to no row of image",
    "UPDATE words SET image_id = 999 WHERE image_id = 3": "a row of words belongs to no row of image",
    "UPDATE member SET image_id = 999": "a row of member belongs to no row of image",
    "UPDATE schema_migration SET name = '9999_next' WHERE id = 5": "was written by a newer version (9999_next)",
    "DELETE FROM schema_migration WHERE id = 5": "is of an older version, without 0005_tokens",
    "PRAGMA application_id = 1": "is another application's SQLite database",
    "DROP INDEX image_by_name": "the index image_by_name of image",
    "DROP TRIGGER words_changed": "the trigger words_changed of words is missing",
    "DROP TRIGGER image_removed": "the trigger image_removed of image",
    "DROP TABLE location": "the table location is missing",
    "ALTER TABLE member ADD COLUMN more": "the table member is not what the migrations make",
}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("statement", "fault"), BEHIND_ITS_BACK.items(), ids=BEHIND_ITS_BACK)
def test_check_says_in_words_what_is_wrong_and_no_secret(run, catalogue, database_path, statement, fault):
    index_all(database_path)
    alter(database_path, statement)

    code, output, errors = run("check")

    assert code == 1
    assert fault in output.decode()
    assert catalogue[1]["id"] in output.decode() or "image " not in fault
    assert errors.splitlines()[-1].startswith("Error: ")
    assert "secret" not in output.decode() + errors


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("image_by_name", "CREATE INDEX image_by_name ON image (name)"),
        ("words_changed", "CREATE TRIGGER words_changed AFTER UPDATE ON words BEGIN SELECT 1; END"),
    ],
)
def test_check_tells_an_index_or_a_trigger_that_is_another(run, catalogue, database_path, name, statement):
    alter(database_path, f"DROP {statement.split()[1]} {name}")
    alter(database_path, statement)

    code, output, _ = run("check")

    assert code == 1
    assert f" {name} of {statement.split(' ON ')[1].split()[0]} is not what the migrations make" in output.decode()


def test_what_others_add_to_the_schema_is_theirs(run, catalogue, database_path):
    alter(database_path, "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)")
    alter(database_path, "CREATE INDEX ours ON image (checksum)")
    alter(database_path, "ANALYZE")

    assert run("check") == (0, b"", WELL.format(3))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("text", "by"),
    [
        (b"acme", b"acne"),
        (b"linux", b"linus"),
        (b"secret@", b"secreT@"),
        (b"friend", b"fr\xffend"),
        (b'{"id"', b"{\xff\xff\xff\xff"),
        (b" full linux", b" full linus"),
        (b"shared", b"sha\xffed"),
    ],
)
def test_bytes_flipped_within_a_text_are_found(run, catalogue, database_path, text, by):
    flip(database_path, text, by)

    code, output, _ = run("check")

    assert code == 1
    assert output


# The file's bytes, made no database.
BROKEN = {
    "no database": (lambda content: b"This is no database.\n" * 100, "is not a SQLite database"),
    "its tail cut": (lambda content: content[: len(content) // 2], "is damaged: it has"),
    "empty": (lambda content: b"", "is empty"),
    "pages overwritten": (lambda content: content[:8192] + b"\xa5" * (len(content) - 8192), "is damaged"),
    "a schema that is no text": (
        lambda content: content.replace(b"(list_partition, created_at, id", b"(list_partition, cr\xe9ated_at, id"),
        "is damaged: its schema cannot be read",
    ),
    "no schema": (lambda content: content[:100] + b"\xa5" * (len(content) - 100), ""),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("make_broken", "fault"), BROKEN.values(), ids=BROKEN)
def test_check_and_restore_start_on_a_broken_file(run, catalogue, database_path, tmp_path, make_broken, fault):
    assert run("backup", tmp_path / "copy.db")[0] == 0
    before = dump_of(database_path)
    database_path.write_bytes(make_broken(database_path.read_bytes()))

    code, output, errors = run("check")
    refused, _, reason = run("restore", database_path, database=tmp_path / "other.db")
    restored = run("restore", tmp_path / "copy.db", "--force")

    assert (code, refused) == (1, 1)
    assert fault in output.decode()
    assert "Traceback" not in errors + reason
    assert len(reason.splitlines()[-1:]) == 1
    assert not (tmp_path / "other.db").exists()
    assert restored == (0, b"", WELL.format(3).replace("checked", "restored").replace(": no faults", ""))
    assert dump_of(database_path) == before


def test_check_names_a_file_that_is_not_there(run, tmp_path):
    code, output, errors = run("check", database=tmp_path / "missing.db")

    assert (code, output) == (1, b"")
    assert errors == f"Error: {tmp_path}/missing.db: No such file or directory.\n"


def test_rebuild_renders_documents_anew_under_another_etag(run, make_client, catalogue, database_path):
    alter(database_path, "UPDATE image SET document = 'x', list_partition = 0")
    alter(database_path, "UPDATE property SET created_at = ''")

    code, _, errors = run("check", "--rebuild")

    assert (code, errors) == (0, f"rebuilding documents and digests of 3 images\n{WELL.format(3)}")
    client = make_client()
    for image in catalogue:
        shown = client.get(f"/images/{image['id']}")
        assert shown.json["image"] == image


def test_a_rebuild_of_a_database_that_is_locked_says_so_in_one_line(run, catalogue, database_path):
    alter(database_path, "UPDATE image SET document = 'x', list_partition = 0")

    with closing(sqlite3.connect(database_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        code, _, errors = run("check", "--rebuild", database__busy_timeout=0)

    assert code == 5
    assert errors.splitlines()[-1].startswith("Error: The database is ")
    assert "Traceback" not in errors


def test_rebuild_trusts_rows_only_when_told_so(run, make_client, catalogue, database_path):
    alter(database_path, "UPDATE image SET name = 'other' WHERE name = 'full'")
    alter(database_path, "UPDATE member SET can_share = 0")
    before = dump_of(database_path)

    assert run("check", "--rebuild")[0] == 1
    assert dump_of(database_path) == before

    assert run("check", "--rebuild", "--trust-rows")[0] == 0
    assert make_client().get(f"/images/{catalogue[1]['id']}").json["image"]["name"] == "other"


# What searches find images by, changed such that --rebuild knows better.
MENDED_BY_REBUILD = (
    *("UPDATE words SET text = ' other'", "DELETE FROM words WHERE image_id = 2", "DELETE FROM words"),
    *("UPDATE indexed SET up_to = 2", "DELETE FROM indexed", "INSERT INTO indexed VALUES (0)"),
    *("DELETE FROM search_data WHERE id > 10", "DELETE FROM search_config", "DELETE FROM search_idx"),
    *("INSERT INTO search(search) VALUES ('delete-all')", "INSERT INTO search(rowid, text) VALUES (2, ' other')"),
)


@pytest.mark.exhaustive
@pytest.mark.parametrize("damage", MENDED_BY_REBUILD, ids=MENDED_BY_REBUILD)
@pytest.mark.parametrize("is_indexed", [False, True])
def test_rebuild_makes_words_and_index_anew(run, make_client, catalogue, database_path, damage, is_indexed):
    if is_indexed:
        index_all(database_path)
    alter(database_path, damage)

    code, output, errors = run("check", "--rebuild")

    assert (code, errors.splitlines()[-1]) == (0, WELL.format(3).strip()), output
    client = make_client()
    found = {text: found_by(client, text) for text in ("plain", "fu li", "linux", "gone", "other")}
    assert found == {"plain": ["plain"], "fu li": ["full"], "linux": ["full"], "gone": [], "other": []}
    client.put(f"/images/{catalogue[1]['id']}", json={"image": {"name": "other"}})
    assert (found_by(client, "full"), found_by(client, "other linux")) == ([], ["other"])


def test_words_whose_bytes_were_flipped_are_made_anew_and_their_index_with_them(
    run, make_client, catalogue, database_path
):
    index_all(database_path)
    flip(database_path, b" full linux", b" fell linus")

    code, output, errors = run("check", "--rebuild")

    assert (code, errors.splitlines()[-1]) == (0, WELL.format(3).strip()), output
    client = make_client()
    assert [found_by(client, text) for text in ("full linux", "fell", "linus")] == [["full"], [], []]


def test_a_history_that_was_changed_is_trusted_only_when_told_so(run, make_client, catalogue, database_path):
    alter(database_path, "UPDATE change SET tenant = 'nobody' WHERE image_id = 2")
    alter(database_path, "UPDATE change SET changes = '{' WHERE image_id = 2 AND number = 2")
    before = dump_of(database_path)

    assert run("check", "--rebuild")[0] == 1
    assert dump_of(database_path) == before

    assert run("check", "--rebuild", "--trust-rows")[0] == 0
    told = make_client().get(f"/images/{catalogue[1]['id']}/history").json["history"]
    assert [(entry["action"], entry["by"]["tenant"]) for entry in told] == [("created", "nobody")]


def test_rows_that_are_not_trusted_give_no_words(run, catalogue, database_path):
    alter(database_path, "UPDATE image SET name = 'other' WHERE name = 'full'")

    assert run("check", "--rebuild")[0] == 1
    assert rows_of(database_path, "SELECT text FROM words WHERE image_id = 2") == [(" full linux §1",)]

    assert run("check", "--rebuild", "--trust-rows")[0] == 0
    assert rows_of(database_path, "SELECT text FROM words WHERE image_id = 2") == [(" other linux §1",)]


def index_all(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(search_index.INDEX)
        connection.execute(search_index.MARK)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def found_by(client, text):
    sqlite_planner.count_cache.clear()
    return sorted(image["name"] for image in client.get(f"/images?is_public=none&q={text}").json["images"])


def test_a_start_refuses_what_check_finds(run, catalogue, database_path):
    flip(database_path, b"acme", b"acne")

    code, _, errors = run("export", "-")

    assert code == 5
    assert re.fullmatch(r"Error: \[database\] connection = .* flask --app registry check says more\n", errors)


def test_a_backup_while_a_server_writes_is_one_moment_and_whole(start_server, run, tmp_path):
    server, stopping = start_server(), threading.Event()
    acknowledged = []

    def write():
        while not stopping.is_set():
            body = {"image": {**IMAGE, "properties": {"a": "x" * 5000}}}
            acknowledged.append(server.request("POST", "/images", body)[2]["image"]["id"])

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        for number in range(3):
            before = list(acknowledged)
            copy = tmp_path / f"{number}.db"
            assert run("backup", copy)[0] == 0
            after = len(acknowledged)
            copied = {image_id for (image_id,) in rows_of(copy, "SELECT id FROM image")}
            assert {*before} <= copied
            assert after > len(before), "writers were held up"
    finally:
        stopping.set()
        for writer in writers:
            writer.join()
    assert run("check", database=copy)[0] == 0


def test_a_backup_is_for_its_owner_and_replaces_only_when_told_so(run, catalogue, database_path, tmp_path):
    copy = tmp_path / "copy.db"

    assert run("backup", copy) == (0, b"", "backed up 3 images\n")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert dump_of(copy) == dump_of(database_path)

    first = copy.stat().st_ino
    assert run("backup", copy) == (1, b"", f"Error: {copy}: exists; --force replaces it.\n")
    assert copy.stat().st_ino == first
    assert run("backup", copy, "--force")[0] == 0
    assert run("backup", database_path, "--force")[2] == f"Error: {database_path}: is the database itself.\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "registry.db"]


def test_a_backup_beside_another_s_log_is_refused(run, catalogue, tmp_path):
    (tmp_path / "copy.db-wal").write_bytes(b"log")

    code, _, errors = run("backup", tmp_path / "copy.db")

    assert (code, errors) == (
        1,
        f"Error: {tmp_path}/copy.db: copy.db-wal is beside it, and would be taken for the copy's.\n",
    )


def test_a_backup_of_what_is_damaged_is_none(run, catalogue, database_path, tmp_path):
    flip(database_path, b"acme", b"acne")

    code, output, _ = run("backup", tmp_path / "copy.db")

    assert code == 1
    assert b"the copy: image" in output
    assert [path.name for path in tmp_path.iterdir()] == ["registry.db"]


def test_restore_never_applies_the_old_log_to_the_new_file(run, catalogue, database_path, tmp_path):
    assert run("backup", tmp_path / "copy.db")[0] == 0
    before = dump_of(database_path)
    leave_a_log(database_path)

    assert run("restore", tmp_path / "copy.db") == (1, b"", f"Error: {database_path}: exists; --force replaces it.\n")
    assert run("restore", tmp_path / "copy.db", "--force")[0] == 0

    assert dump_of(database_path) == before
    assert run("check")[0] == 0


def test_restore_never_applies_a_log_without_its_database(run, catalogue, database_path, tmp_path):
    assert run("backup", tmp_path / "copy.db")[0] == 0
    before = dump_of(database_path)
    leave_a_log(database_path)
    database_path.unlink()

    assert run("restore", tmp_path / "copy.db")[0] == 1
    assert run("restore", tmp_path / "copy.db", "--force")[0] == 0

    assert dump_of(database_path) == before


def leave_a_log(path, statement="UPDATE image SET name = 'in the log'"):
    """As a process does that is killed after a commit."""
    code = """import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA foreign_keys = 1")
connection.execute(sys.argv[2])
os._exit(0)"""
    subprocess.run([FLASK[0].with_name("python"), "-c", code, path, statement], check=True)
    assert path.with_name("registry.db-wal").stat().st_size


def test_restore_takes_the_backup_s_own_log(run, catalogue, database_path, tmp_path):
    leave_a_log(database_path)

    assert run("restore", database_path, database=tmp_path / "new.db")[0] == 1  # the documents are not those of the row

    assert run("check", "--rebuild", "--trust-rows")[0] == 0
    assert run("restore", database_path, database=tmp_path / "new.db")[0] == 0
    assert rows_of(tmp_path / "new.db", "SELECT DISTINCT name FROM image") == [("in the log",)]


@pytest.mark.exhaustive
def test_restore_refuses_while_a_server_runs_and_changes_nothing(start_server, run, tmp_path, database_path):
    server = start_server()
    image = server.request("POST", "/images", {"image": IMAGE})[2]["image"]
    assert run("backup", tmp_path / "copy.db")[0] == 0

    code, _, errors = run("restore", tmp_path / "copy.db", "--force")

    cause = "is in use: stop the server, and whatever else has it open"
    assert (code, errors) == (1, f"Error: {database_path}: {cause}.\n")
    assert server.request("GET", f"/images/{image['id']}")[2]["image"] == image
    server.stop()
    assert run("restore", tmp_path / "copy.db", "--force")[0] == 0


def test_restore_refuses_a_damaged_file_in_use(run, catalogue, database_path, tmp_path):
    assert run("backup", tmp_path / "copy.db")[0] == 0
    # Closing the file would take SQLite's locks with it.
    with database_path.open("r+b", 0) as file, closing(sqlite3.connect(database_path)) as reader:
        assert reader.execute("SELECT count(*) FROM image").fetchone() == (3,)
        file.write(b"damaged")

        code, _, errors = run("restore", tmp_path / "copy.db", "--force")

    assert code == 1
    assert "is in use" in errors


@pytest.mark.exhaustive
@pytest.mark.parametrize("version", migrations.versions())
def test_restore_brings_an_older_version_up(run, make_client, tmp_path, version):
    backup = tmp_path / "old.db"
    make_version(backup, version)

    assert run("restore", backup)[0] == 0

    assert run("check")[0] == 0
    assert make_client().get("/images?is_public=none").json["images"][0]["name"] == "old \N{SNOWMAN}"


def make_version(path, version):
    """A database as that version left it, with one image."""
    database = migrations.SqliteDatabase(str(path), pragmas={"journal_mode": "wal"})
    with database.atomic("IMMEDIATE"):
        migrations.run(database, migrations.versions()[0])
    database.close()
    insert_first_rows(path)
    alter(path, "UPDATE image SET name = 'old \N{SNOWMAN}'")
    alter(path, """UPDATE location SET metadata = '{"a": 1}'""")  # as the first version wrote it
    with database.atomic("IMMEDIATE"):
        migrations.run(database, version)
    database.close()


@pytest.mark.parametrize("version", migrations.versions())
def test_a_database_of_every_version_opens_and_keeps_all(run, make_client, database_path, version):
    make_version(database_path, version)
    kept = "SELECT id, name, owner, checksum, created_at, updated_at, deleted, visibility, revision, nonce FROM image"
    before = [rows_of(database_path, kept), rows_of(database_path, "SELECT image_id, member, can_share FROM member")]

    image = make_client().get("/images/detail?is_public=none").json["images"][0]

    after = [rows_of(database_path, kept), rows_of(database_path, "SELECT image_id, member, can_share FROM member")]
    assert after == before
    assert (image["name"], image["properties"]) == ("old \N{SNOWMAN}", {"os": "linux"})
    assert image["location_data"] == [{"url": "file:///x", "metadata": {"a": 1}, "status": "active"}]
    models.database.close()
    assert run("check")[0] == 0


def test_the_words_of_all_images_are_those_of_the_rule_once_they_are_migrated(tmp_path):
    path, texts = tmp_path / "old.db", ["Café İst ﬁ", "a_b-C 12.04", "名前 x", "x" * 4090 + " cut off", "", None]
    make_version(path, "0005_tokens")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(image)") if name not in ("pk", "id")]
        for number, text in enumerate(texts):
            copied = f"INSERT INTO image (id, {', '.join(columns)}) SELECT ?, {', '.join(columns)} FROM image LIMIT 1"
            pk = connection.execute(copied, [f"0000000{number}-0000-4000-8000-000000000000"]).lastrowid
            connection.execute("UPDATE image SET name = ? WHERE pk = ?", (text, pk))
            for name, value in (("z", "LAST"), ("a", text), ("é", "İ"), ("n", None), ("e", "")):
                connection.execute("INSERT INTO property VALUES (?, ?, ?, '')", (pk, name, value))
            for position, url in enumerate(
                ("file:///srv/Café%20x.img", f"file:///s/0000000{number}-0000-4000-8000-000000000000")
            ):
                connection.execute("INSERT INTO location VALUES (?, ?, ?, '{}', 'active')", (pk, position, url))

    database = migrations.SqliteDatabase(str(path), pragmas={"journal_mode": "wal"})
    with database.atomic("IMMEDIATE"):
        migrations.run(database)
    database.close()

    with closing(sqlite3.connect(path)) as connection:
        for pk, image_id, name, stored in connection.execute(
            "SELECT pk, id, name, text FROM image LEFT JOIN words ON image_id = pk"
        ).fetchall():
            properties = dict(
                connection.execute("SELECT name, value FROM property WHERE image_id = ? ORDER BY name", (pk,))
            )
            urls = connection.execute("SELECT url FROM location WHERE image_id = ? ORDER BY position", (pk,)).fetchall()
            assert stored == words_of({"id": image_id, "name": name}, properties, urls)
        assert list(integrity.index_faults(connection)) == []


KILL = """
import os, sqlite3, sys
import migrations
path, last, statements = migrations.Path(sys.argv[1]), int(sys.argv[2]), 0


def count(statement):
    global statements
    statements += 1
    if statements > last:
        os._exit(9)


connect = migrations.SqliteDatabase._connect


def traced(self):
    connection = connect(self)
    connection.set_trace_callback(count)
    return connection


migrations.SqliteDatabase._connect = traced
migrations.migrate(path, 5)
"""


@pytest.mark.exhaustive
def test_a_migration_killed_at_every_statement_leaves_the_old_or_the_new_and_goes_on(tmp_path):
    old = tmp_path / "old.db"
    make_version(old, migrations.versions()[0])
    content, outcomes = old.read_bytes(), []

    for last in count():
        path = tmp_path / f"{last}.db"
        path.write_bytes(content)
        command = [FLASK[0].with_name("python"), "-c", KILL, str(path), str(last)]
        process = subprocess.run(
            command, check=False, cwd=ROOT, env=clean_environment(), capture_output=True, timeout=60
        )
        assert process.returncode in (0, 9), process.stderr
        names = [name for (name,) in rows_of(path, "SELECT name FROM schema_migration ORDER BY id")]
        outcomes.append(len(names))
        assert names in (migrations.versions()[:1], migrations.versions())
        migrations.migrate(path, 5)
        assert list(file_checks.file_faults(path, migrations.Schemas())) == []
        path.unlink()
        if process.returncode == 0:
            break

    assert outcomes[0] == 1
    assert outcomes[-1] == len(migrations.versions())
    assert len(outcomes) > 50


@pytest.mark.exhaustive
def test_purge_removes_for_good_what_was_deleted_so_long_ago(run, make_client, catalogue, make_image, database_path):
    alter(database_path, "UPDATE image SET created_at = created_at")
    full = make_image(owner="acme", properties={"a": "b"}, locations=["x:1"], members={"friend": True}, is_deleted=True)
    models.database.close()
    kept = rows_of(database_path, "SELECT count(*) FROM image")[0][0]

    said = run("purge", "--older-than", "1h", "--yes")
    dry = run("purge", "--older-than", "0m", "--dry-run")
    unasked = run("purge", "--older-than", "0m")
    assert rows_of(database_path, "SELECT count(*) FROM image") == [(kept,)]
    done = run("purge", "--older-than", "0m", "--yes")

    assert (said[0], dry[0], unasked[0], done[0]) == (0, 0, 1, 0)
    assert said[2].startswith("0 images were deleted before ")
    assert dry[2].startswith("2 images were deleted before ")
    assert unasked[2].endswith("Error: Without a terminal nobody can confirm: add --yes to remove them for good.\n")
    assert done[2].endswith("\npurged 2\n")
    assert rows_of(database_path, "SELECT name FROM image ORDER BY name") == [("full",), ("plain",)]
    assert rows_of(database_path, "SELECT count(*) FROM property") == [(1,)]
    assert run("check")[0] == 0
    assert make_client().post("/images", json={"image": {**IMAGE, "id": full["id"]}}).status_code == 200


@pytest.mark.exhaustive
def test_purge_goes_in_small_transactions_over_many_images(run, client, database_path):
    rows = b"".join(
        b'{"status":"active","disk_format":"raw","container_format":"bare","is_public":%s,"deleted":%s}\n'
        % (b"true" if number % 2 else b"false", b"true" if number % 3 else b"false")
        for number in range(1500)
    )
    assert run("import", "-", content=rows)[0] == 0

    connection, statements = models.database.connection(), []
    connection.set_trace_callback(statements.append)
    now = timestamps.time_before(timedelta())
    assert purge.purge(purge.find_deleted(now), now) == 1000
    connection.set_trace_callback(None)

    assert rows_of(database_path, "SELECT count(*), sum(deleted) FROM image") == [(500, 0)]
    transactions = "\n".join(statements).split("BEGIN")[1:]
    # The trace repeats a statement for each trigger that it runs.
    removed = [set(re.findall(r'^DELETE FROM "image" .*"pk" IN \(([\d, ]+)\)', text, re.M)) for text in transactions]
    assert [len(pks.split(", ")) for found in removed for pks in found] == [purge.AT_ONCE] * 5
    assert max(map(len, removed)) == 1


@pytest.mark.parametrize("duration", ["30", "d", "-1d", "1.5h", "30y", "30 d", "99999d"])
def test_a_duration_that_is_none_is_refused(run, duration):
    code, _, errors = run("purge", "--older-than", duration)

    assert code == 2
    assert "is not a duration; write a number and" in errors


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", [("check",), ("backup", "copy.db"), ("purge", "--older-than", "0m", "--yes")])
def test_a_terminal_sees_how_far_they_are(catalogue, database_path, tmp_path, command):
    arguments = [str(tmp_path / part) if part.endswith(".db") else part for part in command]

    shown = on_terminal([*FLASK, *arguments], {**clean_environment(), **environment(database_path), "TERM": "xterm"})

    assert "%" in shown


def test_purge_asks_on_a_terminal(catalogue, database_path):
    script = f"printf 'n\\n' | {FLASK[0]} --app registry purge --older-than 0m"
    variables = {**os.environ, **environment(database_path)}
    done = subprocess.run(
        ["script", "-qec", script, "/dev/null"], check=False, cwd=ROOT, env=variables, capture_output=True
    )

    assert b"--yes" in done.stdout
    assert rows_of(database_path, "SELECT count(*) FROM image") == [(3,)]
