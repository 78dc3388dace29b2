"""The server goes on: under odd bytes, too many connections, huge bodies, broken reloads; and its memory stays."""

import json
import os
import random
import resource
import select
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from statistics import linear_regression

import pytest
from conftest import IMAGE

from faults.clients import HALF_A_HEAD, WHOLE, WHOLE_AND_LAST, ask, connect, many, read_all, status_of
from faults.conftest import rounds

POST = b"POST /images HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
MEBIBYTE = 1024 * 1024
SHAPES = {
    "length and chunks": POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 44\r\n\r\n{}" + SMUGGLED,
    "two equal lengths": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + SMUGGLED,
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}" + SMUGGLED,
    "a signed length": POST + b"Content-Length: +2\r\n\r\n{}" + SMUGGLED,
    "a hexadecimal length": POST + b"Content-Length: 0x2\r\n\r\n{}" + SMUGGLED,
    "a length with an underscore": POST + b"Content-Length: 1_0\r\n\r\n{}        " + SMUGGLED,
    "a length that no number holds": POST + b"Content-Length: " + b"9" * 4000 + b"\r\n\r\n{}" + SMUGGLED,
    "a space before the colon": POST + b"Content-Length : 2\r\n\r\n{}" + SMUGGLED,
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked before identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a tab before chunked": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a folded header": POST + b"X-Folded: one\r\n two\r\nContent-Length: 2\r\n\r\n{}" + SMUGGLED,
    "bare line feeds": POST.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}" + SMUGGLED,
    "one bare line feed": POST + b"X-Bare: one\nContent-Length: 44\r\n\r\n" + SMUGGLED,
    "a bare carriage return": POST + b"X-Bare: one\rContent-Length: 44\r\n\r\n" + SMUGGLED,
    "a NUL in a header": POST + b"X-Nul: \x00\r\nContent-Length: 2\r\n\r\n{}" + SMUGGLED,
    "a negative chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk of no size": POST + b"Transfer-Encoding: chunked\r\n\r\n;\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk too long for its size": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk of bare line feeds": POST + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n" + SMUGGLED,
    "a chunk size without end": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 100_000 + b"\r\n\r\n" + SMUGGLED,
    "a bare line feed in an extension": POST + b"Transfer-Encoding: chunked\r\n\r\n2;\n\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
}


def workers_of(server):
    """The pids of the processes that answer."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def memory_of(server):
    """KiB that the workers hold together, in memory of their own or swapped out."""
    lines = [line for pid in workers_of(server) for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "VmSwap:")))


def refusals(answer):
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()]


@pytest.mark.parametrize("shape", SHAPES)
def test_what_smuggles_a_request_is_refused_and_the_connection_closed(server, shape):
    with connect(server.port, SHAPES[shape]) as connection:
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)

    # At most the request itself is refused; what stands behind it is not answered (with 404: it is nowhere).
    statuses = refusals(answer)
    assert len(statuses) <= 1
    assert all(status in (400, 413, 415, 431, 501) for status in statuses)
    assert ask(server.port) == 200


@pytest.mark.exhaustive
def test_a_thousand_requests_at_once_on_one_connection_are_answered_in_their_order(server):
    number = rounds(1000, 20_000)
    paths = [b"/images?limit=0" if turn % 3 else b"/nowhere" for turn in range(number)]
    content = b"".join(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path for path in paths)

    with connect(server.port) as connection, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(connection.sendall, content + WHOLE_AND_LAST)
        statuses = refusals(read_all(connection))
        sending.result()

    assert statuses == [200 if turn % 3 else 404 for turn in range(number)] + [200]


def send_endlessly(connection, mebibytes):
    with suppress(ConnectionError):
        for _ in range(mebibytes):
            connection.sendall(b" " * MEBIBYTE)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "head", [b"Content-Length: %d\r\n\r\n" % (1024 * MEBIBYTE), b"Transfer-Encoding: chunked\r\n\r\n"]
)
def test_a_body_of_1_gib_is_refused_early_and_not_kept(server, head):
    before = memory_of(server)

    with connect(server.port, POST + head) as connection, ThreadPoolExecutor(1) as pool:
        if b"chunked" in head:
            connection.sendall(b"%x\r\n" % (1024 * MEBIBYTE))
        sending = pool.submit(send_endlessly, connection, 1024)
        answer = read_all(connection)
        sending.result()

    assert answer == b"" or status_of(answer) == 413  # the reset of the connection can overtake the answer
    assert memory_of(server) - before < 32 * 1024
    assert ask(server.port) == 200


@pytest.mark.exhaustive
def test_thousands_of_idle_connections_hold_up_nobody(server):
    number = 2500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number + 500:
        pytest.skip(f"this process may open only {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number + 500), hard))

    with many(number, server.port, WHOLE):
        statuses = {ask(server.port) for _ in range(20)}

    assert statuses == {200}


def test_with_file_descriptors_exhausted_it_goes_on_and_recovers(start_server):
    server = start_server(server__workers=1)
    (worker,) = workers_of(server)
    for _ in range(20):
        ask(server.port)  # every thread has opened the database
    open_files = len(list(Path(f"/proc/{worker}/fd").iterdir()))
    limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (open_files + 10, limits[1]))

    with many(50, server.port), many(50, server.port, HALF_A_HEAD):
        during = ask(server.port)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)

    assert during == 200
    assert ask(server.port) == 200
    assert workers_of(server) == [worker]


def test_a_stopping_server_answers_what_is_still_arriving(start_server):
    server = start_server(server__workers=1, server__threads=1)
    content = json.dumps({"image": {**IMAGE, "is_public": True, "name": "half here"}}).encode()
    head = POST + b"Content-Length: %d\r\n\r\n" % len(content)

    with connect(server.port, head + content[:10]) as connection, connect(server.port, HALF_A_HEAD) as other:
        ask(server.port)  # both have been accepted
        server.process.send_signal(signal.SIGTERM)
        while True:
            try:
                socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
            except ConnectionError:
                break
            time.sleep(0.01)  # polling: it has heard the signal when it listens no more
        connection.sendall(content[10:])
        other.sendall(b"there\r\n\r\n")
        answers = [read_all(connection), read_all(other)]

    assert [status_of(answer) for answer in answers] == [200, 200]
    assert server.process.wait(timeout=60) == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("[server]\nthreads = many", "[server] threads = 'many'"),
        ("[colours]\nred = 1", "[colours]"),
        ("[server]\nbind_host = 0.0.0.0\n[auth]\nflavor = none\n", "is not a loopback address"),
        ("[server]\ncertfile = /nowhere.pem", "[server] certfile = '/nowhere.pem': No such file"),
        ("no ini", "File contains no section headers"),
    ],
    ids=["a value", "a section", "an open network", "a certificate", "no ini"],
)
def test_a_reload_of_a_broken_configuration_changes_nothing(start_server, tmp_path, line, cause):
    file = tmp_path / "registry.ini"
    file.write_text("[server]\nbind_host = 0.0.0.0\n[auth]\nflavor = trusted-auth\nallow_anonymous_access = true\n")
    server = start_server(config=file)
    workers = workers_of(server)

    file.write_text(line)
    server.process.send_signal(signal.SIGHUP)
    printed = b""
    while b"Not reloaded, and serving as before" not in printed:
        assert select.select([server.process.stdout], [], [], 30)[0], printed
        printed += os.read(server.process.stdout.fileno(), 65536)
        assert server.process.poll() is None, printed

    assert cause in printed.decode()
    assert ask(server.port) == 200
    assert workers_of(server) == workers


@pytest.mark.exhaustive
def test_a_reload_takes_a_changed_option_up(start_server, tmp_path):
    file = tmp_path / "registry.ini"
    file.write_text("[api]\nlimit_param_default = 1\n")
    server = start_server(config=file)
    for _ in range(2):
        server.request("POST", "/images", {"image": {**IMAGE, "is_public": True}})
    before = workers_of(server)

    file.write_text("[api]\nlimit_param_default = 2\n")
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while set(before) & set(workers_of(server)):
        assert time.monotonic() < deadline
        time.sleep(0.05)  # polling, with a deadline

    assert len(server.request("GET", "/images")[2]["images"]) == 2


@pytest.mark.exhaustive
def test_killed_workers_are_replaced_again_and_again(start_server):
    server = start_server()

    for _ in range(rounds(3, 100)):
        killed = workers_of(server)[0]
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while killed in (pids := workers_of(server)) or len(pids) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)  # polling, with a deadline
        assert ask(server.port) == 200


def misbehave(server, turn):
    """One client's share of a soak: the answered, the broken off, the refused, the oversized."""
    kinds = [WHOLE_AND_LAST, HALF_A_HEAD, *SHAPES.values(), POST + b"Content-Length: 900000\r\n\r\n" + b" " * 200_000]
    with suppress(OSError), connect(server.port, kinds[turn % len(kinds)]) as connection:
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)
    image = server.request("POST", "/images", {"image": {**IMAGE, "properties": {"turn": str(turn)}}})[2]["image"]
    server.request("PUT", f"/images/{image['id']}", {"image": {"name": "changed"}})
    server.request("GET", "/images/detail?limit=25&is_public=none")
    server.request("DELETE", f"/images/{image['id']}")


@pytest.mark.exhaustive
def test_memory_does_not_grow_under_good_and_bad_clients(start_server, monkeypatch):
    monkeypatch.setenv(
        "GUNICORN_CMD_ARGS", "--log-level error"
    )  # each refusal is logged, into a pipe that nobody reads
    server = start_server()
    seconds = float(os.environ.get("SOAK_SECONDS", rounds(4, 3600)))
    samples, turn, start = [], 0, time.monotonic()

    with ThreadPoolExecutor(4) as pool:
        while (elapsed := time.monotonic() - start) < seconds:
            list(pool.map(lambda number: misbehave(server, number), range(turn, turn + 20)))
            turn += 20
            samples.append((elapsed, memory_of(server)))

    slope, growth = growth_of(samples)
    first, *_, last = [kibibytes for _, kibibytes in samples]
    print(
        f"{turn} rounds in {seconds:g} s: {first} to {last} KiB, {slope * 3600:.0f} KiB an hour after the first third"
    )
    assert growth < MOST_GROWTH
    assert ask(server.port) == 200


# Of both workers, over two thirds of a soak: eight threads may still fill their SQLite caches of 2 MiB. In an hour's
# soak it is 24 MiB an hour.
MOST_GROWTH = 16 * 1024


def growth_of(samples):
    """(KiB a second, KiB) along the line of least squares through (seconds, KiB), the first third of the time aside."""
    end = samples[-1][0]
    settled = [sample for sample in samples if sample[0] >= end / 3]
    if len(settled) < 2:
        return 0.0, 0.0
    slope = linear_regression(*zip(*settled, strict=True)).slope
    return slope, slope * (end - settled[0][0])


@pytest.mark.parametrize(("mebibytes_an_hour", "is_seen"), [(0, False), (10, False), (30, True)])
def test_a_leak_of_30_mib_an_hour_is_seen_in_an_hour_s_soak(mebibytes_an_hour, is_seen):
    chance = random.Random(mebibytes_an_hour)
    leaked = mebibytes_an_hour * 1024 / 3600
    noise = [chance.uniform(-2000, 2000) for _ in range(720)]
    samples = [(at * 5, 68_000 + min(at * 100, 12_000) + at * 5 * leaked + noise[at]) for at in range(720)]

    assert (growth_of(samples)[1] >= MOST_GROWTH) == is_seen
