"""Checks at start: an open network without authentication, invalid certificates; and TLS."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment, environment, free_port

from config import read_settings
from errors import StartupError
from server import startup_checks

GUNICORN = Path(sys.executable).with_name("gunicorn")
APPLICATION = "registry:create_app()"
TLS_GREETING = bytes.fromhex("160301020001000100")


@pytest.fixture
def refusal(database_path):
    """A function: starts gunicorn, which must end by itself, and returns the one line that it says."""

    def start(*arguments, files=(), **options):
        variables = {"server__bind_port": free_port(), **options}
        run = {"env": {**clean_environment(), **environment(database_path, **variables)}, "pass_fds": files}
        run |= {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 30}
        process = subprocess.run([GUNICORN, *arguments, APPLICATION], check=False, **run)
        lines = [line for line in process.stderr.splitlines() if "[INFO] Starting gunicorn" not in line]
        assert (process.returncode, len(lines)) == (1, 1), process.stderr
        assert not database_path.exists()
        return lines[0]

    return start


def test_flavor_none_on_an_open_network_is_refused_by_option(refusal):
    line = refusal(server__bind_host="0.0.0.0")

    assert line == f"registry: {startup_checks.OPEN_NETWORK.format('0.0.0.0')}"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "arguments",
    [("-b", "0.0.0.0:{port}"), ("-b", ":{port}"), ("-b", "127.0.0.1:{port}", "-b", "0.0.0.0:0")],
    ids=["an address", "a port alone", "the second of two"],
)
def test_flavor_none_on_an_open_network_is_refused_by_what_the_command_line_binds(refusal, arguments):
    port = free_port()

    line = refusal(*(argument.format(port=port) for argument in arguments))

    assert line == f"registry: {startup_checks.OPEN_NETWORK.format('0.0.0.0')}"


def test_flavor_none_on_an_open_socket_that_another_program_bound_is_refused(refusal):
    with socket.create_server(("0.0.0.0", 0)) as inherited:
        number = inherited.fileno()
        line = refusal("-b", f"fd://{number}", files=[number])

    assert line == f"registry: {startup_checks.OPEN_NETWORK.format('0.0.0.0')}"


def test_the_sockets_of_systemd_are_judged_by_where_they_are_bound(database_path):
    script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
    variables = {**clean_environment(), **environment(database_path)}

    def start():  # in the child, where systemd would have left it
        os.dup2(inherited.fileno(), 3)
        os.set_inheritable(3, True)

    with socket.create_server(("0.0.0.0", 0)) as inherited:
        command = ["sh", "-c", script, "sh", GUNICORN, APPLICATION]
        options = {"env": variables, "cwd": ROOT, "capture_output": True, "text": True, "timeout": 30}
        process = subprocess.run(command, check=False, preexec_fn=start, close_fds=False, **options)

    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == f"registry: {startup_checks.OPEN_NETWORK.format('0.0.0.0')}"


@pytest.mark.parametrize("number", ["77", "file"])
def test_an_open_file_that_is_no_socket_is_refused(refusal, tmp_path, number):
    with (tmp_path / "file").open("w") as file:
        number = file.fileno() if number == "file" else number
        line = refusal("-b", f"fd://{number}", files=[file.fileno()])

    assert line.startswith(f"registry: the inherited socket, file descriptor {number}: ")


@pytest.mark.exhaustive
@pytest.mark.parametrize("text", ["abc", "3,x", "-1", "9" * 30])
def test_inherited_sockets_that_are_no_numbers_are_refused(refusal, monkeypatch, text):
    monkeypatch.setenv("GUNICORN_FD", text)

    assert refusal() == f"registry: GUNICORN_FD = {text.split(',')[-1]!r} (environment variable): must be a number"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "options",
    [{"auth__allow_open_network": "true"}, {"auth__flavor": "trusted-auth"}],
    ids=["allowed", "with identity"],
)
def test_an_open_network_may_be_served_where_that_is_said_or_identity_is_asked_for(start_server, options):
    server = start_server(server__bind_host="0.0.0.0", **options)

    assert server.process.poll() is None


@pytest.mark.parametrize(
    ("name", "is_local"),
    [
        (("127.0.0.1", 1), True),
        (("127.8.8.8", 1), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        ("/run/registry.sock", True),
        ("", True),
        (("0.0.0.0", 1), False),
        (("::", 1, 0, 0), False),
        (("192.0.2.1", 1), False),
        (("::ffff:192.0.2.1", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), False),
    ],
)
def test_local_is_loopback_and_a_unix_socket(name, is_local):
    assert startup_checks.is_local(name) is is_local


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("content", "cause"),
    [(None, "No such file or directory"), (b"", "certificate and key must be PEM"), (b"-----BEGIN\n", "")],
    ids=["missing", "empty", "not PEM"],
)
def test_a_certificate_that_is_none_is_refused_by_name(refusal, tmp_path, content, cause):
    path = tmp_path / "cert.pem"
    if content is not None:
        path.write_bytes(content)

    line = refusal(server__certfile=path)

    assert line.startswith(f"registry: [server] certfile = {str(path)!r}: {cause}")


def test_a_key_without_a_certificate_is_refused(refusal):
    assert refusal(server__keyfile="key.pem") == "registry: [server] keyfile = 'key.pem': set certfile too"


def test_a_key_of_another_certificate_is_refused(certificate, tmp_path):
    other = tmp_path / "other.pem"
    command = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", other]
    subprocess.run(command, check=True, capture_output=True)
    options = serving_options(certfile=str(certificate[0]), keyfile=str(other))

    with pytest.raises(StartupError, match="KEY_VALUES_MISMATCH"):
        startup_checks.require_certificate(options)


def serving_options(**options):
    return read_settings({f"REGISTRY_SERVER_{name}".upper(): value for name, value in options.items()}).server


@pytest.fixture
def tls_server(database_path, certificate):
    """(port, a context that trusts it) of a server with one worker of one thread, that speaks TLS."""
    port = free_port()
    options = {"server__certfile": certificate[0], "server__keyfile": certificate[1], "server__bind_port": port}
    options |= {"server__workers": 1, "server__threads": 1, "server__request_timeout": 2}
    process = subprocess.Popen(
        [GUNICORN, APPLICATION], cwd=ROOT, env={**clean_environment(), **environment(database_path, **options)}
    )
    deadline = time.monotonic() + 30
    while not answers(port):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)  # polling, with a deadline
    yield port, ssl.create_default_context(cafile=certificate[0])
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def ask_over_tls(port, context, times=1):
    connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=context)
    with closing(connection):
        bodies = []
        for _ in range(times):
            connection.request("GET", "/images")
            bodies.append(json.loads(connection.getresponse().read()))
        return bodies


@pytest.mark.exhaustive
def test_it_speaks_tls_and_keeps_the_connection(tls_server):
    assert ask_over_tls(*tls_server, times=3) == [{"images": []}] * 3


@pytest.mark.exhaustive
@pytest.mark.parametrize("content", [b"", TLS_GREETING, b"GET / HTTP/1.1\r\n\r\n"], ids=["silent", "half", "plain"])
def test_over_tls_who_does_not_finish_the_greeting_is_given_up(tls_server, content):
    port, context = tls_server

    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(content)
        bodies = ask_over_tls(port, context)

    assert bodies == [{"images": []}]


@pytest.mark.exhaustive
def test_over_tls_half_a_request_is_answered_408(tls_server):
    port, context = tls_server

    plain = socket.create_connection(("127.0.0.1", port), timeout=30)
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(b"GET /images HTTP/1.1\r\n")
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
