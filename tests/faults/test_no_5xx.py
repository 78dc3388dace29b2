"""Whatever a client sends, the answer is one that the OpenAPI document promises, and never a 5xx."""

import io
import random
import re
import socket
import threading
from collections import deque
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

import pytest
import schemathesis
from conftest import CALLERS, IMAGE, Server, identity
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st
from openapi import DOCUMENT, operations, require_promised
from werkzeug.test import run_wsgi_app

from faults.conftest import rounds
from faults.odd import KNOWN_IDS, MEMBERS, odd_requests, streams

# No list is long: the time goes into requests, not into pages.
OPTIONS = {"api__api_limit_max": 10, "api__limit_param_default": 5}
TRUSTED = {"auth__flavor": "trusted-auth", "auth__allow_anonymous_access": "true"}
FLAVORS = {"none": OPTIONS, "trusted-auth": {**OPTIONS, **TRUSTED}}
# (in make test, in torture): where nobody differs from anybody, fewer.
CASES = {"none": (350, 10_000), "trusted-auth": (1_400, 56_000)}
PROXY_HEADERS = {header for caller in CALLERS for header in identity(caller).items()}
every_flavor = pytest.mark.parametrize("flavor", FLAVORS)
# What a server must not understand (RFC 9112, 6.1): gunicorn's own answer to an unknown transfer coding.
UNKNOWN_CODING = re.compile(rb"HTTP/1.1 501 .*unsupported|HTTP/1.1 501 .*Transfer", re.IGNORECASE | re.DOTALL)
SECONDS = 20


def explore(strategy, cases, check):
    """Run ``check`` on so many examples; pytest-randomly's seed makes the same ones again."""
    limits = settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    seed(random.getrandbits(64))(limits(given(strategy)(check)))()


def register_known_images(send):
    """``send(method, path, body)`` is the status that an admin is answered."""
    for number, image_id in enumerate(KNOWN_IDS):
        odd = {"name": "a\r\nX-Injected: b", "properties": {"a": "\x7f", "A": "", "a b": "\N{PENGUIN}"}}
        image = {**IMAGE, **odd, "id": image_id, "owner": "owner", "is_public": number % 2 == 0}
        assert send("POST", "/images", {"image": image}) == 200
        assert send("PUT", f"/images/{image_id}/members", {"memberships": [{"member_id": m} for m in MEMBERS]}) == 204


@pytest.fixture
def application(make_client, flavor):
    client = make_client(**FLAVORS[flavor])
    register_known_images(
        lambda method, path, body: client.open(path, method=method, json=body, headers=identity("admin")).status_code
    )
    return client.application


def environ_of(asked):
    """What gunicorn hands over for a request."""
    path, _, query = asked.target.partition(b"?")
    environ = {
        "HTTP_HOST": "localhost",
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


def sent_by(asked, caller):
    """The same request with another caller's identity, but for identity headers that are odd themselves."""
    others = [(name, value) for name, value in asked.headers if (name, value) not in PROXY_HEADERS]
    return asked._replace(headers=[*identity(caller).items(), *others])


@every_flavor
def test_odd_requests_are_answered_as_the_document_promises(application, flavor):
    callers = CALLERS if flavor == "trusted-auth" else ("admin",)
    answered = set()

    def check(asked):
        note(repr(asked))
        answered.update(require_good_answer(application, sent_by(asked, caller)) for caller in callers)

    explore(odd_requests(), rounds(*CASES[flavor]) // len(callers), check)

    # They came as far as there is to come.
    assert {200, 204, 400, 404, 405} <= answered


# schemathesis, from the document


def schemathesis_operation(application, path, method):
    document = schemathesis.openapi.from_dict(DOCUMENT)
    document.app = application
    return document[path][method.upper()]


@every_flavor
@pytest.mark.parametrize(
    ("path", "method"),
    [(path, method) for path, method, _ in operations() if method not in ("head", "options")],
    ids=lambda value: value,
)
def test_requests_made_from_the_document_are_answered_as_it_promises(application, flavor, path, method):
    operation = schemathesis_operation(application, path, method)
    modes = [operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode]
    known = st.sampled_from((None, *KNOWN_IDS))

    def check(drawn):
        note(repr(drawn))
        case, image_id, caller = drawn
        if image_id and case.path_parameters and "image_id" in case.path_parameters:
            case.path_parameters["image_id"] = image_id
        headers = {name: value for name, value in identity(caller).items() if value}
        response = case.call(headers=headers)
        assert response.status_code < 500, response.content
        given_headers = [(name, ", ".join(values)) for name, values in response.headers.items()]
        require_promised(
            case.method.upper(), case.formatted_path, response.status_code, given_headers, response.content
        )

    callers = st.sampled_from(("admin", "owner", "member", "stranger", "anonymous"))
    explore(st.tuples(st.one_of(modes), known, callers), rounds(12, 1_000), check)


# Bytes on the socket


@pytest.fixture(scope="module")
def small_server(tmp_path_factory):
    options = {**FLAVORS["trusted-auth"], "server__workers": 1}
    running = Server(tmp_path_factory.mktemp("server") / "registry.db", **options).wait_until_ready()
    register_known_images(lambda method, path, body: running.request(method, path, body, identity("admin"))[0])
    # What it logs of malformed requests fills a pipe that nobody reads, and then it would wait.
    reader = threading.Thread(target=deque, args=(running.process.stdout, 100))
    reader.start()
    yield running
    running.process.terminate()
    reader.join()
    running.stop()


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


def test_odd_bytes_on_the_socket_are_answered_or_the_connection_is_closed(small_server):
    answered = set()

    def check(content):
        note(repr(content))
        answer = exchange(small_server, content)
        statuses = statuses_of(answer)
        assert not answer or statuses, answer[:300]
        assert all(status < 500 for status in statuses) or UNKNOWN_CODING.search(answer), answer[:600]
        answered.update(statuses)

    explore(streams, rounds(400, 14_000), check)

    assert small_server.process.poll() is None
    assert small_server.request("GET", "/images", headers=identity("admin"))[0] == HTTPStatus.OK
    assert {200, 400, 404} <= answered
