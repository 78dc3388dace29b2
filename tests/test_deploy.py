"""Files of deploy/ and the Containerfile: checked by systemd's own tools, and run step by step."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment, environment, free_port

from config import OPTIONS
from server import startup_checks

UNITS = [ROOT / "deploy" / name for name in ("registry.service", "registry.socket")]
CONTAINERFILE = ROOT / "Containerfile"
BIN = Path(sys.executable).parent
MOST_EXPOSED = 2.0


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"there is no {program} here")


def settings_of(unit):
    """[(name, value)] in the order in which they stand."""
    lines = [line for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return [tuple(line.split("=", 1)) for line in lines]


@pytest.fixture
def units(tmp_path):
    """Copies of the units, that name this environment's programs."""
    folder = tmp_path / "units"
    folder.mkdir()
    for unit in UNITS:
        text = unit.read_text().replace("/opt/registry/.venv/bin", str(BIN)).replace("/opt/registry", str(ROOT))
        (folder / unit.name).write_text(text)
    return [folder / unit.name for unit in UNITS]


@needs("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(units):
    done = subprocess.run(["systemd-analyze", "verify", *units], check=False, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


@needs("systemd-analyze")
def test_a_planted_mistake_in_a_unit_is_found(units):
    units[0].write_text(units[0].read_text().replace("ProtectHome=", "ProtectHouse="))

    done = subprocess.run(["systemd-analyze", "verify", *units], check=False, capture_output=True, text=True)

    assert "ProtectHouse" in done.stderr


@needs("systemd-analyze")
def test_the_service_is_exposed_to_little_by_systemd_s_own_measure(units):
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", units[0]]
    done = subprocess.run(command, check=False, capture_output=True, text=True)

    exposure = float(re.search(r"exposure level for registry.service: ([\d.]+)", done.stdout)[1])
    assert exposure <= MOST_EXPOSED


def test_systemd_does_not_break_off_a_start_that_brings_a_large_database_up():
    """Broken off, it begins anew at the next start: with systemd's 90 seconds it might never come to its end."""
    assert dict(settings_of(UNITS[0]))["TimeoutStartSec"] == "infinity"


def test_the_units_set_options_that_exist_and_listen_where_the_default_does():
    service, socket_unit = map(settings_of, UNITS)
    variables = re.findall(r"REGISTRY_[A-Z_]+", " ".join(value for name, value in service if name == "Environment"))

    assert variables == ["REGISTRY_CONFIG"]
    assert dict(socket_unit)["ListenStream"] == "127.0.0.1:9191"


@pytest.mark.exhaustive
def test_the_commands_of_a_service_are_on_its_database(tmp_path, database_path):
    """Both read the one file that both name, and no other place has an option."""
    installed = {"/opt/registry": str(ROOT), "/etc/registry": str(tmp_path), "/var/lib/registry": str(tmp_path)}
    for name in ("registry", "registry.ini"):
        text = (ROOT / "deploy" / name).read_text()
        for old, new in installed.items():
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
    run = {"cwd": "/", "capture_output": True, "text": True, "timeout": 60}
    served = {**clean_environment(), "REGISTRY_CONFIG": str(tmp_path / "registry.ini")}
    command = [BIN / "python", "-c", "import config; print(config.read_settings().database.path)"]
    service = subprocess.run(command, check=True, env=served, **{**run, "cwd": ROOT})

    run["env"] = clean_environment()
    create = ["create", "cirros", "--disk-format", "qcow2"]
    made = subprocess.run(["sh", tmp_path / "registry", *create], check=True, **run)
    checked = subprocess.run(["sh", tmp_path / "registry", "check"], check=True, **run)

    assert "REGISTRY_CONFIG=/etc/registry/registry.ini" in (ROOT / "deploy" / "registry.service").read_text()
    assert service.stdout.strip() == str(database_path)
    assert database_path.exists()
    assert made.stdout
    assert checked.stderr == "checked 1 images: no faults\n"


@pytest.fixture
def activated(database_path):
    """A function: (process, port) of the service's command as systemd starts it, on the first connection."""
    started = []

    def activate(address, **variables):
        command = shlex.split(dict(settings_of(UNITS[0]))["ExecStart"].replace("/opt/registry/.venv/bin", str(BIN)))
        passed = {**environment(database_path), "REGISTRY_LOG_FORMAT": "json", **variables}
        options = [f"--setenv={name}={value}" for name, value in passed.items()]
        program = ["systemd-socket-activate", f"--listen={address}", *options, *command]
        process = subprocess.Popen(program, cwd=ROOT, env=clean_environment(), stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield activate
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def connect_to(port, seconds=30):
    deadline = time.monotonic() + seconds
    while True:
        with suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), timeout=30)
        assert time.monotonic() < deadline
        time.sleep(0.05)  # polling, with a deadline


def answer_of(port, path, seconds=30):
    """Who connects first starts the server, and is answered by it."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)  # polling, with a deadline


@pytest.mark.exhaustive
@needs("systemd-socket-activate")
def test_a_connection_starts_it_and_systemd_is_told_that_it_is_ready(activated, tmp_path):
    port = free_port()
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(30)
        activated(f"127.0.0.1:{port}", NOTIFY_SOCKET=tmp_path / "notify")

        assert json.loads(answer_of(port, "/healthcheck?detail"))["status"] == "ok"
        assert b"READY=1" in notified.recv(4096)


@needs("systemd-socket-activate")
def test_a_socket_of_systemd_s_that_is_open_to_the_network_is_not_served_with_flavor_none(activated, database_path):
    port = free_port()
    process = activated(f"0.0.0.0:{port}")

    connect_to(port).close()

    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == f"registry: {startup_checks.OPEN_NETWORK.format('0.0.0.0')}"
    assert not database_path.exists()


# The Containerfile


def instructions():
    """[(name, the rest)], continued lines joined."""
    text = re.sub(r"\\\n", " ", CONTAINERFILE.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines]


def last(name):
    return [rest for found, rest in instructions() if found == name][-1]


def variables_of_container():
    return dict(part.split("=", 1) for part in shlex.split(last("ENV")))


def test_the_container_runs_as_nobody_special_from_a_small_image_with_its_database_on_a_volume():
    variables = variables_of_container()

    assert {rest.split()[0] for name, rest in instructions() if name == "FROM"} == {
        "docker.io/library/python:3.13-slim"
    }
    assert last("USER") == "registry"
    assert variables["REGISTRY_DATABASE_CONNECTION"] == f"sqlite:///{last('VOLUME')}/registry.db"
    assert {name for name in variables if name.startswith("REGISTRY_")} <= {option.environment for option in OPTIONS}
    assert "--require-hashes" in CONTAINERFILE.read_text()
    assert [name for name, _ in instructions()].index("USER") < [name for name, _ in instructions()].index("CMD")


def ignored(path):
    """Whether podman and docker leave out what has this path in the clone: patterns begin there, ``*`` ends at a /."""
    patterns = [line for line in (ROOT / ".containerignore").read_text().splitlines() if line and line[0] != "#"]
    is_ignored = False
    for pattern in patterns:
        parts = re.split(r"(\*\*/|\*)", pattern.removeprefix("!"))
        expression = "".join({"**/": "(.*/)?", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)
        if re.fullmatch(expression, path):
            is_ignored = not pattern.startswith("!")
    return is_ignored


def left_out(folder, names):
    return {name for name in names if ignored(os.path.relpath(os.path.join(folder, name), ROOT))}


SECRETS = ("registry.db", "registry.db-wal", "registry.db.key", "tls.key", "cert.pem", "config.ini", ".x.db.0a1b.part")
SECRETS += ("images.ndjson", "images.ndjson.gz", "images.ndjson.zst")


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("folder", ["", "backups/", "deploy/of/ours/"])
def test_what_is_secret_stays_out_of_the_container_wherever_it_lies(folder, name):
    assert ignored(f"{folder}{name}")
    assert not ignored(f"{folder}registry.py")


@pytest.fixture
def container(tmp_path):
    """A folder with what the container would have, its variables, and its port."""
    folder, data = tmp_path / "registry", tmp_path / "data"
    shutil.copytree(ROOT, folder, ignore=left_out)
    data.mkdir()
    variables = {name: value.replace("/data", str(data)) for name, value in variables_of_container().items()}
    path = variables["PATH"].replace("/venv/bin", str(BIN)).replace("$PATH", os.environ["PATH"])
    port = free_port()
    return folder, {**clean_environment(), **variables, "PATH": path, "REGISTRY_SERVER_BIND_PORT": str(port)}, port


def test_no_database_key_or_environment_comes_into_the_container(container):
    folder, *_ = container

    found = {path.name for path in folder.rglob("*")}
    assert {"registry.py", "gunicorn.conf.py", "openapi.json", "rapidoc-min.js", "config.example.ini"} <= found
    assert {name for name in found if name.endswith((".db", ".key", ".pyc"))} == set()
    assert not {".git", ".venv", "tests", "bench"} & found


@pytest.mark.exhaustive
def test_the_container_s_command_serves_whoever_has_a_token_and_is_healthy(container):
    folder, variables, port = container
    process = subprocess.Popen(json.loads(last("CMD")), cwd=folder, env=variables, stderr=subprocess.DEVNULL)
    try:
        assert json.loads(answer_of(port, "/healthcheck")) == {"status": "ok"}
        probe = json.loads(last("HEALTHCHECK").partition(" CMD ")[2])
        healthy = subprocess.run(probe, check=False, cwd=folder, env=variables, timeout=30)
        command = ["flask", "--app", "registry", "token", "create", "--role", "admin"]
        made = subprocess.run(command, cwd=folder, env=variables, check=True, capture_output=True, text=True)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/images", headers={"X-Auth-Token": made.stdout.strip()}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            listed = answer.read()
    finally:
        process.send_signal(getattr(signal, last("STOPSIGNAL")))
        assert process.wait(timeout=60) == 0

    assert healthy.returncode == 0
    assert listed == b'{"images":[]}'
    sick = subprocess.run(probe, check=False, cwd=folder, env=variables, capture_output=True, text=True, timeout=30)
    assert sick.returncode == 1
    assert sick.stderr.startswith("registry: the server does not respond: ")


@pytest.mark.exhaustive
@pytest.mark.parametrize("has_certificate", [False, True])
def test_a_container_lives_while_another_writes_for_minutes_and_whether_it_speaks_tls(
    start_server, database_path, certificate, has_certificate
):
    """An import holds the lock until it ends: a restart would not help."""
    options = {"auth__flavor": "token", "server__bind_host": "0.0.0.0", "server__bind_port": free_port()}
    if has_certificate:
        options |= {"server__certfile": certificate[0], "server__keyfile": certificate[1]}
    variables = {**clean_environment(), **environment(database_path, **options)}
    probe = [sys.executable, *json.loads(last("HEALTHCHECK").partition(" CMD ")[2])[1:]]
    process = subprocess.Popen([BIN / "gunicorn", "registry:create_app()"], cwd=ROOT, env=variables)
    try:
        connect_to(options["server__bind_port"]).close()
        with closing(sqlite3.connect(database_path, isolation_level=None)) as locker:
            locker.execute("BEGIN IMMEDIATE")
            done = subprocess.run(probe, check=False, cwd=ROOT, env=variables, capture_output=True, timeout=30)
    finally:
        process.terminate()
        process.wait(timeout=60)

    assert (done.returncode, done.stderr) == (0, b"")
