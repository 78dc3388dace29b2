"""The benchmark: it times right answers alone, against a floor in the same settings, and leaves nothing behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment

from bench import answers, catalogue, draws, report, servers, storage, timing, wrk
from bench.kinds import Kind, Kinds

SIZE = 120
# Against a hang alone: a measurement takes many times as long on a busy machine, which is no fault.
HANGS_AFTER = 600
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="the benchmark needs wrk: apt install wrk")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small catalogue and its database, as ``--folder`` keeps them."""
    kept = tmp_path_factory.mktemp("bench")
    ndjson = kept / f"catalogue-{SIZE}.ndjson"
    catalogue.write(ndjson, SIZE)
    storage.load(kept / f"registry-{SIZE}.db", ndjson)
    return kept


@pytest.fixture
def images(folder):
    return catalogue.Catalogue(folder / f"catalogue-{SIZE}.ndjson")


@pytest.fixture
def ask(folder, database_path, make_client):
    """A function: what the registry answers, as (status, headers, body)."""
    shutil.copy(folder / f"registry-{SIZE}.db", database_path)
    client = make_client()

    def get(question):
        response = client.get(question.target)
        return response.status_code, response.headers, response.data

    return get


def bench(folder, *arguments, **variables):
    command = [sys.executable, "-m", "bench", "--folder", str(folder), "--sizes", str(SIZE), *arguments]
    options = {"cwd": ROOT, "env": clean_environment() | variables, "text": True}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def test_a_catalogue_is_the_same_every_time(folder, tmp_path):
    catalogue.write(tmp_path / "again.ndjson", SIZE)

    assert (tmp_path / "again.ndjson").read_bytes() == (folder / f"catalogue-{SIZE}.ndjson").read_bytes()


def test_every_right_answer_passes(images, ask):
    kinds = [kind for kind in Kinds(images, is_whole=True).all() if kind.tenant is None]

    for question in [question for kind in kinds for question in kind.asks[:2]]:
        answers.check(images, question, ask(question))

    assert len(kinds) > 60


def change(key, value):
    """A function: the answer, with another value in its second image."""

    def alter(status, headers, answer):
        answer["images"][1][key] = value
        return status, headers, answer

    return alter


WRONG = {
    "the status": lambda status, headers, answer: (206, headers, answer),
    "an image less": lambda status, headers, answer: (status, headers, {"images": answer["images"][1:]}),
    "an image more": lambda status, headers, answer: (status, headers, {"images": answer["images"] * 2}),
    "the order": lambda status, headers, answer: (status, headers, {"images": answer["images"][::-1]}),
    "no image": lambda status, headers, answer: (status, headers, {"images": []}),
    "no next page": lambda status, headers, answer: (status, {}, answer),
    "another image": change("id", "71c675ab-d94f-49cd-a114-e12490b328d9"),
    "another name": change("name", "wrong"),
}


@pytest.mark.parametrize("alter", WRONG.values(), ids=WRONG)
def test_a_wrong_answer_does_not_pass(images, ask, alter):
    question = answers.Ask("/images", {"limit": "25"})
    status, headers, body = ask(question)
    answers.check(images, question, (status, headers, body))

    status, headers, answer = alter(status, headers, json.loads(body))

    with pytest.raises(answers.WrongAnswer):
        answers.check(images, question, (status, headers, json.dumps(answer).encode()))


@pytest.mark.exhaustive
@needs_wrk
def test_a_server_that_answers_wrongly_is_not_timed(folder, tmp_path, start_server, database_path):
    shutil.copy(folder / f"catalogue-{SIZE}.ndjson", tmp_path)
    shutil.copy(folder / f"registry-{SIZE}.db", database_path)
    server = start_server()
    _, _, page = server.request("GET", "/images?limit=1")
    status, _, _ = server.request("PUT", f"/images/{page['images'][0]['id']}", {"image": {"name": "changed"}})
    server.stop()
    database_path.rename(tmp_path / f"registry-{SIZE}.db")

    process = bench(tmp_path, "--only", "list of 25$", "--kinds-only")
    output, _ = process.communicate(timeout=HANGS_AFTER)

    assert (status, process.returncode) == (200, 1)
    assert output.startswith("A wrong answer, so nothing was timed. GET /images?limit=25 (admin), images: ")
    assert "of floor" not in output


@needs_wrk
@pytest.mark.exhaustive
def test_it_measures_what_it_should(folder):
    kinds = "show one: 304|list of 25$|detail of 25, deep|tenant with many: list$"

    process = bench(folder, "--only", kinds, "--rounds", "1", "--seconds", "0.05")
    output, _ = process.communicate(timeout=HANGS_AFTER)

    assert process.returncode == 0, output
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in output.splitlines() if line.startswith("| ")]
    names = {row[0]: row[-1] for row in rows}
    assert [name for name in names if re.fullmatch(kinds, name)] == [
        *("show one: 304", "list of 25", "detail of 25, deep", "tenant with many: list")
    ]
    assert {"memory of a worker, after", "start to first answer", "64 clients at once: errors", "image"} <= set(names)
    assert "a request counted and logged, list of 25: of its CPU time" in names
    assert {f"{verb} ÷ raw sqlite3 behind Flask" for verb in ("POST", "PUT", "DELETE")} <= set(names)
    assert re.search(r"^\d+ met, \d+ not met\.$", output, re.MULTILINE)
    assert processes_of(folder) == []


@pytest.mark.exhaustive
@needs_wrk
def test_no_process_is_left_when_it_is_ended(folder):
    process = bench(folder, "--kinds-only", "--seconds", "30")
    deadline = time.monotonic() + HANGS_AFTER
    while len(processes_of(folder)) < 6 and time.monotonic() < deadline:
        time.sleep(0.05)  # polling, with a deadline
    started = processes_of(folder)

    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=HANGS_AFTER)

    assert len(started) >= 6, output
    assert (output, process.returncode) == ("ended by a signal\n", 1)
    assert processes_of(folder) == []


def processes_of(folder):
    """Servers whose environment names the folder, and what they have started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid == os.getuid() and str(folder).encode() in (path / "environ").read_bytes():
                found.append(path.name)
        except OSError:
            continue  # it has ended meanwhile
    return found


@pytest.mark.exhaustive
def test_without_wrk_it_says_how_to_get_it(folder, tmp_path):
    process = bench(folder, PATH=str(tmp_path))

    output, _ = process.communicate(timeout=HANGS_AFTER)

    assert (output, process.returncode) == ("The benchmark needs wrk: apt install wrk\n", 1)


def test_the_floor_has_the_settings_of_ours(tmp_path):
    text = servers.write_settings(tmp_path).read_text()

    assert {"workers = 2", "threads = 4", "worker_class = 'server.worker.RegistryWorker'", "keepalive = 15"} <= set(
        text.splitlines()
    )
    assert "bind" not in text


def test_the_page_and_the_chart_say_what_was_found(tmp_path):
    slow, fast = (wrk.Load(requests=100, errors=0, rate=1000, p50=500, p99=900, cpu=cpu) for cpu in (200, 100))
    pairs = {1000: [timing.Pair(fast, fast)], 10_000: [timing.Pair(slow, fast)]}
    timings = [timing.Timing(Kind(name, [answers.Ask("/images")]), pairs) for name in ("list of 25", "<any>")]
    figures = [report.Figure("memory", "49 MB", "≤ 80 MB", is_met=True)]

    report.write(report.Report("python -m bench", timings, figures, {"image": 1234.5}), tmp_path)

    page, chart = ((tmp_path / f"performance.{suffix}").read_text() for suffix in ("md", "svg"))
    assert re.search(r"\| list of 25 +\| 100 +\| 1\.00 +\| 200 +\| 0\.50 +\| ≥ 0\.65 \| 2\.00 .*\| NOT MET \|", page)
    assert re.search(r"\| memory +\| 49 MB \| ≤ 80 MB \| met +\|", page)
    assert "1,234.5" in page
    assert "1 met, 2 not met." in page
    assert chart.startswith("<svg ")


@pytest.fixture
def find_worst(folder):
    """A function: the exit code and output of ``bench.worst``."""

    def run(*arguments):
        database = folder / f"registry-{SIZE}.db"
        command = [sys.executable, "-m", "bench.worst", "--database", str(database), "--seconds", "2", *arguments]
        options = {"cwd": ROOT, "env": clean_environment(), "capture_output": True, "text": True}
        process = subprocess.run(command, check=False, timeout=HANGS_AFTER, **options)
        assert process.stderr == ""
        return process.returncode, process.stdout

    return run


@pytest.mark.exhaustive
@pytest.mark.parametrize(("most", "verdict"), [("60000", (0, "met")), ("0", (1, "NOT MET"))])
def test_the_worst_questions_are_shown_and_held_against_the_bound(find_worst, most, verdict):
    status, output = find_worst("--most", most)

    worst = re.findall(r"^ +(\d+\.\d)  +(\d+) rows  (\S+)  /images(?:/detail)?\?(\S+)$", output, re.MULTILINE)
    costs = [float(milliseconds) for milliseconds, *_ in worst]
    assert (status, output.splitlines()[-1]) == (verdict[0], f"At most {most} ms: {verdict[1]}.")
    assert (len(costs), costs) == (10, sorted(costs, reverse=True))
    assert output.count("    SCAN page\n") == 3


@pytest.mark.exhaustive
def test_looking_for_the_worst_question_leaves_the_database_as_it_was(find_worst, folder):
    before = (folder / f"registry-{SIZE}.db").read_bytes()

    find_worst("--seconds", "0.5")

    assert (folder / f"registry-{SIZE}.db").read_bytes() == before


def test_a_seed_draws_the_same_questions_again_and_another_draws_others(folder):
    source = draws.Source(folder / f"registry-{SIZE}.db", 1)

    first, again, other = (
        [drawing.question() for _ in range(300)] for drawing in map(partial(draws.Draws, source), (1, 1, 2))
    )

    assert first == again
    assert len(set(first) & set(other)) < 10
    names = {name for question in first for name, _ in question.query}
    assert {"name", "min_ram", "size_min", "size_max", "changes-since", "deleted", "marker", "property-hw_tpm"} <= names
    assert {catalogue.FEW, catalogue.GUEST, "admin", "anonymous"} <= {question.caller for question in first}
