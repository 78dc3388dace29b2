"""Durable writes by one client: ours against raw sqlite3."""

import json
import socket
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import rows
from bench.catalogue import records
from bench.servers import FLOOR, Server, serve

BATCH = 50
VERBS = ("POST", "PUT", "DELETE")


class Writing(NamedTuple):
    """Median ratios of ours to raw sqlite3, by requests a second and by CPU time, and ours' requests a second."""

    verb: str
    ratio: float
    cpu_ratio: float
    rate: float


def measure(database: Path, folder: Path, ids: list[str], rounds: int) -> list[Writing]:
    """Measure POST, PUT and DELETE in batches, ours and the floor's in turn."""
    ours_copy, floor_copy = rows.copy(database, folder / "writes.db"), rows.copy(database, folder / "raw.db")
    batch = folder / "batch.txt"
    variables = {"REGISTRY_DATABASE_CONNECTION": f"sqlite:///{floor_copy}", "BENCH_BATCH": str(batch)}
    one_thread = ("--workers", "1", "--threads", "1")
    with serve(ours_copy, folder) as ours, Server(FLOOR, folder, variables, one_thread) as floor:
        ours.wait()
        floor.wait("/")
        writers = Client(ours), Client(floor)
        turns = {verb: [] for verb in VERBS}
        for turn in range(rounds):
            for verb in VERBS:
                requests = list(make_requests(verb, turn, ids[turn::rounds][:BATCH]))
                turns[verb].append(compare(*writers, requests, ours_copy, batch))
    return [summary(verb, pairs) for verb, pairs in turns.items()]


def summary(verb, pairs):
    """Return the Writing of pairs (ours, floor) of (seconds, CPU seconds) a request."""
    ratios = [(floor[0] / ours[0], floor[1] / ours[1], 1 / ours[0]) for ours, floor in pairs]
    return Writing(verb, *map(median, zip(*ratios, strict=True)))


def make_requests(verb, turn, ids):
    """Return [(verb, path, body, image id)]: creates, changes, then deletes."""
    if verb == "POST":
        for number, record in enumerate(records(BATCH)):
            image_id = f"{turn:08x}-0000-4000-8000-{number:012x}"
            yield verb, "/images", {"image": new_image(record) | {"id": image_id}}, image_id
    for image_id in ids if verb == "PUT" else ():
        changes = {"name": f"changed {turn}", "protected": False, "properties": {"build": f"again {turn}"}}
        yield verb, f"/images/{image_id}", {"image": changes}, image_id
    for image_id in ids if verb == "DELETE" else ():
        yield verb, f"/images/{image_id}", None, image_id


def new_image(record):
    """Return the body that registers a record."""
    left_out = ("id", "created_at", "updated_at", "deleted", "deleted_at", "location", "visibility", "members")
    return {name: value for name, value in record.items() if name not in left_out}


def compare(ours, floor, requests, database, batch):
    """Send ``requests`` to ours; then let the floor commit the same rows."""
    ids = [image_id for *_, image_id in requests]
    before = rows.read(database, ids)
    prepared = [ours.prepare(verb, path, body) for verb, path, body, _ in requests]
    our_cost, bodies = ours.send(prepared)
    after = rows.read(database, ids)
    commits = [rows.statements(before[image_id], after[image_id]) for image_id in ids]
    batch.write_text(repr(list(zip(commits, bodies, strict=True))))
    floor.server.fetch("/batch", method="POST", body=b"")
    numbered = [floor.prepare(verb, f"/{number}", body) for number, (verb, _, body, _) in enumerate(requests)]
    floor_cost, _ = floor.send(numbered)
    return our_cost, floor_cost


class Client:
    """Client on one connection, with prepared requests."""

    def __init__(self, server):
        self.server = server

    def prepare(self, verb, path, body):
        content = b"" if body is None else json.dumps(body).encode()
        headers = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
        return f"{verb} {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode() + content

    def send(self, requests):
        """Return ((seconds, CPU seconds) per request, bodies). Raises RuntimeError."""
        with closing(socket.create_connection(("127.0.0.1", self.server.port), timeout=60)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            before, start = self.server.cpu_seconds(), time.perf_counter()
            bodies = [exchange(connection, request) for request in requests]
            costs = time.perf_counter() - start, self.server.cpu_seconds() - before
            return tuple(cost / len(requests) for cost in costs), bodies


def exchange(connection, request):
    """Return the body. Raises RuntimeError unless the answer is a complete 200."""
    connection.sendall(request)
    answer, expected = b"", None
    while expected is None or len(answer) < expected:
        chunk = connection.recv(65536)
        answer += chunk
        head, blank, _ = answer.partition(b"\r\n\r\n")
        if not chunk or not answer.startswith(b"HTTP/1.1 200 "[: len(answer)]):
            raise RuntimeError(f"{request[:200]!r} was answered {answer[:500]!r}")
        if blank:
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
            expected = len(head) + len(blank) + int(length)
    return answer[-int(length) :]
