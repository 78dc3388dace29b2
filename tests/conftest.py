"""A real SQLite file, Flask's client on it, and real servers; nothing of ours is replaced."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support.browser import VIEWPORTS, forget, open_browser, resize
from support.commands import run_flask
from support.sampling import mark_exhaustive

import migrations
import models
from auth import DUPLICATE_HEADERS
from config import read_settings
from registry import create_app

ROOT = Path(__file__).parent.parent
FLASK = [Path(sys.executable).with_name("flask"), "--app", "registry"]
TENANT_OF = {"owner": "owner", "member": "member", "sharer": "sharer", "stranger": "stranger", "tenantless": ""}
# A shell's background job ignores SIGINT, and servers and commands that are started from it would do so, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
CALLERS = ("anonymous", "tenantless", "stranger", "member", "sharer", "owner", "admin")
IMAGE = {"name": "cirros", "status": "active", "disk_format": "qcow2", "container_format": "bare"}


def identity(caller):
    """The headers that a proxy in front sends for a caller; an admin has no tenant, "admin@acme" has one."""
    if caller == "anonymous":
        return {}
    roles, _, tenant = caller.partition("@")
    if roles != "admin":
        roles, tenant = "member", TENANT_OF.get(caller, caller)
    return {"X-Identity-Status": "Confirmed", "X-User-Id": "someone", "X-Tenant-Id": tenant, "X-Roles": roles}


def environment(database_path, **options):
    """Variables that set options, written api__strict_create="false", over none of the machine's own."""
    variables = {f"REGISTRY_{name.replace('__', '_')}".upper(): str(value) for name, value in options.items()}
    return {"REGISTRY_DATABASE_CONNECTION": f"sqlite:///{database_path}", **variables}


@pytest.fixture
def database_path(tmp_path):
    return tmp_path / "registry.db"


class TellingClient(FlaskClient):
    """Flask's client, which sends each header once; it tells so to the application, as worker.py does."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.environ_base[DUPLICATE_HEADERS] = frozenset()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A database without images, to copy: a migration takes 30 times as long."""
    path = tmp_path_factory.mktemp("empty") / "registry.db"
    migrations.prepare(read_settings(environment(path)).database)
    return path


@pytest.fixture
def make_client(database_path, empty_database):
    """A function: Flask's client of a new application on ``database_path``, with options such as api__strict_create."""

    def make(**options):
        settings = read_settings(environment(database_path, **options))
        if database_path.exists():
            migrations.prepare(settings.database)
        else:
            shutil.copy2(empty_database, database_path)
        application = create_app(settings)
        application.test_client_class = TellingClient
        return application.test_client()

    yield make
    models.database.close()


@pytest.fixture
def client(make_client):
    """The defaults: flavor none, every request an admin's."""
    return make_client()


@pytest.fixture
def client_as(make_client):
    """A function: the client as one of CALLERS, or as any tenant's user, behind an authenticating proxy."""
    application = make_client(auth__flavor="trusted-auth", auth__allow_anonymous_access="true").application

    def make(caller):
        test_client = application.test_client()
        for name, value in identity(caller).items():
            test_client.environ_base[f"HTTP_{name.upper().replace('-', '_')}"] = value
        return test_client

    return make


@pytest.fixture
def make_image(request):
    """A function: registers an image, as admin, with ``members`` {id: can_share}, and returns its record.

    It uses the test's own client: ``client_as`` where the test asks for that, else ``client``.
    """
    names = request.fixturenames
    admin = request.getfixturevalue("client_as")("admin") if "client_as" in names else request.getfixturevalue("client")

    def make(*, members=(), is_deleted=False, **fields):
        response = admin.post("/images", json={"image": {**IMAGE, **fields}})
        assert response.status_code == 200, response.text
        image = response.json["image"]
        memberships = [{"member_id": member, "can_share": can_share} for member, can_share in dict(members).items()]
        if memberships:
            assert admin.put(f"/images/{image['id']}/members", json={"memberships": memberships}).status_code == 204
        return admin.delete(f"/images/{image['id']}").json["image"] if is_deleted else image

    return make


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """``-m browser`` are all tests that visit a page; ``-m "not exhaustive"`` leaves out what the samples leave out."""
    mark_exhaustive(items)
    for item in items:
        if "chromium" in item.fixturenames:
            item.add_marker(pytest.mark.browser)


class Server:
    """A real gunicorn, started as the README says, in the project's folder."""

    def __init__(self, database_path, port=None, **options):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start(environment(database_path, server__bind_port=self.port, **options))

    def start(self, variables):
        self.process = subprocess.Popen(
            [Path(sys.executable).with_name("gunicorn"), "registry:create_app()"],
            cwd=ROOT,
            env={**clean_environment(), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_until_ready(self, seconds=30):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/images?limit=0", timeout=5).close()
                return self
            except urllib.error.HTTPError as error:
                error.close()  # an answer, if only a 401
                return self
            except OSError:
                time.sleep(0.05)  # polling, with a deadline
        raise AssertionError(f"the server did not answer: {self.stop()}")

    def request(self, method, path, body=None, headers=()):
        """(status, headers, parsed JSON or None)"""
        content = None if body is None else json.dumps(body).encode()
        headers = ({"Content-Type": "application/json"} if body is not None else {}) | dict(headers)
        request = urllib.request.Request(self.url + path, content, headers, method=method)
        try:
            response = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            text = response.read()
            return response.status, response.headers, json.loads(text) if text else None

    def stop(self, with_signal=signal.SIGTERM):
        """What it printed."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        output, _ = self.process.communicate(timeout=60)
        return output


@pytest.fixture
def start_server(database_path):
    """A function: a running Server on ``database_path``, with options such as api__strict_create."""
    servers = []

    def start(**options):
        servers.append(Server(database_path, **options))
        return servers[-1].wait_until_ready()

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def run(database_path):
    """A function: a command in the project's folder, on ``database_path``: (exit code, output, errors)."""

    def run_command(*arguments, content=b"", database=database_path, **options):
        variables = {**clean_environment(), **environment(database, **options)}
        code, output, errors = run_flask(*arguments, folder=ROOT, variables=variables, content=content)
        return code, output, errors.decode()

    return run_command


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One running Server with the defaults, for all tests of a module."""
    running = Server(tmp_path_factory.mktemp("server") / "registry.db").wait_until_ready()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def chromium():
    """One running Chromium for all tests of a process; a test takes ``browser``, which cleans up after itself."""
    with open_browser() as driver:
        yield driver


@pytest.fixture(params=VIEWPORTS)
def browser(chromium, request):
    """Selenium's driver of a Chromium with nothing in its profile, at each of the sizes of tests/browser.py."""
    resize(chromium, request.param)
    yield chromium
    forget(chromium)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_environment():
    """None of the machine's own options; and no line for each request, since nobody reads what a server prints."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    return {**others, "REGISTRY_LOG_FORMAT": "human", "REGISTRY_LOG_REQUESTS": "false"}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """(certificate, key): self-signed, for localhost."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    return paths


@contextmanager
def stopped(pid):
    """While it lasts, others must answer."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def answer_to(server, *lines):
    """The status of GET /images with these header lines as they are."""
    head = "\r\n".join(["GET /images HTTP/1.1", "Host: localhost", "Connection: close", *lines, "", ""])
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(head.encode())
        with client.makefile("rb") as answer:
            return int(answer.readline().split()[1])


@pytest.fixture
def folder(tmp_path):
    """Somebody's empty folder: see terminals.Folder."""
    from support.terminals import Folder

    return Folder(tmp_path)
