"""Mixed load of many clients: half of them write, half read."""
# ruff: noqa: S311

import json
import random
import time
from pathlib import Path
from typing import NamedTuple

from bench import rows, wrk
from bench.catalogue import SEED, records
from bench.servers import serve
from bench.writes import new_image

CLIENTS = 64


class Mixture(NamedTuple):
    """Requests a second, errors, and the readers' p99 in microseconds, with others' too."""

    writes: float
    writes_alone: float
    errors: int
    p99: float
    p99_readers_alone: float
    p99_one_reader: float


def measure(database: Path, folder: Path, asks, ids: list[str], seconds: float) -> Mixture:
    """Measure writers and readers: each alone for a quarter, then together."""
    half, alone = CLIENTS // 2, seconds / 4
    readers = wrk.write_requests(folder / "readers", [("GET", ask.target, ask.headers, "") for ask in asks])
    writers = wrk.write_requests(folder / "writers", list(mixed_writes(ids)))
    with serve(rows.copy(database, folder / "mixture.db"), folder, connections=CLIENTS) as server:
        server.wait()
        one_writer = wrk.run(server, writers, alone, 1)
        one_reader = wrk.run(server, readers, alone, 1)
        only_readers = wrk.run(server, readers, alone, half)
        with (
            wrk.ended(wrk.start(server, writers, seconds, half)) as writing,
            wrk.ended(wrk.start(server, readers, seconds, half)) as reading,
        ):
            time.sleep(seconds)
            loads = [wrk.finish(writing), wrk.finish(reading)]
    errors = sum(load.errors for load in loads)
    p99s = loads[1].p99, only_readers.p99, one_reader.p99
    return Mixture(loads[0].rate, one_writer.rate, errors, *p99s)


def mixed_writes(ids):
    """Return as many new images as changes."""
    headers = {"Content-Type": "application/json"}
    chance = random.Random(SEED)
    for number, record in enumerate(records(200)):
        changes = {"image": {"name": f"changed {number}", "min_ram": number}}
        yield "POST", "/images", headers, json.dumps({"image": new_image(record)})
        yield "PUT", f"/images/{chance.choice(ids)}", headers, json.dumps(changes)
