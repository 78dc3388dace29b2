"""Cost of counting and logging: a list from a server with both, and from one without."""

import contextlib
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import wrk
from bench.servers import CONNECTIONS, OURS, Server

LIST = "/images?limit=25"
NOTHING = {"REGISTRY_SERVER_METRICS": "off", "REGISTRY_LOG_REQUESTS": "false"}


class Cost(NamedTuple):
    """Microseconds of CPU, each request."""

    watched: float
    unwatched: float


def measure(database: Path, folder: Path, rounds: int, seconds: float) -> Cost:
    """Measure both in turn, so that other load affects both."""
    requests = wrk.write_requests(folder / "watching", [("GET", LIST, {}, "")])
    ours = {"REGISTRY_DATABASE_CONNECTION": f"sqlite:///{database}"}
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(Server(OURS, folder, ours | options, connections=CONNECTIONS))
            for options in ({}, NOTHING)
        ]
        for server in servers:
            server.wait()
        costs = [[wrk.run(server, requests, seconds, CONNECTIONS).cpu for server in servers] for _ in range(rounds)]
    return Cost(*map(median, zip(*costs, strict=True)))
