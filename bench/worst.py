"""Search for the slowest list request: ``python -m bench.worst``, at random, then by hill climbing.

Random draws depend on the seed and the database alone, hill climbing also on the measured times.
"""

import argparse
import heapq
import sys
import time
from itertools import count
from pathlib import Path
from typing import NamedTuple

import orjson

from auth import DUPLICATE_HEADERS
from bench.draws import ADMIN, ANONYMOUS, Draws, Question, Source
from config import read_settings
from listing import sqlite_planner
from registry import create_app
from storage import engine

MOST_MILLISECONDS = 250
SHOWN, EXPLAINED = 10, 3
# Part of the time for random draws; then it climbs from the CLIMBED slowest.
DRAWN_PART, CLIMBED = 0.5, 20


class Cost(NamedTuple):
    """CPU time of a question in the thread that answers."""

    milliseconds: float
    question: Question
    rows: int


def parse_options(arguments):
    parser = argparse.ArgumentParser(prog="python -m bench.worst", description=__doc__)
    parser.add_argument("--database", type=Path, required=True, help="a registry's file; it is only read")
    parser.add_argument("--seconds", type=float, default=60, help="how long it looks")
    parser.add_argument("--seed", type=int, default=4)
    bound = "exit with 1 where a question takes more (default: %(default)s)"
    parser.add_argument("--most", type=float, default=MOST_MILLISECONDS, metavar="MILLISECONDS", help=bound)
    return parser.parse_args(arguments)


def main(arguments=None) -> int:
    options = parse_options(arguments)
    registry = Registry(options.database)
    search = Search(registry, options.database, options.seed)
    search.draw(options.seconds * DRAWN_PART)
    search.climb(options.seconds * (1 - DRAWN_PART))
    worst = search.worst(SHOWN)
    sys.stdout.write(report(registry, worst, search.asked, options))
    return 1 if worst[0].milliseconds > options.most else 0


class Registry:
    """Application in this thread, on a read-only database."""

    def __init__(self, path):
        variables = {"DATABASE_CONNECTION": f"sqlite:///{path.resolve()}"}
        variables |= {"AUTH_FLAVOR": "trusted-auth", "AUTH_ALLOW_ANONYMOUS_ACCESS": "true"}
        settings = read_settings({f"REGISTRY_{name}": value for name, value in variables.items()})
        self.client = create_app(settings).test_client()
        self.client.environ_base[DUPLICATE_HEADERS] = frozenset()  # it sends each header once
        engine.database.connection().execute("PRAGMA query_only = 1")

    def ask(self, question):
        """Return (CPU seconds, response), with a cold count cache."""
        sqlite_planner.count_cache.clear()
        headers = identity(question.caller)
        start = time.thread_time()
        response = self.client.get(question.target, headers=headers)
        seconds = time.thread_time() - start
        if response.status_code not in (200, 400):
            raise RuntimeError(f"{response.status_code} {question}")
        return seconds, response

    def plan(self, question):
        """Return the plan of the last statement, which reads the page."""
        statements, connection = [], engine.database.connection()
        connection.set_trace_callback(statements.append)
        self.ask(question)
        connection.set_trace_callback(None)
        ours = [statement for statement in statements if not statement.startswith("--")]  # not the search index's own
        return [line for *_, line in connection.execute(f"EXPLAIN QUERY PLAN {ours[-1]}")]


def identity(caller):
    if caller == ANONYMOUS:
        return {}
    roles, tenant = ("admin", "") if caller == ADMIN else ("member", caller)
    return {"X-Identity-Status": "Confirmed", "X-User-Id": "someone", "X-Tenant-Id": tenant, "X-Roles": roles}


class Search:
    """Search that keeps the slowest question of each shape."""

    def __init__(self, registry, database, seed):
        self.registry = registry
        source = Source(database, seed)
        self.drawing, self.climbing = Draws(source, f"draw {seed}"), Draws(source, f"climb {seed}")
        self.found = {}
        self.asked = 0

    def draw(self, seconds):
        deadline = time.monotonic() + seconds
        for number in count():
            if number and time.monotonic() >= deadline:
                return
            self.try_out(self.drawing.question(), follows=number % 2)

    def climb(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            start = self.climbing.chance.choice(self.worst(CLIMBED))
            self.try_out(self.climbing.mutated(start.question), follows=False)

    def try_out(self, question, follows):
        """Measure a question, or the page that its next link leads to."""
        seconds, response = self.registry.ask(question)
        if follows and "Link" in response.headers:
            question = question.next_page(response.headers["Link"])
            seconds, response = self.registry.ask(question)
        self.asked += 1
        known = self.found.get(question.shape)
        if response.status_code != 200 or (known and known.milliseconds >= seconds * 1000):
            return
        # The minimum of two, because of other load.
        seconds = min(seconds, self.registry.ask(question)[0])
        if not known or known.milliseconds < seconds * 1000:
            rows = len(orjson.loads(response.data)["images"])
            self.found[question.shape] = Cost(seconds * 1000, question, rows)

    def worst(self, number):
        return heapq.nlargest(number, self.found.values(), key=lambda cost: cost.milliseconds)


def report(registry, worst, asked, options):
    lines = [
        f"Asked {asked:,} questions of {len(worst)} or more shapes (seed {options.seed}). The worst, in ms of CPU:"
    ]
    lines += [f"{cost.milliseconds:9.1f}  {cost.rows:4} rows  {named(cost)}" for cost in worst]
    for cost in worst[:EXPLAINED]:
        lines += ["", named(cost)]
        lines += [f"    {line}" for line in registry.plan(cost.question)]
    is_met = worst[0].milliseconds <= options.most
    lines += ["", f"At most {options.most:g} ms: {'met' if is_met else 'NOT MET'}."]
    return "\n".join(lines) + "\n"


def named(cost):
    return f"{cost.question.caller}  {cost.question.target}"


if __name__ == "__main__":
    sys.exit(main())
