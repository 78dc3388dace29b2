"""Served on a Unix socket, whose file's permissions say who may connect."""

import http.client
import json
import shutil
import socket
import stat
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import IMAGE, ROOT, clean_environment, environment, identity


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


@pytest.fixture
def start_on_socket(tmp_path_factory):
    """A function: the path of the socket of a running server, with options, and a function that ends it."""
    processes = []

    def stop():
        processes[-1].terminate()
        return processes[-1].communicate(timeout=60)[0]

    def start(*arguments, **options):
        folder = tmp_path_factory.mktemp("unix")  # a socket's path has room for a hundred bytes
        path = folder / "socket"
        command = [Path(sys.executable).with_name("gunicorn"), "--bind", f"unix:{path}"]
        command += [*arguments, "registry:create_app()"]
        variables = {**clean_environment(), **environment(folder / "registry.db", **options)}
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen(command, cwd=ROOT, env=variables, **output))
        deadline = time.monotonic() + 30
        while not path.exists():
            assert processes[-1].poll() is None, processes[-1].stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)  # polling, with a deadline
        return path, stop

    yield start
    for process in processes:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)


def ask(path, method, target, body=None, headers=()):
    """(status, parsed JSON or None)"""
    with closing(UnixConnection(path)) as connection:
        content = None if body is None else json.dumps(body)
        connection.request(method, target, content, {"Content-Type": "application/json", **dict(headers)})
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None


@pytest.mark.exhaustive
def test_flavor_none_may_be_served_on_a_unix_socket_and_all_requests_work(start_on_socket):
    path, stop = start_on_socket()

    created, answer = ask(path, "POST", "/images", {"image": IMAGE})
    target = f"/images/{answer['image']['id']}"
    others = [
        ask(path, "GET", target)[0],
        ask(path, "PUT", target, {"image": {"name": "renamed"}})[0],
        ask(path, "PUT", f"{target}/members/acme")[0],
        ask(path, "DELETE", target)[0],
        ask(path, "GET", "/images", headers={"Host": "evil.example"})[0],
    ]

    assert (created, others) == (200, [200, 200, 204, 200, 400])
    assert f"Try: curl --unix-socket {path} http://localhost/images\n" in stop()


@pytest.mark.exhaustive
@pytest.mark.parametrize(("arguments", "mode"), [((), 0o770), (("--umask", "0o077"), 0o700)], ids=["by itself", "told"])
def test_the_socket_is_for_our_user_and_group_and_what_is_written_there_for_us(start_on_socket, arguments, mode):
    path, _ = start_on_socket(*arguments)

    assert ask(path, "POST", "/images", {"image": IMAGE})[0] == 200
    files = [path.with_name(f"registry.db{end}") for end in ("", "-wal", "-shm")]
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 3


@pytest.mark.exhaustive
@pytest.mark.parametrize("proxies", ["127.0.0.1/32", ""])
def test_identity_headers_count_on_a_unix_socket(start_on_socket, proxies):
    path, _ = start_on_socket(auth__flavor="trusted-auth", auth__trusted_proxies=proxies)

    status, answer = ask(path, "POST", "/images", {"image": IMAGE}, identity("owner"))

    assert (status, answer["image"]["owner"]) == (200, "owner")
    target = f"/images/{answer['image']['id']}"
    assert ask(path, "GET", target, headers=identity("stranger"))[0] == 404
    assert ask(path, "GET", target, headers=identity("admin"))[0] == 200
    assert ask(path, "GET", target)[0] == 401
    assert ask(path, "GET", target, headers={"X-Forwarded-For": "127.0.0.1"})[0] == 401


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_asks_as_the_server_says_it_may_be_asked(start_on_socket):
    path, _ = start_on_socket()
    command = ["curl", "--silent", "--show-error", "--unix-socket", path, "http://localhost/images"]

    assert subprocess.run(command, check=True, capture_output=True, timeout=30).stdout == b'{"images":[]}'
