"""Clients that do not behave, and what the tests of faults ask of a server beside them."""

import http.client
import socket
from contextlib import ExitStack, closing, contextmanager

HALF_A_HEAD = b"GET /images HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
HALF_A_BODY = (
    b"POST /images HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
)
PART_OF_A_LARGE_BODY = HALF_A_BODY.replace(b"Length: 100", b"Length: 500000")
WHOLE = b"GET /images?limit=0 HTTP/1.1\r\nHost: localhost\r\n\r\n"
WHOLE_AND_LAST = b"GET /images?limit=0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def connect(port, content=b"", seconds=30):
    connection = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    connection.sendall(content)
    return connection


@contextmanager
def many(number, port, content=b""):
    """While it lasts, so many connections are open, each having sent ``content`` and nothing more."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(port, content)) for _ in range(number)]


def ask(port, path="/images?limit=0", seconds=30, headers=()):
    """The status of one request on a connection of its own. Raises TimeoutError."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)) as connection:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        response.read()
        return response.status


def read_all(connection):
    """All that comes until the server closes; b"" where it had reset the connection."""
    answer = b""
    try:
        while part := connection.recv(65536):
            answer += part
    except ConnectionError:
        pass
    return answer


def status_of(answer):
    return int(answer.split(b" ", 2)[1])
