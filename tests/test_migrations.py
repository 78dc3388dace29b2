"""The database file: created, checked and migrated once, whoever comes first; its schema is what the models name."""

import select
import sqlite3
import subprocess
import sys
from contextlib import closing

import peewee
import pytest
from conftest import ROOT, Server, clean_environment, environment
from support.product import copy_product

import history
import members
import migrations
import models
from config import read_settings
from storage import schema_guard, search_index, verifications
from storage.documents import documents_of, member_digest, words_of

SCRIPTS = sorted(path.stem for path in (ROOT / "migrations").glob("[0-9]*.py"))
TABLES = (models.Image, models.Property, models.Location, members.Member, history.Change)
TABLES += (search_index.Words, search_index.Indexed, verifications.Verification)
IMAGE_ID = "71c675ab-d94f-49cd-a114-e12490b328d9"
# The rows of one image as version 1 has them.
FIRST_ROWS = {
    "image": {
        "pk": 7,
        "id": IMAGE_ID,
        "name": "cirros ☃",
        "status": "active",
        "disk_format": "qcow2",
        "container_format": "bare",
        "size": 2**63 - 1,
        "virtual_size": None,
        "checksum": "eb9139e4942121f22bbc2afc0400b2a4",
        "min_disk": 1,
        "min_ram": 64,
        "owner": "acme",
        "visibility": "public",
        "protected": True,
        "created_at": "2026-11-24T04:08:17.767932",
        "updated_at": "2026-11-24T05:00:00.000001",
        "deleted": False,
        "deleted_at": None,
        "revision": 3,
        "nonce": "0123456789abcdef",
    },
    "property": {"image_id": 7, "name": "os", "value": "linux"},
    "location": {"image_id": 7, "position": 0, "url": "file:///x", "metadata": '{"a":1}', "status": "active"},
    "member": {"image_id": 7, "member": "friend", "can_share": True},
}
INTERNAL_COLUMNS = ("pk", "visibility", "revision", "nonce")
FIRST_RECORD = {
    **{name: value for name, value in FIRST_ROWS["image"].items() if name not in INTERNAL_COLUMNS},
    "is_public": True,
    "location": "file:///x",
    "location_data": [{"url": "file:///x", "metadata": {"a": 1}, "status": "active"}],
    "properties": {"os": "linux"},
}
PREPARE = """
import sys
import migrations
from config import read_settings
from errors import StartupError

print("ready", flush=True)
for line in sys.stdin:
    try:
        migrations.prepare(read_settings({"REGISTRY_DATABASE_CONNECTION": line.strip()}).database)
        print("done", flush=True)
    except StartupError as error:
        print(error, flush=True)
"""


def prepare(path):
    migrations.prepare(read_settings(environment(path)).database)


def rows_of(path, query):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def dump_of(path):
    """All of schema and rows, as SQL."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def insert_first_rows(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        for table, row in FIRST_ROWS.items():
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))
        if "digest" in [name for _, name, *_ in connection.execute("PRAGMA table_info(image)")]:
            insert_derived(connection)


def insert_derived(connection):
    """What stands beside the first rows in the newest schema."""
    location = FIRST_ROWS["location"]
    locations = [(location["url"], location["metadata"], location["status"])]
    derived = documents_of(FIRST_ROWS["image"], FIRST_RECORD["properties"], locations)
    assignments = ", ".join(f"{name} = :{name}" for name in derived)
    connection.execute(f"UPDATE image SET {assignments}", derived)
    connection.execute("UPDATE member SET digest = ?", [member_digest(*FIRST_ROWS["member"].values())])
    connection.execute("UPDATE property SET created_at = ?", [FIRST_RECORD["created_at"]])
    if "beginning" in [name for _, name, *_ in connection.execute("PRAGMA table_info(property)")]:
        connection.execute("UPDATE property SET beginning = value, image_uuid = ?", [FIRST_RECORD["id"]])
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchone():
        words = words_of(FIRST_ROWS["image"], FIRST_RECORD["properties"], locations)
        connection.execute("INSERT INTO words (image_id, text) VALUES (?, ?)", [FIRST_ROWS["image"]["pk"], words])


@pytest.fixture
def other_version(tmp_path):
    """A function: prepares a file as an installation would that has one more script, of this text."""

    def prepare_with(path, script):
        folder = tmp_path / "other_version"
        folder.mkdir(exist_ok=True)
        copy_product(folder)
        (folder / "migrations" / "9998_next.py").write_text(script)
        code = "import config, migrations; migrations.prepare(config.read_settings().database)"
        options = {"env": {**clean_environment(), **environment(path)}, "capture_output": True, "text": True}
        return subprocess.run([sys.executable, "-c", code], check=False, cwd=folder, timeout=30, **options)

    return prepare_with


@pytest.fixture
def preparers():
    """Eight processes, each preparing the database that a line of its input names."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    processes = [subprocess.Popen([sys.executable, "-c", PREPARE], cwd=ROOT, **pipes) for _ in range(8)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 8
    yield processes
    for process in processes:
        process.communicate(timeout=30)


def test_every_script_one_at_a_time_keeps_the_rows(make_client, database_path):
    database = peewee.SqliteDatabase(str(database_path))
    applied = []

    for name in SCRIPTS:
        with database.atomic("IMMEDIATE"):
            applied += migrations.run(database, name)
        if name == SCRIPTS[0]:
            database.close()
            insert_first_rows(database_path)
    database.close()

    client = make_client()
    assert applied == SCRIPTS
    assert rows_of(database_path, "SELECT name FROM schema_migration ORDER BY id") == [(name,) for name in SCRIPTS]
    assert client.get(f"/images/{IMAGE_ID}").json == {"image": FIRST_RECORD}
    members = client.get(f"/images/{IMAGE_ID}/members").json["members"]
    assert members == [{"member_id": "friend", "can_share": True}]


def test_preparing_twice_changes_nothing(database_path):
    prepare(database_path)
    insert_first_rows(database_path)
    before, version = dump_of(database_path), rows_of(database_path, "PRAGMA schema_version")

    prepare(database_path)

    assert dump_of(database_path) == before
    assert rows_of(database_path, "PRAGMA schema_version") == version


@pytest.mark.exhaustive
def test_eight_processes_that_open_a_new_database_at_once_all_succeed(tmp_path, preparers):
    paths = [tmp_path / f"{number}.db" for number in range(24)]

    answers = []
    for path in paths:
        for process in preparers:
            process.stdin.write(f"sqlite:///{path}\n")
        answers += [process.stdout.readline() for process in preparers]

    assert [answer for answer in answers if answer != "done\n"] == []
    histories = [rows_of(path, "SELECT name FROM schema_migration ORDER BY id") for path in paths]
    assert histories == [[(name,) for name in SCRIPTS]] * len(paths)


@pytest.mark.exhaustive
def test_who_finds_a_new_file_being_written_waits_for_it(database_path, preparers):
    process = preparers[0]

    with closing(sqlite3.connect(database_path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        process.stdin.write(f"sqlite:///{database_path}\n")
        is_answering, *_ = select.select([process.stdout], [], [], 0.5)  # within busy_timeout there is no answer
        early_answer = process.stdout.readline() if is_answering else None
        writer.execute("COMMIT")

    assert early_answer is None
    assert process.stdout.readline() == "done\n"


@pytest.mark.exhaustive
def test_two_servers_started_at_once_on_a_new_file_both_serve(database_path):
    servers = [Server(database_path), Server(database_path)]

    try:
        answers = [server.wait_until_ready().request("GET", "/images") for server in servers]
    finally:
        printed = [server.stop() for server in servers]

    assert [(status, body) for status, _, body in answers] == [(200, {"images": []})] * 2, printed
    assert [name for (name,) in rows_of(database_path, "SELECT name FROM schema_migration")] == SCRIPTS


def test_the_file_says_that_it_is_a_registry_s_and_keeps_a_write_ahead_log(database_path):
    prepare(database_path)

    header = database_path.read_bytes()[:100]
    assert header[68:72] == b"IMRG"
    assert rows_of(database_path, "PRAGMA application_id") == [(int.from_bytes(b"IMRG"),)]
    assert rows_of(database_path, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
@pytest.mark.parametrize("about", ["table_info", "foreign_key_list"])
def test_the_migrated_schema_has_the_columns_and_keys_that_the_models_name(tmp_path, table, about):
    migrated, named = tmp_path / "migrated.db", tmp_path / "named.db"
    prepare(migrated)
    scratch = peewee.SqliteDatabase(str(named))
    with scratch.bind_ctx(TABLES):
        scratch.create_tables(TABLES)
    scratch.close()

    # Order and default are left out: a column that was added later is the last, and has a default for older rows.
    pragma = f"PRAGMA {about}({table._meta.table_name})"
    columns, expected = (sorted((*row[1:4], *row[5:]) for row in rows_of(path, pragma)) for path in (migrated, named))

    assert columns == expected
    if about == "table_info":
        fields = {field.column_name: not field.null for field in table._meta.sorted_fields}
        assert {name: bool(required) for name, _, required, *_ in columns} == fields


def test_every_table_of_the_schema_is_declared(tmp_path):
    prepare(tmp_path / "migrated.db")

    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    tables = {name for (name,) in rows_of(tmp_path / "migrated.db", query)}

    # FTS5 makes the tables of its index, and the migrations' runner its own.
    declared = {table._meta.table_name for table in TABLES}
    assert {name for name in tables if not name.startswith("search")} - {"schema_migration", "token"} == declared


def test_the_application_s_own_connections_are_durable_and_check_foreign_keys(make_client):
    client = make_client(database__busy_timeout=7)

    assert client.get("/images").status_code == 200

    names = ("synchronous", "foreign_keys", "journal_mode", "busy_timeout")
    assert [models.database.pragma(name) for name in names] == [2, 1, "wal", 7000]


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("INSERT INTO property VALUES (8, 'os', 'linux', '', NULL, '')", "FOREIGN KEY constraint failed"),
        ("INSERT INTO location VALUES (8, 0, 'file:///x', '{}', 'active')", "FOREIGN KEY constraint failed"),
        ("INSERT INTO member VALUES (8, 'friend', 1, 0)", "FOREIGN KEY constraint failed"),
        ("UPDATE image SET visibility = 'nobody'", "CHECK constraint failed"),
        ("INSERT INTO image (pk, id, %s) SELECT 8, id, %s FROM image", "UNIQUE constraint failed: image.id"),
        ("INSERT INTO property VALUES (7, 'os', 'x', '', NULL, '')", "UNIQUE constraint failed: property.image_id"),
        ("INSERT INTO member VALUES (7, 'friend', 0, 0)", "UNIQUE constraint failed: member.image_id"),
        *(
            (f"UPDATE image SET {name} = NULL", f"NOT NULL constraint failed: image.{name}")
            for name in ("id", "status", "visibility", "created_at", "updated_at", "deleted", "protected", "nonce")
        ),
    ],
)
def test_the_schema_refuses_rows_that_break_its_rules(make_client, database_path, statement, refusal):
    make_client()
    insert_first_rows(database_path)
    before = dump_of(database_path)
    others = ", ".join(list(FIRST_ROWS["image"])[2:])

    with pytest.raises(peewee.IntegrityError, match=refusal):
        models.database.execute_sql(statement.replace("%s", others))

    models.database.close()
    assert dump_of(database_path) == before


def test_an_image_s_rows_go_with_it(make_client, database_path):
    make_client()
    insert_first_rows(database_path)

    models.database.execute_sql("DELETE FROM image")

    models.database.close()
    assert [rows_of(database_path, f"SELECT * FROM {table}") for table in FIRST_ROWS] == [[]] * 4


@pytest.mark.parametrize("failure", ['db.execute_sql("ALTER TABLE missing ADD COLUMN x")', 'raise ValueError("x")'])
def test_a_script_that_fails_leaves_the_database_as_it_was(database_path, other_version, failure):
    prepare(database_path)
    insert_first_rows(database_path)
    before = dump_of(database_path)
    script = f"""
def up(migrator, db):
    db.execute_sql("ALTER TABLE image ADD COLUMN os_type TEXT")
    db.execute_sql("DELETE FROM property")
    {failure}
"""

    process = other_version(database_path, script)

    assert process.returncode == 1
    assert dump_of(database_path) == before
    prepare(database_path)


def test_a_script_that_the_database_refuses_ends_the_start_in_one_line(database_path, other_version):
    process = other_version(database_path, 'def up(migrator, db):\n    db.execute_sql("DROP TABLE missing")\n')

    line = f"registry: [database] connection = 'sqlite:///{database_path}': no such table: missing\n"
    assert process.stderr == line
    assert dump_of(database_path) == ["BEGIN TRANSACTION;", "COMMIT;"]


def test_a_script_that_rebuilds_a_table_keeps_the_rows_that_refer_to_it(database_path, other_version):
    prepare(database_path)
    insert_first_rows(database_path)
    script = 'def up(migrator, db):\n    migrator.migrate(migrator.drop_not_null("image", "min_disk"))\n'
    before = {table: rows_of(database_path, f"SELECT * FROM {table}") for table in FIRST_ROWS}

    process = other_version(database_path, script)

    assert (process.returncode, process.stderr) == (0, "")
    assert {table: rows_of(database_path, f"SELECT * FROM {table}") for table in FIRST_ROWS} == before
    assert rows_of(database_path, "PRAGMA foreign_key_check") == []
    assert [name for (name,) in rows_of(database_path, "SELECT name FROM schema_migration")] == [*SCRIPTS, "9998_next"]


def test_what_a_newer_version_has_migrated_is_refused_and_not_touched(database_path, other_version):
    prepare(database_path)
    process = other_version(
        database_path, 'def up(migrator, db):\n    db.execute_sql("CREATE TABLE future (id TEXT)")\n'
    )
    before = dump_of(database_path)

    with pytest.raises(SystemExit) as caught:
        prepare(database_path)

    cause = f"was written by a newer version (9998_next); this one knows up to {SCRIPTS[-1]}"
    assert process.returncode == 0
    assert str(caught.value) == f"registry: [database] connection = 'sqlite:///{database_path}': {cause}"
    assert dump_of(database_path) == before


def test_the_fence_names_the_newest_script():
    assert SCRIPTS[-1] == schema_guard.SCHEMA


@pytest.mark.exhaustive
def test_a_server_that_meets_another_schema_answers_503_and_writes_nothing(start_server, database_path, other_version):
    server = start_server(server__workers=1, server__threads=1)
    body = {"image": {"status": "active", "disk_format": "raw", "container_format": "bare"}}
    path = f"/images/{server.request('POST', '/images', body)[2]['image']['id']}"
    requests = [
        ("GET", "/images", None),
        ("GET", path, None),
        ("GET", f"{path}/members", None),
        ("POST", "/images", body),
    ]
    requests += [("PUT", path, {"image": {"name": "x"}}), ("DELETE", path, None), ("PUT", f"{path}/members/a", None)]
    assert [server.request(*request)[0] for request in requests[:3]] == [200] * 3
    before = rows_of(database_path, "SELECT * FROM image")

    # It changes nothing that a statement of the old version would stumble over.
    assert other_version(database_path, "def up(migrator, db):\n    pass\n").returncode == 0

    answers = [server.request(*request) for request in requests]
    detail = "The database is of another version than this server: restart it; nothing was changed."
    assert [(status, problem["detail"]) for status, _, problem in answers] == [(503, detail)] * len(requests)
    assert rows_of(database_path, "SELECT * FROM image") == before
