"""Served otherwise than by our gunicorn's settings: the application itself holds who may ask, and who they are."""

import os
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import IMAGE, ROOT, answer_to, clean_environment, environment, free_port, identity

import migrations
from config import read_settings

GUNICORN = Path(sys.executable).with_name("gunicorn")
APPLICATION = "registry:create_app()"
WSGIREF = "import sys; from wsgiref.simple_server import make_server; from registry import create_app; "
WSGIREF += "make_server(sys.argv[1], int(sys.argv[2]), create_app()).serve_forever()"
# How to start a server that does not read our gunicorn.conf.py, or not as it is meant.
STARTERS = {
    "wsgiref": lambda host, port: [sys.executable, "-c", WSGIREF, host, port],
    "gunicorn from elsewhere": lambda host, port: [GUNICORN, "--chdir", ROOT, "-b", f"{host}:{port}", APPLICATION],
    "gunicorn without settings": lambda host, port: [
        *(GUNICORN, "-c", "/dev/null", "--chdir", ROOT, "-b", f"{host}:{port}", APPLICATION)
    ],
    "gunicorn with threads": lambda host, port: [
        *(GUNICORN, "-c", "/dev/null", "--threads", "2", "--chdir", ROOT, "-b", f"{host}:{port}", APPLICATION)
    ],
}
every_starter = pytest.mark.parametrize("starter", STARTERS)
CONFIRMED = [f"{name}: {value}" for name, value in identity("owner").items()]


@pytest.fixture
def serve(database_path, tmp_path):
    """A function: runs the application so, on a prepared database, from another folder; its port."""

    @contextmanager
    def run(starter, host="127.0.0.1", **options):
        port = free_port()
        variables = environment(database_path, **options)
        migrations.prepare(read_settings(variables).database)
        command = [str(part) for part in STARTERS[starter](host, port)]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        variables |= {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=tmp_path, env={**clean_environment(), **variables}, **silent)
        try:
            wait_for(process, port)
            yield port
        finally:
            process.terminate()
            process.wait(timeout=60)

    return run


def wait_for(process, port):
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)  # polling, with a deadline
        else:
            return


@pytest.fixture
def own_address():
    """One of this machine's that is not loopback: who connects to it is not from loopback either."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has loopback alone")
        return probe.getsockname()[0]


@pytest.mark.exhaustive
@every_starter
def test_a_server_that_cannot_tell_which_headers_come_twice_takes_no_identity(serve, starter):
    with serve(starter, auth__flavor="trusted-auth", auth__allow_anonymous_access="true") as port:
        server = SimpleNamespace(port=port)
        statuses = [
            answer_to(server, *lines)
            for lines in (CONFIRMED, [*CONFIRMED, "X-Roles: admin"], ["X-Identity-Status: Invalid"], [])
        ]

    assert statuses == [401, 401, 401, 200]


def test_the_refusal_says_what_is_missing(make_client):
    client = make_client(auth__flavor="trusted-auth")
    client.environ_base.clear()

    answer = client.get("/images", headers=identity("admin"), environ_overrides={"REMOTE_ADDR": "127.0.0.1"})

    assert answer.status_code == 401
    assert "gunicorn.conf.py" in answer.json["detail"]


@pytest.mark.exhaustive
@every_starter
def test_flavor_none_answers_this_machine_alone_however_it_was_bound(serve, starter, own_address):
    with serve(starter, host="0.0.0.0", server__trusted_hosts=own_address) as port:
        statuses = [answer_of(address, port) for address in ("127.0.0.1", own_address)]

    assert statuses == [200, 403]


def test_flavor_none_answers_others_where_the_network_is_allowed(serve, own_address):
    with serve("gunicorn without settings", host="0.0.0.0", auth__allow_open_network="true") as port:
        assert answer_of(own_address, port) == 200


def answer_of(address, port):
    """The status of a list asked of an address of this machine's."""
    with socket.create_connection((address, port), timeout=30) as connection:
        connection.sendall(b"GET /images HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            return int(answer.readline().split()[1])


@pytest.mark.parametrize(
    ("peer", "status"),
    [
        *[("127.0.0.1", 200), ("127.1.2.3", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("", 200)],
        *[("10.0.0.5", 403), ("::ffff:10.0.0.5", 403), ("fe80::1%eth0", 403), ("::2", 403), (None, 403), ("x", 403)],
    ],
)
def test_flavor_none_answers_and_obeys_peers_on_this_machine(client, peer, status):
    asked = {"environ_overrides": {"REMOTE_ADDR": peer}}

    answers = [client.get("/images", **asked), client.post("/images", json={"image": IMAGE}, **asked)]

    assert [answer.status_code for answer in answers] == [status] * 2
    assert status == 200 or "allow_open_network" in answers[0].json["detail"]
    assert len(client.get("/images?is_public=none").json["images"]) == (status == 200)


def test_settings_named_by_their_path_are_ours(database_path, tmp_path):
    """As docs/configuration.md says for a start from another folder."""
    command = [GUNICORN, "-c", ROOT / "gunicorn.conf.py", "--chdir", ROOT, "-b", "0.0.0.0:0", APPLICATION]
    variables = {**clean_environment(), **environment(database_path)}

    process = subprocess.run(
        [os.fspath(part) for part in command],
        check=False,
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert process.returncode == 1
    assert "allow_open_network = true" in process.stderr
