"""SIGHUP with another database: it is made ready as at a start, or nothing changes."""

import os
import select
import signal
import time
from pathlib import Path

import pytest
from conftest import IMAGE, Server, free_port


@pytest.fixture
def start(tmp_path):
    """A function: a running server whose database its configuration's file names; how to name another one."""
    servers = []
    file = tmp_path / "registry.ini"

    def write(name):
        file.write_text(f"[database]\nconnection = sqlite:///{tmp_path / name}\n")

    def run():
        write("first.db")
        port = free_port()
        server = Configured(file, port)
        servers.append(server)
        return server.wait_until_ready(), write

    yield run
    for server in servers:
        server.stop()


class Configured(Server):
    """As ``Server``, with no option but the file's and the port."""

    def __init__(self, file, port):
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.start({"REGISTRY_CONFIG": str(file), "REGISTRY_SERVER_BIND_PORT": str(port)})


def reload(server):
    """Sends SIGHUP; what is printed until the workers are others, or the reload is refused."""
    before, printed = workers_of(server), b""
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 60
    while b"Not reloaded" not in printed and set(before) & set(workers_of(server)):
        assert time.monotonic() < deadline, printed
        if select.select([server.process.stdout], [], [], 0.1)[0]:
            printed += os.read(server.process.stdout.fileno(), 65536)
    return printed.decode()


def workers_of(server):
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def names(server):
    status, _, answer = server.request("GET", "/images?is_public=none")
    return [image["name"] for image in answer["images"]] if status == 200 else status


def test_another_database_is_made_ready_and_then_the_first_one_again(start):
    server, name_database = start()
    server.request("POST", "/images", {"image": {**IMAGE, "name": "first"}})

    found = []
    for name in ("second.db", "third.db", "first.db", "second.db"):
        name_database(name)
        assert "Not reloaded" not in reload(server)
        found.append(names(server))
        server.request("POST", "/images", {"image": {**IMAGE, "name": name}})

    assert found == [[], [], ["first"], ["second.db"]]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "cause"), [("none/registry.db", "its folder does not exist"), ("registry.ini", "is not a SQLite database")]
)
def test_a_database_that_a_start_would_refuse_is_refused_and_the_present_one_served(start, name, cause):
    server, name_database = start()
    server.request("POST", "/images", {"image": {**IMAGE, "name": "first"}})
    workers = workers_of(server)

    for _ in range(2):
        name_database(name)
        printed = reload(server)

        assert "Not reloaded, and serving as before: registry: [database] connection = " in printed
        assert cause in printed
        assert names(server) == ["first"]
    assert workers_of(server) == workers
    name_database("second.db")
    assert "Not reloaded" not in reload(server)
    assert names(server) == []
