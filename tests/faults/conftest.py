"""Rounds, seeds and the table of ``make torture``; servers to break, and the shim beneath them."""

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from faults.servers import BrokenServer

FOLDER = Path(__file__).parent
IS_TORTURE = bool(os.environ.get("TORTURE"))


def pytest_configure():
    # Before the workers of pytest-xdist start: all take the same.
    os.environ.setdefault("TORTURE_SEED", str(random.SystemRandom().randrange(10**9)))


def rounds(quick, torture):
    """How many rounds a fault test runs: few in ``make test``, many in ``make torture``."""
    return torture if IS_TORTURE else quick


class Tally:
    """What one fault test did: a row of the table. Its ``random`` depends on the seed and the test's name alone."""

    def __init__(self, test):
        self.promise = test
        self.rounds = 0
        self.violations = []
        self.seed = os.environ["TORTURE_SEED"]
        self.random = random.Random(f"{self.seed} {test}")
        self.started = time.monotonic()

    def row(self):
        seconds = round(time.monotonic() - self.started, 1)
        return [self.promise, self.rounds, len(self.violations), seconds, self.seed]


@pytest.fixture
def tally(request, record_property):
    """Counts rounds and violations; the test says whose ``tally.promise`` they are, and asserts that there are none."""
    counted = Tally(request.node.name)
    print(f"TORTURE_SEED={counted.seed}")
    yield counted
    record_property("tally", counted.row())


# Tests that count no rounds: each is one. Those outside this folder stand in the Makefile, too.
PROMISES = {
    "test_available": "4 available (tests)",
    "test_server": "4 available (tests)",
    "test_slow_clients": "4 available: slow clients (tests)",
    "test_proxies": "4 available: behind proxies (tests)",
    "test_damage": "5 recoverable: damaged files and logs (tests)",
    "test_damaged_records": "5 recoverable: damaged records (tests)",
    "test_recovery": "5 recoverable: check, backup, restore, purge (tests)",
    "test_replication": "5 recoverable: replication (tests)",
    "test_openapi": "6 no 5xx: the document (tests)",
    "test_migrations": "7 upgrade (tests)",
}


def pytest_terminal_summary(terminalreporter):
    found = [row for reports in terminalreporter.stats.values() for report in reports for row in rows_of(report)]
    if not (IS_TORTURE and found):
        return
    terminalreporter.section("torture")
    line = "{:<86} {:>8} {:>10} {:>8} {:>10}"
    terminalreporter.write_line(line.format("promise", "rounds", "violations", "seconds", "seed"))
    for promise in sorted({row[0] for row in found}):
        rows = [row for row in found if row[0] == promise]
        sums = [round(sum(column), 1) for column in list(zip(*rows, strict=True))[1:4]]
        terminalreporter.write_line(line.format(promise, *sums, rows[0][4]))


def rows_of(report):
    """[promise, rounds, violations, seconds, seed] of a test that has run."""
    if getattr(report, "when", "") == "teardown":
        yield from (value for name, value in report.user_properties if name == "tally")
    if getattr(report, "when", "") == "call" and report.outcome != "skipped":
        promise = PROMISES.get(Path(report.location[0]).stem)
        if promise:
            violations = int(report.outcome != "passed")
            yield [promise, 1, violations, report.duration, os.environ["TORTURE_SEED"]]


@pytest.fixture
def start_broken_server(database_path):
    """A function: a running BrokenServer, on ``database_path`` unless told; all are ended after the test."""
    servers = []

    def start(path=database_path, **options):
        servers.append(BrokenServer(path, **options))
        return servers[-1].wait_until_ready()

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The library of shim.c, for LD_PRELOAD."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build tests/faults/shim.c with")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, FOLDER / "shim.c", "-ldl"]
    subprocess.run(command, check=True)
    return library
