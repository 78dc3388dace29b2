"""The proxies of deploy/ in front of real servers: TLS, whose identity counts, slow clients, a rolling restart."""

import base64
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import pytest
from conftest import IMAGE, ROOT, Server, free_port

from faults.clients import HALF_A_HEAD, PART_OF_A_LARGE_BODY
from faults.conftest import rounds
from faults.test_available import workers_of

PASSWORD = "secret"
SLOW_CLIENTS = 1000


class Proxy:
    """A running proxy, and requests to it over TLS as a user of its password file."""

    def __init__(self, command, folder, port, certificate, variables=()):
        self.port = port
        self.tls = ssl.create_default_context(cafile=certificate[0])
        log = folder / "log"  # no pipe: a full one would hold up the proxy
        with log.open("wb") as file:
            options = {"stdout": file, "stderr": file, "env": os.environ | dict(variables)}
            self.process = subprocess.Popen(command, **options)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                return
            except OSError:
                assert time.monotonic() < deadline
                assert self.process.poll() is None, log.read_text()
                time.sleep(0.05)  # polling, with a deadline

    def request(self, user, method, path, body=None, headers=()):
        """(status, parsed JSON or None); ``user`` None has no password."""
        headers = {"Content-Type": "application/json", **dict(headers)}
        if user is not None:
            credentials = base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()
            headers["Authorization"] = f"Basic {credentials}"
        with closing(self.client()) as connection:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            text = response.read()
        return response.status, json.loads(text) if text and response.status != 401 else None

    def client(self):
        return http.client.HTTPSConnection("localhost", self.port, timeout=30, context=self.tls)

    def read_until(self, is_done, statuses):
        """On one connection that is kept."""
        credentials = base64.b64encode(f"root:{PASSWORD}".encode()).decode()
        with closing(self.client()) as connection:
            while not is_done.is_set():
                connection.request("GET", "/images", headers={"Authorization": f"Basic {credentials}"})
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)

    def connect(self, content):
        credentials = base64.b64encode(f"root:{PASSWORD}".encode())
        content = content.replace(b"localhost\r\n", b"localhost\r\nAuthorization: Basic %s\r\n" % credentials, 1)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection = self.tls.wrap_socket(plain, server_hostname="localhost")
        connection.sendall(content)
        return connection

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)


def example(name, replacements):
    """A file of deploy/, each of ``replacements`` found in it and changed."""
    text = (ROOT / "deploy" / name).read_text()
    for old, new in replacements.items():
        assert old in text
        text = text.replace(old, str(new))
    return text


def nginx(folder, certificate, ports, name="nginx.conf"):
    if shutil.which("nginx") is None:
        pytest.skip("there is no nginx")
    port = free_port()
    replacements = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/nginx/registry.crt": certificate[0],
        "/etc/nginx/registry.key": certificate[1],
        "client_header_timeout 30s": "client_header_timeout 3600s",  # it is not nginx's patience that is tested
        "client_body_timeout 30s": "client_body_timeout 3600s",
        "server 127.0.0.1:9191 max_fails=0;": "".join(f"server 127.0.0.1:{to} max_fails=0;" for to in ports),
    }
    if name == "nginx.conf":
        replacements["/etc/nginx/registry.htpasswd;"] = f"{folder}/htpasswd;"
    (folder / "htpasswd").write_text("".join(f"{user}:{{PLAIN}}{PASSWORD}\n" for user in ("alice", "bob", "root")))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    lines = ["worker_processes 1;", "worker_rlimit_nofile 8192;", "events { worker_connections 4096; }"]
    lines += [f"pid {folder}/nginx.pid;", "user root;" if os.geteuid() == 0 else "", "http {", "access_log off;"]
    lines += [f"{kind}_temp_path {folder}/{kind};" for kind in kinds] + [example(name, replacements), "}"]
    (folder / "nginx.conf").write_text("\n".join(lines))
    command = ["nginx", "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf", "-g", "daemon off;"]
    return Proxy(command, folder, port, certificate)


def nginx_for_tokens(folder, certificate, ports):
    return nginx(folder, certificate, ports, "nginx-token.conf")


def caddy_for_tokens(folder, certificate, ports):
    return caddy(folder, certificate, ports, "Caddyfile-token")


def caddy(folder, certificate, ports, name="Caddyfile"):
    if shutil.which("caddy") is None:
        pytest.skip("there is no caddy")
    port = free_port()
    command = ["caddy", "hash-password", "--plaintext", PASSWORD]
    hashed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    placeholder = "$2a$14$REPLACE.THIS.BY.WHAT.caddy.hash-password.PRINTS.FOR.ALICE.PASSWORD"
    replacements = {
        "images.example.org {": f"https://localhost:{port} {{\n\ttls {certificate[0]} {certificate[1]}",
        "127.0.0.1:9191": f"127.0.0.1:{ports[0]}",
    }
    if name == "Caddyfile":
        users = "\n".join(f"\t\t{user} {hashed}" for user in ("alice", "bob", "root"))
        replacements |= {f"alice {placeholder}": users}
    text = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + example(name, replacements)
    (folder / "Caddyfile").write_text(text)
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"]
    homes = {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
    return Proxy(command, folder, port, certificate, homes)


@pytest.fixture
def start_proxy(tmp_path, certificate):
    """A function: a running proxy of a kind before servers' ports."""
    proxies = []

    def start(kind, *servers):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        proxies.append(kind(folder, certificate, [server.port for server in servers]))
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.stop()


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", [nginx, caddy])
def test_behind_a_proxy_of_deploy_nobody_chooses_who_they_are(start_server, start_proxy, kind):
    proxy = start_proxy(kind, start_server(auth__flavor="trusted-auth"))
    forged = {"X-Tenant-Id": "initech", "X-Roles": "admin", "X-User-Id": "root", "X-Identity-Status": "Confirmed"}
    forged |= {name.replace("-", "_"): value for name, value in forged.items()}

    _, created = proxy.request("alice", "POST", "/images", {"image": IMAGE}, forged)
    path = f"/images/{created['image']['id']}"
    statuses = [proxy.request(user, "GET", path, headers=forged)[0] for user in ("alice", "root", "bob", "nobody")]

    assert created["image"]["owner"] == "acme"
    assert statuses == [200, 200, 404, 401]


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", [nginx, caddy])
def test_behind_a_proxy_of_deploy_health_needs_no_password_and_nothing_else_comes_in_by_that_door(
    start_server, start_proxy, kind
):
    proxy = start_proxy(kind, start_server(auth__flavor="trusted-auth"))
    _, created = proxy.request("alice", "POST", "/images", {"image": IMAGE})
    member = f"/images/{created['image']['id']}/members/..%2f..%2f..%2fhealthcheck"
    forged = {"X-Identity-Status": "Confirmed", "X-Tenant-Id": "acme", "X-Roles": "admin"}

    health = [proxy.request(None, "GET", path) for path in ("/healthcheck", "/healthcheck?detail")]
    asked = (("PUT", member), ("GET", "/healthcheck/../images"), ("GET", "/images"), ("GET", "/metrics"))
    statuses = [proxy.request(None, method, path, headers=forged)[0] for method, path in asked]
    _, members = proxy.request("root", "GET", f"/images/{created['image']['id']}/members")

    assert [(status, answer["status"]) for status, answer in health] == [(200, "ok")] * 2
    assert "checks" in health[1][1]
    assert [status for status in statuses if status < 400] == []
    assert members == {"members": []}


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", [nginx_for_tokens, caddy_for_tokens])
@pytest.mark.parametrize("header", ["Authorization: Bearer {}", "X-Auth-Token: {}"])
def test_behind_a_proxy_for_tokens_who_has_one_comes_in(start_server, start_proxy, run, kind, header):
    server = start_server(auth__flavor="token")
    _, output, _ = run("token", "create", "--role", "admin")
    name, _, value = header.format(output.decode().split()[0]).partition(": ")
    proxy = start_proxy(kind, server)

    created = proxy.request(None, "POST", "/images", {"image": IMAGE}, {name: value})[0]
    statuses = [proxy.request(None, "GET", path)[0] for path in ("/images", "/metrics", "/healthcheck")]

    assert created == 200
    assert statuses == [401, 401, 200]


def raise_file_limit(number):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        pytest.skip(f"this process may open only {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))


@pytest.mark.exhaustive
@pytest.mark.parametrize("content", [HALF_A_HEAD, PART_OF_A_LARGE_BODY], ids=["half a head", "part of a body"])
def test_behind_nginx_1000_slow_clients_hold_up_nobody(start_server, start_proxy, content):
    raise_file_limit(SLOW_CLIENTS + 500)
    # One thread for as long as anybody here waits: a single slow client that came through would hold up all others.
    options = {"server__workers": 1, "server__threads": 1, "server__request_timeout": 3600}
    server = start_server(auth__flavor="trusted-auth", **options)
    proxy = start_proxy(nginx, server)

    with ExitStack() as stack:
        for _ in range(SLOW_CLIENTS):
            stack.enter_context(proxy.connect(content))
        statuses = [proxy.request("root", "GET", "/images")[0] for _ in range(20)]

    assert statuses == [200] * 20


@pytest.mark.exhaustive
def test_behind_nginx_no_read_is_lost_while_servers_are_restarted_in_turn(
    start_server, start_proxy, database_path, request
):
    servers = [start_server(auth__flavor="trusted-auth") for _ in range(2)]
    proxy = start_proxy(nginx, *servers)

    with read_meanwhile(proxy) as statuses:
        for turn in range(rounds(2, 40)):
            server = servers[turn % 2]
            server.stop()
            servers[turn % 2] = restarted = Server(database_path, server.port, auth__flavor="trusted-auth")
            request.addfinalizer(restarted.stop)
            restarted.wait_until_ready()

    assert len(statuses) > 20
    assert set(statuses) == {200}


def test_behind_nginx_no_read_is_lost_while_a_server_is_reloaded(start_server, start_proxy):
    server = start_server(auth__flavor="trusted-auth")
    proxy = start_proxy(nginx, server)

    with read_meanwhile(proxy) as statuses:
        for _ in range(rounds(3, 100)):
            before, read = workers_of(server), len(statuses)
            server.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 60
            while set(before) & set(workers_of(server)) or len(statuses) < read + 20:
                assert time.monotonic() < deadline
                time.sleep(0.02)  # polling, with a deadline

    assert set(statuses) == {200}


@contextmanager
def read_meanwhile(proxy):
    """The statuses that four clients were answered, each on its connection, and two that connect anew each time."""
    statuses, is_done = [], threading.Event()

    def read_anew():
        while not is_done.is_set():
            statuses.append(proxy.request("root", "GET", "/images")[0])

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(proxy.read_until, is_done, statuses) for _ in range(4)]
        readers += [pool.submit(read_anew) for _ in range(2)]
        try:
            yield statuses
        finally:
            is_done.set()
        for reader in readers:
            reader.result(timeout=60)
