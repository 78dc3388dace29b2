"""Rounds of measurement: ours and the floor in turn, each kind at each size."""

import json
import re
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import answers, wrk
from bench.answers import Ask
from bench.catalogue import Catalogue
from bench.kinds import Kind, Kinds
from bench.servers import CONNECTIONS, FLOOR, Server

# Headers that the server sets on any answer.
SERVED_HEADERS = ("server", "date", "connection", "content-length", "content-type")
# Checking one list against the slow model takes about a second at a million images.
CHECKED, CHECKED_SLOWLY, SLOW = 10, 2, 50_000


class Stage(NamedTuple):
    """Catalogue and its servers, by flavor."""

    size: int
    catalogue: Catalogue
    servers: dict[str, Server]

    def server(self, tenant: str | None) -> Server:
        return self.servers["none" if tenant is None else "trusted-auth"]


class Trial(NamedTuple):
    """One kind at one size, checked and ready to be timed; its requests are in files for wrk."""

    kind: Kind
    stage: Stage
    key: str
    ours: Path
    floor: Path
    constant: dict


class Pair(NamedTuple):
    """One round of a trial."""

    ours: wrk.Load
    floor: wrk.Load

    @property
    def ratio(self) -> float:
        """Return the floor's CPU time over ours."""
        return self.floor.cpu / self.ours.cpu


class Timing(NamedTuple):
    """All rounds of one kind, by size."""

    kind: Kind
    pairs: dict[int, list[Pair]]

    def ratio(self, size: int) -> float:
        return median(pair.ratio for pair in self.pairs[size])

    def middle(self, size: int, side: str, figure: str) -> float:
        return median(getattr(getattr(pair, side), figure) for pair in self.pairs[size])

    @property
    def growth(self) -> float:
        """Return the cost at the largest size over the smallest, relative to floors."""
        small, large = self.pairs[min(self.pairs)], self.pairs[max(self.pairs)]
        return median(one.ratio / other.ratio for one, other in zip(small, large, strict=True))

    @property
    def worst(self) -> float:
        return min(self.ratio(size) for size in self.pairs)


def prepare(stages: list[Stage], folder: Path, is_whole: bool, only: str = "") -> list[list[Trial]]:
    """Return the trials of each kind, one per size. Raises answers.WrongAnswer."""
    rows = []
    for stage in stages:
        kinds = [kind for kind in Kinds(stage.catalogue, is_whole).all() if re.search(only, kind.name)]
        rows.append([make_trial(stage, kind, f"{stage.size}-{place}", folder) for place, kind in enumerate(kinds)])
        answers.in_order.cache_clear()
    return [list(trials) for trials in zip(*rows, strict=True)]


def make_trial(stage: Stage, kind: Kind, key: str, folder: Path) -> Trial:
    server = stage.server(kind.tenant)
    asks = [follow(server, kind, ask) for ask in kind.asks]
    responses = []
    checked = CHECKED if stage.size < SLOW else CHECKED_SLOWLY
    for ask in asks[:: max(len(asks) // checked, 1)]:
        responses.append(server.ask(ask))
        answers.check(stage.catalogue, ask, responses[-1])
    requests = [("GET", ask.target, ask.headers, "") for ask in asks]
    ours = wrk.write_requests(folder / f"{key}.ours", requests)
    # The floor receives the same bytes; its routes ignore the query string.
    floor = wrk.write_requests(folder / f"{key}.floor", requests, f"/{key}?")
    return Trial(kind, stage, key, ours, floor, constant(kind, responses))


def follow(server: Server, kind: Kind, ask: Ask) -> Ask:
    if not kind.follow:
        return ask
    _, headers, _ = server.ask(ask)
    return ask._replace(etag=headers["ETag"]) if kind.follow == "etag" else ask.next_page(headers["Link"])


def constant(kind: Kind, responses) -> dict:
    """Return the floor's answer: the response of median length."""
    status, headers, body = sorted(responses, key=lambda response: len(response[2]))[len(responses) // 2]
    kept = [(name, value) for name, value in headers.items() if name.lower() not in SERVED_HEADERS]
    return {"status": status, "body": body.decode(), "headers": kept if kind.floor_has_headers else []}


def start_floor(rows: list[list[Trial]], folder: Path) -> Server:
    path = folder / "answers.json"
    path.write_text(json.dumps({trial.key: trial.constant for trials in rows for trial in trials}))
    return Server(FLOOR, folder, {"BENCH_ANSWERS": str(path)})


def measure(rows: list[list[Trial]], floor: Server, rounds: int, seconds: float, progress) -> list[Timing]:
    """Measure every kind: in each round, at each size, ours and then the floor."""
    timings = [Timing(trials[0].kind, {trial.stage.size: [] for trial in trials}) for trials in rows]
    for turn in range(rounds):
        for trials, timing in zip(rows, timings, strict=True):
            progress(f"round {turn + 1} of {rounds}: {timing.kind.name}")
            for trial in trials:
                server = trial.stage.server(trial.kind.tenant)
                ours = wrk.run(server, trial.ours, seconds, CONNECTIONS)
                pair = Pair(ours, wrk.run(floor, trial.floor, seconds, CONNECTIONS))
                timing.pairs[trial.stage.size].append(pair)
    return timings


def walk(stage: Stage, sort_key: str, sort_dir: str, limit: int) -> tuple[float, float]:
    """Return (slowest tenth of pages over the first, slowest page in ms CPU).

    Raises answers.WrongAnswer unless the pages hold each image once, in order.
    """
    ask = Ask("/images", {"sort_key": sort_key, "sort_dir": sort_dir, "limit": str(limit), "is_public": "none"})
    server, costs, ids, link = stage.server(None), [], [], ""
    while link is not None:
        ask = ask.next_page(link) if link else ask
        before = server.cpu_seconds()
        status, headers, body = server.ask(ask)
        costs.append(server.cpu_seconds() - before)
        answers.require(ask, "status", status, 200)
        ids += [image["id"] for image in json.loads(body)["images"]]
        link = headers["Link"]
    expected = answers.listed(stage.catalogue, ask.query, None)
    answers.require(ask, "the walk's length", len(ids), len(expected))
    wrong = next((place for place, entry in enumerate(expected) if entry.id != ids[place]), None)
    answers.require(ask, "the walk's first wrong image", wrong, None)
    # The last page is shorter.
    whole = costs[:-1] or costs
    tenth = max(len(whole) // 10, 1)
    tenths = [median(whole[start : start + tenth]) for start in range(0, len(whole) - tenth + 1, tenth)]
    return max(tenths) / tenths[0], max(costs) * 1000


def start_seconds(make_server) -> float:
    """Return the seconds from the start of the process to its first answer."""
    with make_server() as server:
        return server.wait().start_seconds


def elapsed(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start
