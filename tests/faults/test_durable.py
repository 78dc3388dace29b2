"""Promise 1: a 2xx means on disk, whatever dies."""

import re
import shutil
import sqlite3
import time
from contextlib import closing

import pytest
from conftest import environment

import migrations
from config import read_settings
from errors import StartupError
from faults.conftest import rounds
from faults.powerloss import Chance, TracedLedger, disk_after, ledger_of, read_trace
from faults.writers import Ledger, Writers, compare, read_states

ROUNDS_A_DATABASE = 20


def kill_and_look(start, path, ledger, tally, without):
    """One round: 16 writers, kill -9 of all processes at a random moment, a start without help."""
    tally.rounds += 1
    server = start(path, without=without)
    writers = Writers(server, ledger, tally.random)
    time.sleep(tally.random.uniform(0.02, 0.8))  # the moment is the experiment
    server.kill()
    writers.join()
    tally.violations += writers.violations
    try:
        restarted = start(path)
    except AssertionError as refusal:
        tally.violations.append(f"no start without help: {refusal}")
        return
    if restarted.request("GET", "/images?limit=1")[0] != 200:
        tally.violations.append("the server does not answer after it was killed")
    stored = read_states(path, tally.violations)
    compare(ledger.possible, stored, tally.violations)
    ledger.settle(stored)
    restarted.kill()


@pytest.fixture
def kill_rounds(start_broken_server, tmp_path, tally):
    """A function: so many rounds, on a new database after every twentieth, ``without`` a defence."""

    def run(number, without="with_words_indexed_often"):
        for done in range(number):
            if done % ROUNDS_A_DATABASE == 0:
                ledger, path = Ledger(), tmp_path / f"{tally.rounds}.db"
            kill_and_look(start_broken_server, path, ledger, tally, without)

    return run


def test_what_was_acknowledged_survives_kill_9_of_every_process(kill_rounds, tally):
    tally.promise = "1 durable: kill -9 under 16 writers"

    kill_rounds(rounds(3, 200))

    assert tally.violations == []


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("without", "found"),
    [
        # Which statements were the last of a change, and so what does not fit, is chance.
        ("without_transactions", "its digest does not fit|the words that searches find it by|has the history"),
        ("without_every_20th_commit", "should be one of"),
    ],
)
def test_the_kill_finds_a_missing_defence(kill_rounds, tally, without, found):
    tally.promise = f"1 durable: kill -9, {without.replace('_', ' ')} (must find some)"

    for _ in range(rounds(5, 10)):
        kill_rounds(1, without)
        if found_in(tally.violations, found):
            break

    assert found_in(tally.violations, found)


def found_in(violations, pattern):
    return [violation for violation in violations if re.search(pattern, violation, re.DOTALL)]


@pytest.fixture
def record_trace(start_broken_server, shim, tmp_path, tally):
    """A function: the records of a server's life from the first start, under 16 writers, ``without`` a defence, and
    the ``-shm`` file that it left when it was killed.
    """

    def record(changes, without):
        folder, trace = tmp_path / f"traced {tally.rounds}", tmp_path / f"trace {tally.rounds}"
        folder.mkdir()
        variables = {"LD_PRELOAD": shim, "TRACE_FILE": trace, "TRACE_FOLDER": folder}
        with closing(TracedLedger(trace)) as ledger:
            # A crowded disk may make them wait; what is looked for is another thing.
            options = {"variables": variables, "without": without, "database__busy_timeout": 60}
            server = start_broken_server(folder / "registry.db", **options)
            writers = Writers(server, ledger, tally.random)
            while writers.acknowledged < changes and not writers.violations:
                time.sleep(0.01)  # polling; each writer has a deadline
            server.kill()
            writers.join()
        assert writers.violations == []
        return read_trace(trace), (folder / "registry.db-shm").read_bytes()

    return record


def cut_power_and_look(records, index, folder, tally):
    """One round: the power goes at a random moment of the trace, or at its end, and the service starts on what the
    disk has left: beside it nothing, random bytes, or at the end the ``-shm`` file that counts all commits.
    """
    is_end = tally.random.random() < 0.25
    survived = records if is_end else records[: tally.random.randrange(len(records))]
    folder.mkdir()
    for name, content in disk_after(survived, Chance(tally.random)).items():
        (folder / name).write_bytes(content)
    path = folder / "registry.db"
    if tally.random.random() < 0.5:
        index = index if is_end else tally.random.randbytes(32768)  # SQLite must not believe it
        (folder / "registry.db-shm").write_bytes(index)
    try:
        migrations.prepare(read_settings(environment(path)).database)
        compare(ledger_of(survived).possible, read_states(path, tally.violations), tally.violations)
    except (StartupError, sqlite3.Error) as error:
        tally.violations.append(f"after {len(survived)} records it does not start: {error}")
    shutil.rmtree(folder)
    tally.rounds += 1


def cut_power_often(record_trace, folder, tally, *, without, traces, cuts, changes):
    for _ in range(traces):
        records, index = record_trace(changes, without)
        for _ in range(cuts):
            cut_power_and_look(records, index, folder, tally)


@pytest.mark.exhaustive
def test_what_was_acknowledged_survives_the_loss_of_power(record_trace, tmp_path, tally):
    tally.promise = "1 durable: power lost, only what was synced is certain"
    sizes = {"traces": rounds(1, 20), "cuts": rounds(60, 200), "changes": rounds(300, 600)}

    cut_power_often(record_trace, tmp_path / "after", tally, without="with_words_indexed_often", **sizes)

    assert tally.violations == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("without", ["without_syncs", "with_rare_syncs"])
def test_the_loss_of_power_finds_that_synchronous_is_not_full(record_trace, tmp_path, tally, without):
    tally.promise = f"1 durable: power lost, {without.replace('_', ' ')} (must find some)"
    sizes = {"traces": 1, "cuts": rounds(20, 200), "changes": rounds(100, 600)}

    cut_power_often(record_trace, tmp_path / "after", tally, without=without, **sizes)

    assert tally.violations != []
