"""A real gunicorn: what it prints, how it shares work, what survives its death, and odd clients on its socket."""

import http.client
import json
import os
import signal
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest
from conftest import IMAGE, ROOT, Server, stopped

ALL = "/images?is_public=none&limit=1000"
BOOTING = "Booting worker with pid: "
EMPTY_LIST = b"GET /images?limit=0 HTTP/1.1\r\nHost: localhost\r\n"


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def printed_until(server, text, times):
    """The lines printed up to the last of ``times`` that contain ``text``; those are not in ``server.stop()`` again."""
    lines = []
    while sum(text in line for line in lines) < times:
        lines.append(server.process.stdout.readline())
        assert lines[-1], "".join(lines)
    return lines


def worker_pids(server, number=2):
    lines = printed_until(server, BOOTING, number)
    return [int(line.rpartition(BOOTING)[2]) for line in lines if BOOTING in line]


def create(server, **fields):
    status, _, body = server.request("POST", "/images", {"image": {**IMAGE, **fields}})
    assert status == 200, body
    return body["image"]


def ids_of(server, path=ALL):
    status, _, body = server.request("GET", path)
    assert status == 200, body
    return {image["id"] for image in body["images"]}


def wait_until(is_reached, seconds=30):
    deadline = time.monotonic() + seconds
    while not is_reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # polling, with a deadline


@pytest.fixture
def send(server):
    """A function: sends bytes on a connection of their own, and returns all that comes back until it is closed."""

    def exchange(content):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(content)
            answer = b""
            while part := connection.recv(65536):
                answer += part
            return answer

    return exchange


def status_of(answer):
    return int(answer.split(b" ", 2)[1])


@pytest.mark.exhaustive
def test_it_says_where_it_listens_and_what_to_try(start_server, database_path):
    server = start_server()

    printed = server.stop()

    assert f"The image registry serves sqlite:///{database_path} on {server.url}\n" in printed
    assert f"Try: curl {server.url}/images\n" in printed
    assert server.process.returncode == 0


def test_it_registers_and_lists_images(server):
    image = create(server, is_public=True, name="over a socket ☃", properties={"os": "linux"})

    shown = server.request("GET", f"/images/{image['id']}")
    listed = server.request("GET", f"/images?marker={image['id']}&sort_dir=asc&limit=0")
    detailed = server.request("GET", "/images/detail?property-os=linux")

    assert image["name"] == "over a socket ☃"
    assert (shown[0], shown[2]) == (200, {"image": image})
    assert shown[1]["x-image-meta-property-os"] == "linux"
    assert (listed[0], listed[2]) == (200, {"images": []})
    assert (detailed[0], detailed[2]) == (200, {"images": [image]})


def test_a_connection_is_kept_for_further_requests(server):
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        statuses, sockets = [], set()
        for path in ("/images", "/images/missing", "/nowhere", "/images?limit=many", "/images"):
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
            sockets.add(connection.sock)

    assert statuses == [200, 404, 404, 400, 200]
    assert len(sockets) == 1
    assert None not in sockets


@pytest.mark.exhaustive
def test_each_worker_sees_what_the_other_has_written(start_server):
    server = start_server()
    first, second = worker_pids(server)

    with stopped(first):
        of_second = create(server)["id"]
    with stopped(second):
        seen_by_first = ids_of(server)
        of_first = create(server)["id"]
    with stopped(first):
        seen_by_second = ids_of(server)

    assert seen_by_first == {of_second}
    assert seen_by_second == {of_first, of_second}


@pytest.mark.exhaustive
def test_two_servers_on_one_database_see_each_other_s_writes(start_server):
    one, other = start_server(), start_server()

    image = create(one)
    status, headers, body = other.request("PUT", f"/images/{image['id']}", {"image": {"name": "changed"}})

    assert (status, body["image"]["name"]) == (200, "changed")
    shown = one.request("GET", f"/images/{image['id']}")
    assert (shown[1]["ETag"], shown[2]) == (headers["ETag"], body)


@pytest.mark.exhaustive
def test_what_was_acknowledged_survives_the_death_of_every_process(start_server, database_path):
    server = start_server()
    pids = [server.process.pid, *worker_pids(server)]
    acknowledged = []

    def write_until_it_dies():
        while True:
            try:
                acknowledged.append(create(server)["id"])
            except (OSError, http.client.HTTPException):
                return

    writers = [threading.Thread(target=write_until_it_dies) for _ in range(4)]
    for writer in writers:
        writer.start()
    wait_until(lambda: len(acknowledged) >= 200)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for writer in writers:
        writer.join(timeout=30)

    assert server.process.wait(timeout=30) == -signal.SIGKILL
    assert set(acknowledged) - ids_of(start_server()) == set()
    with closing(sqlite3.connect(database_path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_request_in_flight_is_finished_before_the_server_ends(start_server):
    server = start_server()
    content = json.dumps({"image": {**IMAGE, "name": "a slow upload"}}).encode()
    lines = ["POST /images HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Expect: 100-continue"]
    head = "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode()

    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head + content[:10])
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 Continue\r\n")
        server.process.send_signal(signal.SIGTERM)
        printed_until(server, "Worker exiting", 1)  # the idle one: both have been told
        connection.sendall(content[10:])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert server.process.wait(timeout=60) == 0
    image = json.loads(answer.partition(b"\r\n\r\n")[2])["image"]
    assert (status_of(answer), image["name"]) == (200, "a slow upload")
    assert ids_of(start_server()) == {image["id"]}


@pytest.mark.exhaustive
def test_a_reload_answers_every_request(start_server):
    server = start_server()
    worker_pids(server)
    statuses, is_reloaded = [], threading.Event()

    def request_until_reloaded():
        while not is_reloaded.is_set():
            statuses.append(server.request("GET", "/images")[0])

    with ThreadPoolExecutor() as pool:
        requests = pool.submit(request_until_reloaded)
        try:
            server.process.send_signal(signal.SIGHUP)
            printed_until(server, "Worker exiting", 2)
        finally:
            is_reloaded.set()
        requests.result(timeout=60)

    assert set(statuses) == {200}
    assert server.request("GET", "/images")[0] == 200


@pytest.mark.exhaustive
def test_a_killed_worker_is_replaced(start_server):
    server = start_server()
    killed, survivor = worker_pids(server)
    image = create(server)

    os.kill(killed, signal.SIGKILL)
    (replacement,) = worker_pids(server, 1)
    with stopped(survivor):
        answer = ids_of(server)

    assert replacement not in (killed, survivor)
    assert answer == {image["id"]}


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_it_listens_on_ipv6(database_path):
    server = Server(database_path, server__bind_host="::1")
    server.url = f"http://[::1]:{server.port}"

    try:
        status, _, body = server.wait_until_ready().request("GET", "/images")
    finally:
        printed = server.stop()

    assert (status, body) == (200, {"images": []})
    assert f"Try: curl {server.url}/images\n" in printed


@pytest.mark.exhaustive
def test_it_opens_no_control_socket(start_server, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    for variable in ("HOME", "XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(variable, str(home))

    start_server()

    assert [path for path in [*tmp_path.rglob("*"), *ROOT.glob("*")] if path.is_socket()] == []
    assert list(home.glob(".gunicorn/*")) == []


def test_one_header_may_hold_a_service_catalog_of_16_kib(send):
    catalog = b"X-Service-Catalog: " + b"c" * 16 * 1024 + b"\r\n"

    answer = send(EMPTY_LIST + catalog + b"Connection: close\r\n\r\n")

    assert status_of(answer) == 200
    assert answer.endswith(b'{"images":[]}')


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (EMPTY_LIST + b"X-Service-Catalog: " + b"c" * 40_000 + b"\r\n\r\n", 431),
        (EMPTY_LIST + b"".join(b"X-%d: 1\r\n" % number for number in range(200)) + b"\r\n", 431),
        (b"GET /images?name=" + b"n" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"\x00" * 100 + b"\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST /images HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        (b"POST /images HTTP/1.1\r\nHost: r\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /images HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: unknown\r\n\r\n", 501),
    ],
    ids=[
        *("a large header", "many headers", "a long line", "a TLS greeting", "zeros", "no request", "HTTP/2"),
        *("a negative length", "two lengths", "a length and chunks", "an unknown coding"),
    ],
)
def test_what_is_no_request_gets_a_short_refusal_and_the_server_goes_on(server, send, content, status):
    answer = send(content)

    assert status_of(answer) == status
    assert len(answer) < 1024
    assert server.request("GET", "/images?limit=0")[0] == 200


def test_a_header_of_1_mib_is_refused_without_hanging(server, send):
    with suppress(ConnectionError):  # it may close while we are still sending
        assert status_of(send(EMPTY_LIST + b"X-Service-Catalog: " + b"c" * 1024 * 1024 + b"\r\n\r\n")) == 431

    assert server.request("GET", "/images?limit=0")[0] == 200


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n", b"2\r\n{}XX0\r\n\r\n", b"\r\n\r\n"], ids=repr
)
def test_a_body_in_malformed_chunks_is_the_client_s_mistake(server, send, chunks):
    head = b"POST /images HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

    answer = send(head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks)

    assert status_of(answer) == 400
    assert server.request("GET", "/images?limit=0")[0] == 200


@pytest.mark.parametrize("ending", [b"", b"7f\r\n{", b'd\r\n{"image": {}}\r\n'], ids=repr)
def test_a_client_that_breaks_off_within_its_chunks_is_answered_400(server, ending):
    head = b"POST /images HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + ending)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert status_of(answer) == 400
    assert server.request("GET", "/images?limit=0")[0] == 200


def test_a_body_in_chunks_is_registered(send):
    content = json.dumps({"image": {**IMAGE, "name": "in chunks"}}).encode()
    head = b"POST /images HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, content[index : index + 1]) for index in range(len(content)))

    answer = send(head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks + b"0\r\n\r\n")

    assert status_of(answer) == 200
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["image"]["name"] == "in chunks"


def test_requests_sent_at_once_are_answered_in_their_order(send):
    paths = [b"/images?limit=0", b"/nowhere", b"/images/detail?limit=0", b"/images?limit=many"]
    requests = [b"GET %s HTTP/1.1\r\nHost: localhost\r\n" % path for path in paths]

    answer = send(b"\r\n".join(requests) + b"Connection: close\r\n\r\n")

    statuses = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 404, 200, 400]


@pytest.mark.parametrize("header", [b"", b"Connection: close\r\n", b"Host: localhost\r\n"])
def test_http_1_0_is_answered_and_closed(send, header):
    answer = send(b"GET /images?limit=0 HTTP/1.0\r\n" + header + b"\r\n")

    assert status_of(answer) == 200
    assert answer.endswith(b'\r\n\r\n{"images":[]}')


@pytest.mark.parametrize("mebibytes", [2, 9])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/images"), ("PUT", "/images/%s"), ("PUT", "/images/%s/members")]
)
def test_a_body_that_is_too_large_is_answered_413_and_changes_nothing(server, method, path, mebibytes):
    image = create(server)
    path = path.replace("%s", image["id"])
    content = b'{"image": {"name": "%s"}}' % (b"n" * mebibytes * 1024 * 1024)

    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request(method, path, content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        problem = json.loads(response.read())

    detail = "The body is larger than the 1048576 bytes that [api] max_body_bytes allows."
    assert (response.status, response.headers["Content-Type"]) == (413, "application/problem+json")
    assert (problem["status"], problem["detail"]) == (413, detail)
    assert server.request("GET", f"/images/{image['id']}")[2]["image"] == image


def test_sixteen_writers_at_once_lose_nothing(server):
    with ThreadPoolExecutor(16) as pool:
        created = list(pool.map(lambda number: create(server, name=f"writer {number % 16}")["id"], range(160)))

    assert len(set(created)) == 160
    assert set(created) <= ids_of(server)


@pytest.mark.exhaustive
def test_sixteen_clients_count_up_one_image_with_if_match_and_lose_nothing(server):
    path = f"/images/{create(server, properties={'counter': '0'})['id']}"

    def count_up(_):
        while True:
            _, headers, body = server.request("GET", path)
            properties = {"counter": str(int(body["image"]["properties"]["counter"]) + 1)}
            change = {"image": {"properties": properties}}
            status, _, answer = server.request("PUT", path, change, {"If-Match": headers["ETag"]})
            if status != 412:
                assert status == 200, answer
                return

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(count_up, range(48)))

    assert server.request("GET", path)[2]["image"]["properties"] == {"counter": "48"}


def test_no_header_of_a_client_s_says_under_which_path_we_are(server):
    status, _, body = server.request("GET", "/images?limit=0", headers={"SCRIPT_NAME": "/evil"})

    assert (status, body) == (200, {"images": []})


@pytest.mark.exhaustive
def test_who_waits_for_no_lock_is_told_to_come_again_and_never_that_we_are_at_fault(start_server):
    server = start_server(database__busy_timeout=0)
    _, _, answer = server.request("POST", "/images", {"image": IMAGE})
    path = f"/images/{answer['image']['id']}"

    def change(number):
        status, headers, _ = server.request("PUT", path, {"image": {"size": number}})
        return status, headers["Retry-After"], server.request("GET", path)[0]

    with ThreadPoolExecutor(16) as pool:
        answers = set(pool.map(change, range(400)))

    assert answers <= {(200, None, 200), (503, "1", 200)}
    assert (200, None, 200) in answers
