"""Import and export as an operator runs them: commands, files, and what the API answers afterwards."""

import gzip
import json
import os
import pty
import re
import subprocess
import threading
from contextlib import contextmanager

import pytest
from conftest import FLASK, IMAGE, ROOT, clean_environment, environment
from test_documents import assert_documents_are_true

import models
from cli import COMMANDS as NAMES
from cli import load_command

COMMANDS = [load_command(name) for name in NAMES]

ID = "0f3c9d1e-5b7a-4f0e-8c2d-6a1b9e8f7a6{}"
TIME = "2020-01-0{}T00:00:00.000000"
RECORD = {**IMAGE, "id": ID.format(0)}
MORE_THAN_A_PIPE_HOLDS = [{**IMAGE, "properties": {"a": "x" * 1_000_000}}] * 10


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


@pytest.fixture
def load(run):
    """A function: imports records that are expected to be taken, from standard input; returns its last words."""

    def load_records(*records, options=(), **variables):
        code, _, errors = run("import", "-", *options, content=lines(*records), **variables)
        assert code == 0, errors
        return errors

    return load_records


@pytest.fixture
def exported(run):
    """A function: the export's bytes."""

    def export(**options):
        code, output, errors = run("export", "-", **options)
        count = output.count(b"\n")
        assert (code, errors) == (0, f"exported {count}\n")
        return output

    return export


@pytest.fixture
def catalogue(client, make_image):
    """Images of every kind, made through the API; returns their full records, as it shows them."""
    odd = {"a": "x", "b": None, "version": "22.10", "\N{PENGUIN} ü": 'quo"te\\ \t\x7f', "Z": ""}
    metadata = {"n": 10**30, "f": 1.5, "nested": {"list": [1, None, "\N{SNOWMAN}"]}}
    make_image(name="\N{PENGUIN} ü", is_public=True, properties=odd, size=2**63 - 1, min_ram=2**31 - 1)
    make_image(
        location_data=[{"url": "x:1", "status": "deleted"}, {"url": "swift+https://u:p@h/ü", "metadata": metadata}]
    )
    make_image(owner="acme", members={"ü": True, "a": False, 'q"': True}, protected=True)
    make_image(status="killed", name=None, checksum="d" * 32)
    make_image(is_deleted=True, is_public=True, members={"acme": False})
    make_image(created_at=TIME.format(1), updated_at=TIME.format(2), locations=["file:///a", "file:///b"])
    client.put(f"/images/{make_image(name='z')['id']}", json={"image": {"status": "deactivated"}})
    return records_of(client)


def records_of(client):
    query = "/images/detail?is_public=none&sort_key=created_at&sort_dir=asc&changes-since=1970-01-01"
    return client.get(query).json["images"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["images.ndjson", "images.ndjson.gz", "images.zst"])
def test_an_export_of_an_import_is_the_same_byte_for_byte(run, catalogue, exported, tmp_path, name):
    path, second = tmp_path / name, tmp_path / "second.db"

    assert run("export", path)[0] == 0
    assert run("import", path, database=second) == (0, b"", f"imported {len(catalogue)}, replaced 0, skipped 0\n")

    again = tmp_path / f"again {name}"
    assert run("export", again, database=second)[0] == 0
    assert again.read_bytes() == path.read_bytes()
    assert exported(database=second) == exported()


def test_an_export_has_the_records_of_the_api_and_what_it_does_not_show(client, catalogue, exported):
    found = [json.loads(line) for line in exported().splitlines()]

    extras = [(record.pop("visibility"), record.pop("members")) for record in found]
    assert [list(record) for record in found] == [list(record) for record in catalogue]
    assert found == catalogue
    for record, (visibility, members) in zip(found, extras, strict=True):
        assert (visibility == "public") == record["is_public"]
        assert client.get(f"/images/{record['id']}/members").json["members"] == members


def test_the_api_answers_imported_records_exactly(client, catalogue, run, exported, make_client, tmp_path):
    content = exported()
    members = {image["id"]: client.get(f"/images/{image['id']}/members").json for image in catalogue}
    run("import", "-", content=content, database=tmp_path / "second.db")
    models.database.close()

    second = make_client(database__connection=f"sqlite:///{tmp_path / 'second.db'}")

    assert records_of(second) == catalogue
    assert {image["id"]: second.get(f"/images/{image['id']}/members").json for image in catalogue} == members
    assert assert_documents_are_true() == len(catalogue)


def test_an_export_is_oldest_first_and_ties_go_by_id(load, exported):
    def record(n):
        return {**RECORD, "id": ID.format(n), "created_at": TIME.format(1 + n // 4), "is_public": n % 2 == 1}

    load(*map(record, (5, 2, 7, 0, 3)))

    assert [json.loads(line)["id"][-1] for line in exported().splitlines()] == ["0", "2", "3", "5", "7"]


def test_what_is_missing_is_as_create_makes_it(client, load, make_image):
    load({**IMAGE, "name": "imported"})
    made = make_image(name="imported")

    found = next(image for image in records_of(client) if image["id"] != made["id"])

    varying = {"id": "", "created_at": "", "updated_at": ""}
    assert found | varying == made | varying
    assert found["created_at"] == found["updated_at"]


def test_what_only_exports_have_is_taken(client, load):
    deleted = {"deleted": True, "deleted_at": "2020-01-03", "updated_at": "2020-01-03", "created_at": "2020-01-01"}
    shared = {"visibility": "community", "members": [{"member_id": "acme"}], "status": "pending_delete"}

    load(
        {**RECORD, **deleted}, {**RECORD, "id": ID.format(1), **shared}, {**RECORD, "id": ID.format(2), "deleted": True}
    )

    image = client.get(f"/images/{ID.format(0)}").json["image"]
    assert (image["deleted"], image["deleted_at"], image["created_at"]) == (True, TIME.format(3), TIME.format(1))
    image = client.get(f"/images/{ID.format(1)}").json["image"]
    assert (image["is_public"], image["status"]) == (False, "pending_delete")
    members = client.get(f"/images/{ID.format(1)}/members").json["members"]
    assert members == [{"member_id": "acme", "can_share": False}]
    image = client.get(f"/images/{ID.format(2)}").json["image"]
    assert image["deleted_at"] == image["updated_at"]


def test_numbers_of_properties_keep_how_they_were_written(client, run):
    numbers = '{"a": 22.10, "b": 1E3, "c": 100000000000000000000000, "d": -0, "e": true, "f": "22.10"}'

    run("import", "-", content=lines(RECORD).replace(b'"cirros"', b'"cirros", "properties": ' + numbers.encode()))

    expected = {"a": "22.10", "b": "1E3", "c": "1" + 23 * "0", "d": "0", "e": "true", "f": "22.10"}
    assert client.get(f"/images/{RECORD['id']}").json["image"]["properties"] == expected


REFUSED = {
    "no JSON": (b"{", "record: Must be JSON: Expecting property name enclosed in double quotes, column 2."),
    "no object": (b"[]", "record: Must be a JSON object."),
    "no UTF-8": (b'{"name": "\xff"}', "record: Must be UTF-8"),
    "no status": (
        lines({"disk_format": "raw", "container_format": "bare"}),
        "status: Invalid image status: must be",
    ),
    "status": (lines({**RECORD, "status": "ready"}), "status: Invalid image status: must be one of active, saving,"),
    "size": (lines({**RECORD, "size": 1.5}), "size: Must be an integer from 0 to 9223372036854775807, or null."),
    "id": (lines({**RECORD, "id": "x"}), "id: Must be a uuid"),
    "format": (lines({**RECORD, "disk_format": "tar"}), "disk_format: Must be one of ari, aki,"),
    "pair": (lines({**RECORD, "disk_format": "ami"}), "disk_format: If either format is one of ari, aki, ami,"),
    "time": (lines({**RECORD, "created_at": "2020-13-01"}), "created_at: Must be an ISO 8601 date or time"),
    "deleted": (lines({**RECORD, "deleted": "maybe"}), "deleted: Must be a boolean"),
    "deleted_at": (lines({**RECORD, "deleted_at": TIME.format(1)}), "deleted_at: Must be null, or left out, unless"),
    "visibility": (
        lines({**RECORD, "visibility": "x"}),
        "visibility: Must be one of public, private, shared,",
    ),
    "both": (
        lines({**RECORD, "visibility": "public", "is_public": False}),
        "visibility: Must be public if",
    ),
    "members": (lines({**RECORD, "members": {}}), "members: Must be a list of {member_id, can_share}."),
    "member": (lines({**RECORD, "members": [{"member_id": ""}]}), "members: 0.member_id: Must be text of 1 to 255"),
    "twice": (lines({**RECORD, "members": [{"member_id": "a"}] * 2}), "members: 1.member_id: Must not be named twice."),
    "property": (lines({**RECORD, "properties": {"a\nb\x1b[1m": []}}), "properties: a b [1m: Must be text without NUL"),
    "location": (
        lines({**RECORD, "location_data": [{"url": "x"}]}),
        "location_data: 0.url: Must be a URL with",
    ),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("line", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_refused_line_is_told_in_one_line_and_nothing_is_imported(run, exported, line, reason):
    good = lines({**RECORD, "id": ID.format(1)})

    code, output, errors = run("import", "-", content=good + b"\n" + line.strip() + b"\n" + good)

    assert (code, output) == (1, b"")
    assert errors.startswith(f"Error: line 3: {reason}")
    assert (errors.count("\n"), errors[-1]) == (1, "\n")
    assert exported() == b""


def test_skip_invalid_tells_each_refused_line_and_goes_on(run, exported):
    good = [lines({**RECORD, "id": ID.format(number)}) for number in range(2)]

    code, _, errors = run("import", "-", "--skip-invalid", content=b"{\n" + good[0] + b"[]\n" + good[1])

    assert code == 0
    assert [line.partition(": ")[0] for line in errors.splitlines()] == [
        "line 1",
        "line 3",
        "imported 2, replaced 0, skipped 2",
    ]
    assert exported().count(b"\n") == 2


def test_an_id_in_use_fails_and_imports_nothing(run, load, exported):
    load(RECORD)
    before = exported()

    code, _, errors = run("import", "-", content=lines({**RECORD, "id": ID.format(1)}, {**RECORD, "name": "new"}))

    reason = f"{ID.format(0)} is in use; choose another, or --on-conflict skip or replace"
    assert (code, errors) == (1, f"Error: line 2: id: {reason}.\n")
    assert exported() == before


FULL = {"properties": {"a": "1"}, "location": "x:1", "members": [{"member_id": "acme", "can_share": True}]}


@pytest.mark.parametrize(
    ("choice", "name", "counts"), [("skip", "old", "0, skipped 1"), ("replace", "new", "1, skipped 0")]
)
def test_an_id_in_use_can_be_skipped_or_replaced(client, load, choice, name, counts):
    load({**RECORD, **FULL, "name": "old"})
    other = {**RECORD, **FULL, "id": ID.format(1), "name": "other"}

    said = load({**RECORD, "name": "new"}, other, options=["--on-conflict", choice])

    assert said == f"imported 1, replaced {counts}\n"
    image = client.get(f"/images/{RECORD['id']}").json["image"]
    members = client.get(f"/images/{RECORD['id']}/members").json["members"]
    assert image["name"] == name
    assert (image["properties"], image["location"], members) == (
        (FULL["properties"], FULL["location"], FULL["members"]) if choice == "skip" else ({}, None, [])
    )
    assert client.get(f"/images/{other['id']}").json["image"]["properties"] == FULL["properties"]
    assert assert_documents_are_true() == 2


@pytest.mark.parametrize(("choice", "name"), [("skip", "1"), ("replace", "3")])
def test_an_id_that_stands_twice_in_a_file_is_in_use_the_second_time(client, load, choice, name):
    load(*({**RECORD, **FULL, "name": str(number)} for number in (1, 2, 3)), options=["--on-conflict", choice])

    assert client.get(f"/images/{RECORD['id']}").json["image"]["name"] == name
    assert assert_documents_are_true() == 1


def test_a_replaced_image_has_another_etag(client, load):
    load(RECORD)
    before = client.get(f"/images/{RECORD['id']}").headers["ETag"]

    load(RECORD, options=["--on-conflict", "replace"])

    assert client.get(f"/images/{RECORD['id']}").headers["ETag"] != before


def test_the_vocabularies_are_those_of_the_configuration(load, exported):
    load({"id": RECORD["id"], "disk_format": "ploop"}, api__strict_create="false", api__disk_formats="ploop")

    record = json.loads(exported())
    assert (record["status"], record["disk_format"], record["container_format"]) == ("active", "ploop", None)


@pytest.mark.exhaustive
def test_an_export_while_a_server_writes_is_one_snapshot(start_server, run):
    server = start_server()
    image = server.request("POST", "/images", {"image": {**IMAGE, "properties": {"n": "0"}}})[2]["image"]
    path, done = f"/images/{image['id']}", threading.Event()

    def write():
        number = 0
        while not done.is_set():
            number += 1
            server.request("POST", "/images", {"image": {**IMAGE, "name": f"{number}"}})
            server.request("PUT", path, {"image": {"properties": {"n": f"{number}"}}})

    writer = threading.Thread(target=write)
    writer.start()
    exports = [run("export", "-")[1] for _ in range(3)]
    done.set()
    writer.join()

    for content in exports:
        first, *others = [json.loads(line) for line in content.splitlines()]
        # Each image is registered before the first one is told of it.
        assert int(first["properties"]["n"]) in (len(others), len(others) - 1)
        assert [record["name"] for record in others] == [str(number + 1) for number in range(len(others))]


@pytest.mark.exhaustive
def test_what_is_written_during_an_export_is_not_in_it(load, make_image, database_path):
    load(*MORE_THAN_A_PIPE_HOLDS)

    with exporting(database_path) as process:
        beginning = process.stdout.read(1000)
        make_image(name="late")
        content = beginning + process.stdout.read()

    assert content.count(b"\n") == len(MORE_THAN_A_PIPE_HOLDS)
    assert b'"late"' not in content


@contextmanager
def exporting(database_path):
    variables = {**clean_environment(), **environment(database_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*FLASK, "export", "-"], cwd=ROOT, env=variables, **pipes) as process:
        yield process


@pytest.mark.exhaustive
def test_a_reader_that_has_read_enough_ends_an_export_quietly(load, database_path):
    load(*MORE_THAN_A_PIPE_HOLDS)

    command = f"set -o pipefail; '{FLASK[0]}' --app registry export - | head -c 1"
    variables = {**clean_environment(), **environment(database_path)}
    done = subprocess.run(
        ["bash", "-c", command], check=False, cwd=ROOT, env=variables, capture_output=True, timeout=60
    )

    assert (done.stdout, done.stderr) == (b"{", b"")


def test_a_file_of_an_export_is_for_its_owner_and_replaces_only_when_whole(run, make_image, tmp_path):
    make_image()
    path = tmp_path / "images.ndjson"
    path.write_text("before")
    path.chmod(0o644)

    refused = run("export", path)
    code, _, errors = run("export", path, "--force")

    assert refused == (1, b"", f"Error: {path}: exists; --force replaces it.\n")
    assert (code, errors) == (0, "exported 1\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir() if "part" in entry.name] == []


TROUBLES = {
    "missing": ["import", "missing.ndjson"],
    "a folder": ["import", "."],
    "no gzip": ["import", "torn.gz"],
    "no zstd": ["import", "torn.zst"],
    "no folder": ["export", "missing/images"],
    "the database": ["export", "registry.db"],
}


@pytest.mark.parametrize("command", TROUBLES.values(), ids=TROUBLES)
def test_a_file_that_cannot_be_read_or_written_is_told_in_one_line(run, client, tmp_path, command):
    (tmp_path / "torn.gz").write_bytes(gzip.compress(lines(RECORD) * 100)[:40])
    (tmp_path / "torn.zst").write_bytes(b"no zstd")

    code, output, errors = run(command[0], tmp_path / command[1])

    assert (code, output) == (1, b"")
    assert re.fullmatch(r"Error: .*\.\n", errors)


def test_a_database_that_cannot_be_prepared_is_told_in_one_line(run, tmp_path):
    code, _, errors = run("import", "-", database=tmp_path / "missing" / "registry.db")

    assert code == 5
    assert re.fullmatch(r"Error: \[database\] connection = .*: its folder does not exist\n", errors)


def test_a_locked_database_is_told_in_one_line(run, client):
    models.database.execute_sql("BEGIN IMMEDIATE")

    code, _, errors = run("import", "-", content=lines(RECORD), database__busy_timeout="0")
    models.database.execute_sql("ROLLBACK")

    assert (code, errors.count("\n")) == (5, 1)
    assert "locked" in errors


@pytest.mark.exhaustive
def test_a_terminal_sees_how_far_it_is(tmp_path, database_path):
    path = tmp_path / "images.ndjson"
    path.write_bytes(b"".join(lines({**IMAGE, "name": str(number)}) for number in range(4100)))

    for command, count in ((("import",), "4,100 images"), (("export", "--force"), "4,100 images")):
        shown = on_terminal([*FLASK, *command, str(path)], {**clean_environment(), **environment(database_path)})
        assert "/s" in shown
        assert "%" in shown
        assert count in shown


def on_terminal(command, variables):
    """What it writes on a terminal."""
    ours, its = pty.openpty()
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:
            pass  # Linux says so when the other end is closed
    os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


def test_every_command_is_in_the_readme_and_every_option_in_its_reference():
    section = (ROOT / "docs" / "commands.md").read_text()
    readme = (ROOT / "README.md").read_text()
    offered = [name for command in COMMANDS for option in command.params for name in option.opts if name[0] == "-"]

    assert offered
    assert [name for name in offered if not re.search(rf"`[^`\n]*{name}[ `]", section)] == []
    assert [command.name for command in COMMANDS if not re.search(rf"^#+ `?{command.name}\b", section, re.M)] == []
    assert [
        command.name for command in COMMANDS if not re.search(rf"`{command.name}\b|registry {command.name}\s", readme)
    ] == []
