"""Clients that send or read slowly, or not at all, hold up nobody else: a thread is for whole requests."""

import json
import select
import time

import pytest
from conftest import IMAGE

from faults.clients import (
    HALF_A_BODY,
    HALF_A_HEAD,
    PART_OF_A_LARGE_BODY,
    WHOLE,
    WHOLE_AND_LAST,
    ask,
    connect,
    many,
    read_all,
    status_of,
)
from faults.conftest import rounds

# One thread, and an hour to send a request: who takes the thread would hold up all others for longer than they wait.
ONE_THREAD = {"server__workers": 1, "server__threads": 1}
PATIENT = {**ONE_THREAD, "server__request_timeout": 3600}


@pytest.mark.parametrize("content", [b"", HALF_A_HEAD, HALF_A_BODY], ids=["silent", "half a head", "half a body"])
def test_clients_that_send_half_a_request_hold_no_thread(start_server, content):
    server = start_server(**PATIENT)

    with many(rounds(100, 800), server.port, content):
        status = ask(server.port)

    assert status == 200


def test_clients_that_send_half_of_a_second_request_hold_no_thread(start_server):
    server = start_server(**PATIENT)

    with many(50, server.port, WHOLE + HALF_A_HEAD) as connections:
        answers = [connection.recv(65536) for connection in connections]
        status = ask(server.port)

    assert {status_of(answer) for answer in answers} == {200}
    assert status == 200


def test_clients_that_do_not_close_after_their_last_answer_hold_up_nobody(start_server):
    server = start_server(**PATIENT)

    with many(50, server.port, WHOLE_AND_LAST) as connections:
        answers = [connection.recv(65536) for connection in connections]
        status = ask(server.port)

    assert {status_of(answer) for answer in answers} == {200}
    assert status == 200


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "content", [HALF_A_HEAD, HALF_A_BODY, PART_OF_A_LARGE_BODY], ids=["head", "body", "large body"]
)
def test_a_request_that_comes_a_byte_at_a_time_is_answered_408_when_its_time_is_over(start_server, content):
    server = start_server(**ONE_THREAD, server__request_timeout=1)

    with connect(server.port, content) as connection:
        deadline = time.monotonic() + 30
        while not select.select([connection], [], [], 0.05)[0]:
            assert time.monotonic() < deadline
            connection.sendall(b" ")
        answer = read_all(connection)

    assert status_of(answer) == 408
    assert b"connection: close" in answer.lower()
    assert ask(server.port) == 200


@pytest.mark.exhaustive
def test_a_body_that_is_overdue_is_told_as_a_problem_and_changes_nothing(start_server):
    server = start_server(**ONE_THREAD, server__request_timeout=1)

    with connect(server.port, PART_OF_A_LARGE_BODY) as connection:
        head, _, body = read_all(connection).partition(b"\r\n\r\n")

    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body)["detail"] == "The request was not complete within 1 seconds."
    assert server.request("GET", "/images")[2] == {"images": []}


def test_a_request_that_comes_in_pieces_is_answered(start_server):
    server = start_server(**PATIENT)
    content = json.dumps({"image": {**IMAGE, "name": "in pieces"}}).encode()
    head = HALF_A_BODY[:-1].replace(b"Length: 100", b"Length: %d" % len(content))

    with connect(server.port) as connection:
        for byte in head + content:
            connection.sendall(bytes([byte]))
        connection.shutdown(1)
        answer = read_all(connection)

    assert status_of(answer) == 200
    assert b"in pieces" in answer


@pytest.mark.exhaustive
def test_a_client_that_does_not_read_its_answers_holds_the_thread_no_longer_than_request_timeout(start_server):
    server = start_server(**ONE_THREAD, server__request_timeout=1)
    properties = {f"property {number}": "p" * 9000 for number in range(100)}
    image = server.request("POST", "/images", {"image": {**IMAGE, "properties": properties}})[2]["image"]
    request = f"GET /images/{image['id']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    with connect(server.port, request * 50):
        statuses = {ask(server.port) for _ in range(20)}  # in turn with the answers, until the sockets are full

    assert statuses == {200}
    assert "did not read its response within 1 seconds" in server.stop()


@pytest.mark.exhaustive
def test_with_all_connections_taken_the_longest_idle_gives_way(start_server, monkeypatch):
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--worker-connections 20 --keep-alive 3600")
    server = start_server(**PATIENT)

    with many(30, server.port) as silent, many(30, server.port, HALF_A_HEAD):
        status = ask(server.port)
        is_closed = silent[0].recv(1) == b""

    assert status == 200
    assert is_closed
