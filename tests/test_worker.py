"""WSGI environment of the worker: the sender of a request, and duplicate headers."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import gunicorn
import pytest
from conftest import ROOT, clean_environment


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """The Unix socket of an application that shows what the worker handed it."""
    path = tmp_path_factory.mktemp("mirror") / "socket"
    command = [Path(sys.executable).with_name("gunicorn"), "--pythonpath", ROOT / "tests", "--config", settings(path)]
    process = subprocess.Popen([*command, "faults.mirror:application"], cwd=ROOT, env=clean_environment())
    deadline = time.monotonic() + 30
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)  # polling, with a deadline
    yield path
    process.terminate()
    assert process.wait(timeout=60) == 0


def settings(path):
    """gunicorn.conf.py, but for the database that it prepares, and on a Unix socket beside TCP."""
    changed = path.with_name("gunicorn.conf.py")
    text = (ROOT / "gunicorn.conf.py").read_text().replace("    migrations.prepare(settings.database)\n", "    pass\n")
    text = text.replace("os.path.dirname(os.path.abspath(__file__))", repr(str(ROOT)))
    changed.write_text(f"{text}\nbind = ['unix:{path}', '127.0.0.1:{port_of(path)}']\n")
    return changed


def port_of(path):
    port = path.with_name("port")
    if not port.exists():
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port.write_text(str(probe.getsockname()[1]))
    return int(port.read_text())


def shown(connection, *headers):
    with connection:
        connection.sendall(
            "\r\n".join(["GET / HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]).encode()
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def over_tcp(path):
    return socket.create_connection(("127.0.0.1", port_of(path)), timeout=30)


def over_unix(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(os.fspath(path))
    return connection


def test_a_header_that_comes_twice_is_marked(mirror):
    found = shown(over_tcp(mirror), "X-Roles: member", "X-Tenant-Id: a", "x-roles: admin", "X-Other: 1")

    assert found["repeated"] == ["X-ROLES"]
    assert found["HTTP_X_ROLES"] == "member,admin"


def test_headers_that_come_once_are_not_marked(mirror):
    assert shown(over_tcp(mirror), "X-Roles: member, admin")["repeated"] == []


@pytest.mark.parametrize(("connect", "peer"), [(over_tcp, "127.0.0.1"), (over_unix, "")])
def test_the_peer_is_the_socket_s_and_never_a_header_s(mirror, connect, peer):
    forged = ("X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1", "Forwarded: for=192.0.2.1")

    assert shown(connect(mirror), *forged)["peer"] == peer


def test_a_name_with_an_underscore_is_dropped(mirror):
    assert "HTTP_X_TENANT_ID" not in shown(over_tcp(mirror), "X_Tenant_Id: forged", "X_TENANT-ID: forged")


def test_the_worker_fits_the_pinned_gunicorn():
    """RegistryWorker overrides methods of ThreadWorker; review it before a version is added here."""
    assert gunicorn.__version__ in ("27.0.1",)
