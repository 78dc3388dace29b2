"""Whatever a client sends, the answer is one that the OpenAPI document promises, and never a 5xx."""

import io
import re
import socket
import threading
from collections import deque
from contextlib import closing
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

import pytest
import schemathesis
from conftest import CALLERS, IMAGE, environment, identity
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st
from support.openapi import DOCUMENT, operations, require_promised
from werkzeug.test import run_wsgi_app

import auth
from config import read_settings
from faults.conftest import IS_TORTURE, rounds
from faults.odd import ALLOWED_ORIGIN, KNOWN_IDS, MEMBERS, TRUSTED_HOST, odd_requests, streams
from storage import engine

# No list is long: the time goes into requests, not into pages.
OPTIONS = {"api__api_limit_max": 10, "api__limit_param_default": 5}
OPEN = {**OPTIONS, "auth__allow_anonymous_access": "true"}
# Here the guard has names to know and an origin to let in.
GUARDED = {"server__trusted_hosts": f"localhost, 127.0.0.1, {TRUSTED_HOST}", "server__allowed_origins": ALLOWED_ORIGIN}
FLAVORS = {
    "none": OPTIONS,
    "trusted-auth": {**OPEN, "auth__flavor": "trusted-auth"},
    "token": {**OPEN, "auth__flavor": "token", **GUARDED},
}
TOKEN_CALLERS = ("owner", "admin", "read-only", "revoked", "expired", "garbage", "anonymous")
CALLERS_OF = {"none": ("admin",), "trusted-auth": CALLERS, "token": TOKEN_CALLERS}
# (in make test, in torture): where nobody differs from anybody, fewer.
CASES = {"none": (350, 10_000), "trusted-auth": (1_400, 42_000), "token": (1_050, 42_000)}
PROXY_HEADERS = {header for caller in CALLERS for header in identity(caller).items()}
every_flavor = pytest.mark.parametrize("flavor", FLAVORS)
# What a server must not understand (RFC 9112, 6.1): gunicorn's own answer to an unknown transfer coding.
UNKNOWN_CODING = re.compile(rb"HTTP/1.1 501 .*unsupported|HTTP/1.1 501 .*Transfer", re.IGNORECASE | re.DOTALL)
SECONDS = 20


def explore(strategy, cases, check, tally):
    """Run ``check``, which returns how many requests it sent, on so many examples: by one seed the same ones again."""
    tally.promise = "6 no 5xx: requests"
    limits = settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )

    def count(drawn):
        tally.rounds += check(drawn)

    try:
        seed(tally.random.getrandbits(64))(limits(given(strategy)(count)))()
    except BaseException as error:
        tally.violations.append(error)
        raise


def register_known_images(send):
    """``send(method, path, body)`` is the status that an admin is answered."""
    for number, image_id in enumerate(KNOWN_IDS):
        odd = {"name": "a\r\nX-Injected: b", "properties": {"a": "\x7f", "A": "", "a b": "\N{PENGUIN}"}}
        image = {**IMAGE, **odd, "id": image_id, "owner": "owner", "is_public": number % 2 == 0}
        assert send("POST", "/images", {"image": image}) == 200
        assert send("PUT", f"/images/{image_id}/members", {"memberships": [{"member_id": m} for m in MEMBERS]}) == 204


@pytest.fixture
def client_of_flavor(make_client, flavor):
    return make_client(**FLAVORS[flavor])


@pytest.fixture
def headers_of(client_of_flavor, flavor):
    """A function: the headers, {name: value}, by which the application knows a caller."""
    return identity if flavor != "token" else tokens_of(TOKEN_CALLERS).__getitem__


@pytest.fixture
def application(client_of_flavor, headers_of):
    def send(method, path, body):
        return client_of_flavor.open(path, method=method, json=body, headers=headers_of("admin")).status_code

    register_known_images(send)
    return client_of_flavor.application


def tokens_of(callers):
    """{caller: its headers}, with new tokens in the database that is open."""
    texts = {"garbage": "registry_" + "x" * 43}
    for caller in set(callers) - {"anonymous", "garbage"}:
        lasts = timedelta(seconds=-1) if caller == "expired" else None
        tenant, roles = (None, ["admin"]) if caller == "admin" else ("owner", ["member"])
        number, texts[caller] = auth.create_token(tenant, roles, is_read_only=caller == "read-only", lasts=lasts)
        if caller == "revoked":
            auth.revoke_token(number)
    return {"anonymous": {}} | {caller: {"X-Auth-Token": text} for caller, text in texts.items()}


def environ_of(asked):
    """What gunicorn hands over for a request."""
    path, _, query = asked.target.partition(b"?")
    environ = {
        "HTTP_HOST": "localhost",
        "RAW_URI": asked.target.decode("latin-1"),
        "REQUEST_METHOD": asked.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "9191",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(asked.body or b""),
        "wsgi.errors": io.StringIO(),
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    names = {"Content-Type": "CONTENT_TYPE"}
    environ |= {names.get(name, f"HTTP_{name.upper().replace('-', '_')}"): value for name, value in asked.headers}
    return environ | ({} if asked.body is None else {"CONTENT_LENGTH": str(len(asked.body))})


def require_good_answer(application, asked):
    environ = environ_of(asked)
    content, status, headers = run_wsgi_app(application, environ, buffered=True)
    code = int(status.partition(" ")[0])
    assert code < 500, (status, environ)
    path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
    require_promised(asked.method, path, code, list(headers), b"".join(content))
    return code


def sent_by(asked, headers):
    """The same request with another caller's headers, but for those of its own that are odd."""
    others = [(name, value) for name, value in asked.headers if (name, value) not in PROXY_HEADERS]
    return asked._replace(headers=[*headers.items(), *others])


@every_flavor
def test_odd_requests_are_answered_as_the_document_promises(application, headers_of, flavor, tally):
    callers = [headers_of(caller) for caller in CALLERS_OF[flavor]]
    answered = set()

    def check(asked):
        note(repr(asked))
        answered.update(require_good_answer(application, sent_by(asked, headers)) for headers in callers)
        return len(callers)

    explore(odd_requests(), rounds(*CASES[flavor]) // len(callers), check, tally)

    # They came as far as there is to come, but that a few may miss a rare one.
    far = {200, 204, 400, 401, 403, 404, 405, 415} if IS_TORTURE else {200, 400, 403, 404, 405}
    assert far - ({401} if flavor == "none" else set()) <= answered


# schemathesis, from the document


def from_here(application):
    """Werkzeug's client has no address, as whoever asks a server has."""

    def answer(environ, start_response):
        return application({"REMOTE_ADDR": "127.0.0.1", **environ}, start_response)

    return answer


def schemathesis_operation(application, path, method):
    document = schemathesis.openapi.from_dict(DOCUMENT)
    document.app = from_here(application)
    return document[path][method.upper()]


@pytest.mark.exhaustive
@pytest.mark.sampled("path method", "flavor")
@every_flavor
@pytest.mark.parametrize(
    ("path", "method"),
    [(path, method) for path, method, _ in operations() if method not in ("head", "options")],
    ids=lambda value: value,
)
def test_requests_made_from_the_document_are_answered_as_it_promises(
    application, headers_of, flavor, path, method, tally
):
    operation = schemathesis_operation(application, path, method)
    modes = [operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode]
    known = st.sampled_from((None, *KNOWN_IDS))

    def check(drawn):
        note(repr(drawn))
        case, image_id, caller = drawn
        if image_id and case.path_parameters and "image_id" in case.path_parameters:
            case.path_parameters["image_id"] = image_id
        headers = {name: value for name, value in headers_of(caller).items() if value}
        response = case.call(headers=headers)
        assert response.status_code < 500, response.content
        given_headers = [(name, ", ".join(values)) for name, values in response.headers.items()]
        require_promised(
            case.method.upper(), case.formatted_path, response.status_code, given_headers, response.content
        )

        return 1

    callers = st.sampled_from(CALLERS_OF[flavor])
    explore(st.tuples(st.one_of(modes), known, callers), rounds(12, 800), check, tally)


# Bytes on the socket


@pytest.fixture
def small_server(start_server, database_path, flavor):
    """(a running server, the headers of its admin)"""
    running = start_server(**FLAVORS[flavor], server__workers=1)
    headers = identity("admin")
    if flavor == "token":
        engine.open_database(read_settings(environment(database_path)).database)
        with closing(engine.database):
            headers = tokens_of(["admin"])["admin"]
    register_known_images(lambda method, path, body: running.request(method, path, body, headers)[0])
    # What it logs of malformed requests fills a pipe that nobody reads, and then it would wait.
    reader = threading.Thread(target=deque, args=(running.process.stdout, 100))
    reader.start()
    yield running, headers
    running.process.terminate()
    reader.join()


def exchange(server, content):
    """All that a server answers to bytes, after which nothing more comes. Raises TimeoutError where it hangs."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                answer += chunk
        except (ConnectionResetError, BrokenPipeError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
    return answer


def statuses_of(answer):
    return [int(status) for status in re.findall(rb"^HTTP/1\.[01] (\d{3}) ", answer, re.MULTILINE)]


@pytest.mark.exhaustive
@every_flavor
def test_odd_bytes_on_the_socket_are_answered_or_the_connection_is_closed(small_server, flavor, tally):
    server, headers = small_server
    answered, token = set(), b"X-Auth-Token: " + headers.get("X-Auth-Token", "").encode()

    def check(content):
        content = content.replace(b"X-User-Id: someone", token)
        note(repr(content))
        answer = exchange(server, content)
        statuses = statuses_of(answer)
        assert not answer or statuses, answer[:300]
        assert all(status < 500 for status in statuses) or UNKNOWN_CODING.search(answer), answer[:600]
        answered.update(statuses)
        return 1

    explore(streams, rounds(150, 5_000), check, tally)

    assert server.process.poll() is None
    assert server.request("GET", "/images", headers=headers)[0] == HTTPStatus.OK
    assert {200, 400, 404} <= answered
