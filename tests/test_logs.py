"""Logs: one line per request, for people or machines, without confidential values."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import FLASK, IMAGE, ROOT, clean_environment, environment, free_port, identity

GUNICORN = [Path(sys.executable).with_name("gunicorn"), "registry:create_app()"]
SECRET = "swordfish"
ID = "6bd1ba1f-6e6f-4f1e-a5a1-64d2e1a3b0c5"
JSON = {"Content-Type": "application/json"}


class LoggedServer:
    """A server whose standard error goes where a test says: a file, a device, a terminal."""

    def __init__(self, database_path, errors, command=GUNICORN, **options):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        options = {"server__bind_port": self.port, "log__requests": "true", "log__format": "auto", **options}
        variables = {**clean_environment(), **environment(database_path, **options)}
        command = [part.format(port=self.port) if isinstance(part, str) else part for part in command]
        output = {"stdout": subprocess.DEVNULL, "stderr": errors}
        self.process = subprocess.Popen(command, cwd=ROOT, env=variables, **output)

    def ask(self, path, method="GET", content=None, **headers):
        """The status."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | (JSON if content else {})
        request = urllib.request.Request(self.url + path, content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                answer.read()
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def wait(self, seconds=30):
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError):
                self.ask("/healthcheck")
                return self
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)  # polling, with a deadline

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@pytest.fixture
def start(database_path):
    servers = []

    def start_logged(errors, **options):
        servers.append(LoggedServer(database_path, errors, **options))
        return servers[-1].wait()

    yield start_logged
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def log_of(start, tmp_path):
    """A function: what is logged while ``work(server)`` is done, from start to end."""
    path = tmp_path / "log"

    def log(work, **options):
        with path.open("wb") as file:
            server = start(file, **options)
            work(server)
            assert server.stop() == 0
        return path.read_text(encoding="utf-8")

    return log


def requests_of(log):
    """In the order in which they were answered: each worker writes its lines together."""
    lines = [json.loads(line) for line in log.splitlines()]
    found = [line for line in lines if line["message"] == "request" and line["route"] != "/healthcheck"]
    return sorted(found, key=lambda line: line["time"])


@pytest.mark.exhaustive
def test_a_request_is_one_json_line_with_what_an_operator_asks_for(log_of):
    def work(server):
        assert server.ask("/images?name=debian", X_Openstack_Request_Id="req-mine", **as_headers("acme")) == 200

    (line,) = requests_of(log_of(work, auth__flavor="trusted-auth"))

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("time"))
    assert line.pop("pid") > 0
    assert 0 < line.pop("ms") < 30_000
    assert line == {
        "level": "info",
        "message": "request",
        "request_id": "req-mine",
        "method": "GET",
        "route": "/images",
        "status": 200,
        "bytes": len('{"images":[]}'),
        "tenant": "acme",
    }


def as_headers(caller):
    return {name.replace("-", "_"): value for name, value in identity(caller).items()}


@pytest.mark.exhaustive
def test_every_line_is_json_those_of_the_server_too_and_says_who_booted(log_of):
    lines = [json.loads(line) for line in log_of(lambda server: None).splitlines()]

    messages = [line["message"] for line in lines]
    assert {line["level"] for line in lines} == {"info"}
    assert any(message.startswith("Starting gunicorn") for message in messages)
    assert any(message.startswith("The image registry serves sqlite:///") for message in messages)
    assert sum(message.startswith("Booting worker") for message in messages) == 2


@pytest.mark.exhaustive
def test_no_line_has_a_token_a_location_a_body_a_query_or_an_id(log_of):
    image = {**IMAGE, "name": f"{SECRET}-name", "location": f"http://user:{SECRET}@host/image"}
    body = json.dumps({"image": image}).encode()

    def work(server):
        assert server.ask("/images", "POST", body, **as_headers("admin")) == 200
        assert server.ask("/images", "POST", body[:-1], **as_headers("admin")) == 400
        assert server.ask(f"/images?name={SECRET}&property-{SECRET}=1", **as_headers("admin")) == 200
        assert server.ask(f"/images/{SECRET}", **as_headers("admin")) == 404
        assert server.ask(f"/images/x/members/{SECRET}", "PUT", **as_headers("admin")) == 404
        assert server.ask(f"/{SECRET}", **as_headers("admin")) == 404
        assert server.ask("/images", Authorization=f"Bearer {SECRET}", X_Auth_Token=SECRET) == 401

    log = log_of(work, auth__flavor="trusted-auth")

    assert [line["status"] for line in requests_of(log)] == [200, 400, 200, 404, 404, 404, 401]
    assert SECRET not in log


@pytest.mark.exhaustive
def test_what_is_logged_of_a_failure_has_the_route_for_the_path(log_of, database_path):
    def work(server):
        asked = as_headers("admin")
        body = json.dumps({"image": IMAGE}).encode()
        assert server.ask("/images", "POST", json.dumps({"image": {**IMAGE, "id": ID}}).encode(), **asked) == 200
        with contextlib.closing(sqlite3.connect(database_path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert server.ask(f"/images/{ID}/members/{SECRET}", "PUT", **asked) == 503
            assert server.ask(f"/images/{ID}", "PUT", body, **asked) == 503
            other.execute("ROLLBACK")
            other.execute("ALTER TABLE member RENAME TO elsewhere")
            assert server.ask(f"/shared-images/{SECRET}", **asked) == 500
            other.execute("ALTER TABLE elsewhere RENAME TO member")

    log = log_of(work, auth__flavor="trusted-auth", database__busy_timeout=0)

    failures = [json.loads(line) for line in log.splitlines() if '"level":"error"' in line]
    told = [line["message"].partition(" ")[2] for line in failures if line["message"] != "request"]
    assert told == [
        "PUT /images/{image_id}/members/{member_id}: database is locked",
        "PUT /images/{image_id}: database is locked",
        "GET /shared-images/{member_id}",
    ]
    assert SECRET not in log
    assert ID not in log


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "content",
    [
        f"GET /images HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token {SECRET}\r\n\r\n",
        f"GET /images?name={SECRET}\r\n\r\n",
        f"{SECRET} /images HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET /images HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {SECRET}\r\n\r\n",
    ],
)
def test_what_cannot_be_read_as_a_request_is_logged_without_what_it_says(log_of, content):
    def work(server):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(content.encode())
            while connection.recv(65536):
                pass

    log = log_of(work)

    assert "Invalid request from ip=127.0.0.1: " in log
    assert SECRET not in log


@pytest.mark.exhaustive
def test_what_a_client_sends_makes_no_second_line(log_of):
    forged = 'a" ☃ {"message":"request"}'

    def work(server):
        assert server.ask("/images", **{**as_headers("acme"), "X_Tenant_Id": forged.encode().decode("latin-1")}) == 200
        assert server.ask("/images", X_Openstack_Request_Id="x y") == 401

    first, second = requests_of(log_of(work, auth__flavor="trusted-auth"))

    assert first["tenant"] == forged
    assert re.fullmatch(r"req-[0-9a-f-]{36}", second["request_id"])


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("options", "statuses"),
    [
        ({"log__requests": "false"}, []),
        ({"log__level": "warning"}, [503]),
        ({"log__level": "info"}, [404, 503]),
    ],
    ids=str,
)
def test_lines_can_be_had_for_failures_alone_or_not_at_all(log_of, database_path, options, statuses):
    def work(server):
        assert server.ask("/nowhere") == 404
        database_path.unlink()
        assert server.ask("/images") == 503

    log = log_of(work, database__busy_timeout=0, **options)

    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["status"] for line in requests_of(log)] == statuses
    is_quiet = options == {"log__level": "warning"}
    assert any(line["message"].startswith("Starting gunicorn") for line in lines) != is_quiet


@pytest.mark.exhaustive
def test_a_terminal_has_lines_for_people(start):
    terminal, errors = pty.openpty()
    server = start(errors)
    server.ask("/nowhere")

    text = read_until(terminal, "unmatched")
    server.stop()
    os.close(errors)
    os.close(terminal)

    assert re.search(r"\[INFO\] GET unmatched 404 \d+\.\d ms \d+ B req-[0-9a-f-]{36}\r?\n", text)
    assert "[INFO] Booting worker" in text


def read_until(terminal, wanted, seconds=30):
    text, deadline = "", time.monotonic() + seconds
    while not re.search(f"{wanted}.*\n", text):
        assert time.monotonic() < deadline
        if select.select([terminal], [], [], 1)[0]:
            text += os.read(terminal, 65536).decode()
    return text


@pytest.mark.exhaustive
def test_a_log_that_cannot_be_written_is_no_reason_not_to_answer(start):
    with Path("/dev/full").open("wb") as full:
        server = start(full)

        assert [server.ask("/images") for _ in range(20)] == [200] * 20
        # Nor to end a worker: it writes a second later at most, and would be replaced.
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            assert server.ask("/images") == 200
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
            assert b"registry_worker_starts_total 2.0\n" in answer.read()


@pytest.mark.exhaustive
@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-"])
def test_without_standard_error_requests_are_answered_and_counted_all_the_same(database_path, closed):
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *GUNICORN]
    server = LoggedServer(database_path, subprocess.DEVNULL, command).wait()

    statuses = [server.ask("/images") for _ in range(20)]
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        counts = answer.read()

    assert server.stop() == 0
    assert statuses == [200] * 20
    assert b"registry_worker_starts_total 2.0\n" in counts


def test_flask_run_logs_requests_by_the_same_lines(database_path, tmp_path):
    with (tmp_path / "log").open("wb") as file:
        server = LoggedServer(database_path, file, [*FLASK, "run", "--port", "{port}"]).wait()
        assert server.ask("/images?secret=1") == 200
        server.stop()

    log = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [line["route"] for line in lines if line["message"] == "request"][-1] == "/images"
    assert any("Running on" in line["message"] for line in lines)
    assert "secret" not in log
    assert any("Press CTRL+C" in line["message"] for line in lines)
    assert "\\u001b" not in log


def test_a_command_that_uses_the_application_logs_no_requests(client, capfd):
    assert client.get("/images").status_code == 200

    assert capfd.readouterr() == ("", "")
