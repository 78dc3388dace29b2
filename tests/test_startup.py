"""A start that cannot succeed ends at once, in one line that names option, value and cause; nothing is touched."""

import errno
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import IMAGE, ROOT, answer_to, clean_environment, environment, free_port

import auth
import migrations
from config import read_settings
from storage import engine

COMMANDS = {"gunicorn": ["gunicorn", "registry:create_app()"], "flask": ["flask", "--app", "registry", "run"]}
NEWEST = max(path.stem for path in (ROOT / "migrations").glob("[0-9]*.py"))
# Permissions do not bind root; without its capabilities they do.
WITHOUT_CAPABILITIES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def command_of(starter, port):
    program, *arguments = COMMANDS[starter]
    arguments += ["--port", str(port)] if starter == "flask" else []
    return [Path(sys.executable).with_name(program), *arguments]


@pytest.fixture(params=list(COMMANDS))
def starter(request):
    return request.param


@pytest.fixture
def refusal(starter, database_path):
    """A function: starts the service, which must end by itself, and returns the one line that it says."""

    def start(prefix=(), port=None, **variables):
        port = port or free_port()
        options = {"env": {**clean_environment(), **environment(database_path, server__bind_port=port), **variables}}
        command = [*prefix, *command_of(starter, port)]
        process = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=30, **options)
        lines = [line for line in process.stderr.splitlines() if "[INFO] Starting gunicorn" not in line]
        assert process.returncode == 1, process.stderr
        assert process.stdout == ""
        assert len(lines) == 1, process.stderr
        return lines[0]

    return start


def prepare(path):
    migrations.prepare(read_settings(environment(path)).database)


def content_of(folder):
    """{path: (mode, bytes)} of all that is in it; SQLite's shared memory changes with every look."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
    return {path: (path.stat().st_mode, path.read_bytes()) for path in paths}


def line_about(path, cause):
    return f"registry: [database] connection = 'sqlite:///{path}': {cause}"


def text_file(path):
    path.write_text("disk_format = qcow2\n" * 500)
    return "is not a SQLite database"


def short_text_file(path):
    path.write_text("x")
    return "is not a SQLite database"


def foreign_database(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE image (id TEXT)")
    return "is another application's SQLite database"


def marked_foreign_database(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 252006674")
        connection.execute("CREATE TABLE schema_migration (id INTEGER, name TEXT, applied TEXT)")
    return "is another application's SQLite database"


def truncated_database(path):
    prepare(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return f"is damaged: it has {len(content) // 2} of {len(content)} bytes"


def database_of_one_header(path):
    prepare(path)
    content = path.read_bytes()
    path.write_bytes(content[:100])
    return f"is damaged: it has 100 of {len(content)} bytes"


def database_with_corrupted_pages(path):
    prepare(path)
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 5 * 4096] = b"\xff" * (2 * 4096)
    path.write_bytes(content)
    return "is damaged: "


def database_with_a_corrupted_schema(path):
    prepare(path)
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)
    return "database disk image is malformed"


def database_of_a_newer_version(path):
    prepare(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO schema_migration (name, applied) VALUES ('9999_future', '2030-01-01')")
    return f"was written by a newer version (9999_future); this one knows up to {NEWEST}"


def folder_in_its_place(path):
    path.mkdir()
    return "is not a file"


def no_folder_around_it(path):
    path.parent.rmdir()
    return "its folder does not exist"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "make_unusable",
    [
        text_file,
        short_text_file,
        foreign_database,
        marked_foreign_database,
        truncated_database,
        database_of_one_header,
        database_with_corrupted_pages,
        database_with_a_corrupted_schema,
        database_of_a_newer_version,
        folder_in_its_place,
        no_folder_around_it,
    ],
    ids=lambda make_unusable: make_unusable.__name__,
)
def test_what_is_no_usable_database_is_refused_by_name_and_left_as_it_was(tmp_path, refusal, make_unusable):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "registry.db"
    cause = make_unusable(path)
    before = content_of(tmp_path)

    line = refusal(REGISTRY_DATABASE_CONNECTION=f"sqlite:///{path}")

    assert line.startswith(line_about(path, cause))
    assert content_of(tmp_path) == before


@pytest.mark.exhaustive
@pytest.mark.parametrize("is_new", [False, True])
def test_a_database_that_another_process_locks_for_longer_than_busy_timeout_is_refused(database_path, refusal, is_new):
    if not is_new:
        prepare(database_path)

    with closing(sqlite3.connect(database_path, isolation_level=None)) as locker:
        locker.execute("BEGIN EXCLUSIVE")
        line = refusal(REGISTRY_DATABASE_BUSY_TIMEOUT="1")

    assert line == line_about(database_path, "database is locked")
    prepare(database_path)


@pytest.fixture
def unprivileged(tmp_path):
    """What to put before a command such that permissions bind it; skips the test where there is nothing such."""
    if os.geteuid() != 0:
        return []
    probe = tmp_path / "probe"
    probe.touch(mode=0)
    readings = [["cat", probe], [*WITHOUT_CAPABILITIES, "true"], [*WITHOUT_CAPABILITIES, "cat", probe]]
    if shutil.which("setpriv") is None:
        pytest.skip("permissions do not bind root, and there is no setpriv to give its capabilities up")
    as_root, setpriv, without = (subprocess.run(command, check=False).returncode == 0 for command in readings)
    if not (as_root and setpriv) or without:
        pytest.skip("permissions do not bind root, and setpriv cannot give its capabilities up here")
    return WITHOUT_CAPABILITIES


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "is_new", "cause"),
    [
        (0o200, 0o700, False, "cannot be read: permission denied"),
        (0o000, 0o700, False, "cannot be read: permission denied"),
        (0o400, 0o700, False, "cannot be written: permission denied, or read-only"),
        (0o600, 0o500, False, "its folder cannot be written: permission denied, or read-only"),
        (0o600, 0o500, True, "its folder cannot be written: permission denied, or read-only"),
    ],
    ids=["write-only file", "closed file", "read-only file", "read-only folder", "new file in a read-only folder"],
)
def test_a_file_or_folder_that_permissions_close_is_refused(
    request, tmp_path, unprivileged, refusal, file_mode, folder_mode, is_new, cause
):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "registry.db"
    if not is_new:
        prepare(path)
        path.chmod(file_mode)
    folder.chmod(folder_mode)
    request.addfinalizer(lambda: folder.chmod(0o700))

    line = refusal(unprivileged, REGISTRY_DATABASE_CONNECTION=f"sqlite:///{path}")

    assert line == line_about(path, cause)
    assert [entry.name for entry in folder.iterdir()] == ([] if is_new else ["registry.db"])


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [
        ("api_colour", "red", "[api] colour (environment variable REGISTRY_API_COLOUR): unknown option; "),
        (
            "server_workers",
            "many",
            "[server] workers = 'many' (environment variable REGISTRY_SERVER_WORKERS): ",
        ),
        (
            "server_bind_port",
            "0",
            "[server] bind_port = '0' (environment variable REGISTRY_SERVER_BIND_PORT): ",
        ),
        ("database_connection", "mysql://u:secret@h/d", "[database] connection = 'mysql://…' (environment variable "),
        ("config", "missing.ini", "REGISTRY_CONFIG = 'missing.ini': No such file or directory"),
    ],
)
def test_an_option_that_is_refused_ends_the_start_and_creates_nothing(tmp_path, refusal, name, value, cause):
    line = refusal(**{f"REGISTRY_{name}".upper(): value})

    assert line.startswith(f"registry: {cause}")
    assert "secret" not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("starter", ["gunicorn"], indirect=True)
def test_a_port_in_use_is_refused_and_creates_nothing(tmp_path, refusal):
    with socket.create_server(("127.0.0.1", 0)) as occupier:
        port = occupier.getsockname()[1]
        line = refusal(port=port)

    assert line == f"registry: [server] bind_host, bind_port = 127.0.0.1, {port}: {os.strerror(errno.EADDRINUSE)}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("starter", ["gunicorn"], indirect=True)
@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "a..b", "a" * 64])
def test_an_address_that_is_not_this_machine_s_is_refused_and_creates_nothing(tmp_path, refusal, host):
    port = free_port()

    line = refusal(port=port, REGISTRY_SERVER_BIND_HOST=host)

    assert line.startswith(f"registry: [server] bind_host, bind_port = {host}, {port}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("host", "cause"),
    [("127.0.0.1", "Address already in use"), ("192.0.2.1", os.strerror(errno.EADDRNOTAVAIL))],
    ids=["port in use", "another machine's address"],
)
def test_flask_run_says_without_a_traceback_that_it_cannot_listen(database_path, host, cause):
    variables = {**clean_environment(), **environment(database_path, auth__allow_open_network="true")}
    with socket.create_server(("127.0.0.1", 0)) as occupier:
        command = [*command_of("flask", occupier.getsockname()[1]), "--host", host]
        options = {"env": variables, "capture_output": True, "text": True, "timeout": 30}
        process = subprocess.run(command, check=False, cwd=ROOT, **options)

    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert process.stderr.partition("\n")[0] == cause


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.exhaustive
def test_a_new_database_is_for_its_owner_alone(start_server, database_path):
    server = start_server()

    status, *_ = server.request("POST", "/images", {"image": IMAGE})

    files = [database_path, *(database_path.with_name(f"registry.db-{end}") for end in ("wal", "shm"))]
    assert status == 200
    assert [mode_of(path) for path in files] == [0o600] * 3
    assert sorted(database_path.parent.iterdir()) == sorted(files)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660, 0o644], ids=oct)
def test_an_empty_file_is_taken_as_a_new_database_and_keeps_its_mode(make_client, database_path, mode):
    database_path.touch()
    database_path.chmod(mode)

    response = make_client().post("/images", json={"image": IMAGE})

    assert response.status_code == 200
    files = [database_path, *(database_path.with_name(f"registry.db-{end}") for end in ("wal", "shm"))]
    assert [mode_of(path) for path in files] == [mode] * 3


def test_a_database_keeps_its_mode_and_its_images_over_a_new_start(make_client, database_path):
    make_client().post("/images", json={"image": {**IMAGE, "is_public": True}})
    database_path.chmod(0o640)

    images = make_client().get("/images").json["images"]

    assert [image["name"] for image in images] == [IMAGE["name"]]
    assert mode_of(database_path) == 0o640


def test_flask_run_refuses_an_open_network_with_flavor_none(database_path):
    command = [*command_of("flask", free_port()), "--host", "0.0.0.0"]
    options = {"env": {**clean_environment(), **environment(database_path)}, "capture_output": True, "text": True}

    process = subprocess.run(command, check=False, cwd=ROOT, timeout=30, **options)

    assert process.returncode == 1
    assert "set [auth] allow_open_network = true" in process.stderr
    assert len(process.stderr.splitlines()) == 1
    assert not database_path.exists()


@pytest.mark.parametrize("starter", ["flask"], indirect=True)
def test_flask_run_refuses_trusted_auth_as_it_cannot_tell_a_header_that_comes_twice(refusal, database_path):
    line = refusal(REGISTRY_AUTH_FLAVOR="trusted-auth")

    assert line.startswith("registry: [auth] flavor = trusted-auth cannot be served by flask run, ")
    assert not database_path.exists()


@pytest.mark.parametrize("starter", ["gunicorn"], indirect=True)
def test_another_worker_than_ours_is_refused_with_trusted_auth(refusal, database_path):
    line = refusal(REGISTRY_AUTH_FLAVOR="trusted-auth", GUNICORN_CMD_ARGS="--worker-class gthread")

    assert line.startswith("registry: [auth] flavor = trusted-auth cannot be served by gunicorn's worker gthread, ")
    assert not database_path.exists()


def test_flask_run_drops_names_with_underscores_and_takes_no_token_that_comes_twice(database_path):
    port = free_port()
    options = {"auth__flavor": "token", "auth__allow_anonymous_access": "true"}
    variables = {**clean_environment(), **environment(database_path, **options)}
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command_of("flask", port), cwd=ROOT, env=variables, **output)

    try:
        first_answer(process, f"http://127.0.0.1:{port}/images")
        with closing(engine.database):
            engine.open_database(read_settings(variables).database)
            _, token = auth.create_token("acme", ["member"])
        statuses = [
            answer_to(SimpleNamespace(port=port), *lines)
            for lines in (
                ("X_Auth_Token: unknown",),
                ("X-Auth-Token: unknown",),
                (f"X-Auth-Token: {token}",),
                (f"X-Auth-Token: {token}", f"X-Auth-Token: {token}"),
                (f"Authorization: Bearer {token}", f"Authorization: Bearer {token}"),
            )
        ]
    finally:
        process.terminate()
        process.wait(timeout=30)

    assert statuses == [200, 401, 200, 401, 401]


def test_flask_run_prepares_a_new_database_and_serves_it(database_path):
    port = free_port()
    variables = {**clean_environment(), **environment(database_path)}
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command_of("flask", port), cwd=ROOT, env=variables, **output)

    try:
        answer = first_answer(process, f"http://127.0.0.1:{port}/images")
    finally:
        process.terminate()
        process.wait(timeout=30)

    assert answer == b'{"images":[]}'
    assert mode_of(database_path) == 0o600


def first_answer(process, url, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.read()
        except OSError:
            time.sleep(0.05)  # polling, with a deadline
    raise AssertionError("it did not answer")
