"""Monitoring: /healthcheck for load balancers, and /metrics for Prometheus."""

import logging
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import FLASK, IMAGE, ROOT, clean_environment, environment, free_port, identity, stopped
from prometheus_client.parser import text_string_to_metric_families
from test_server import printed_until, wait_until, worker_pids

from config import VERSION
from monitoring import Record, metrics
from schemas import UPDATE_STATUSES
from server.counters import SharedCounters
from storage import schema_guard

TOKEN = re.compile(r"registry_[\w-]{43}")


def sample_of(text, name, **labels):
    """The value of a sample, or 0 where there is none yet."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def scrape(server, headers=()):
    request = urllib.request.Request(f"{server.url}/metrics", headers=dict(headers))
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def connected(path):
    return closing(sqlite3.connect(path, isolation_level=None))


def wait_until_counted(server, number, **labels):
    """Workers settle what they have answered a tenth of a second later at most, or a second where they are idle."""
    wait_until(lambda: sample_of(scrape(server), "registry_requests_total", **labels) >= number)


# Health


@pytest.mark.parametrize("flavor", ["none", "trusted-auth", "token"])
@pytest.mark.parametrize("host", ["localhost", "10.42.0.7:9191", "registry.svc.cluster.local"])
def test_a_probe_that_is_nobody_and_names_any_host_is_answered(make_client, flavor, host):
    client = make_client(auth__flavor=flavor, server__trusted_hosts="images.example.org")

    answers = [client.get(f"/healthcheck{query}", headers={"Host": host}) for query in ("", "?detail")]

    assert [(answer.status_code, answer.json["status"]) for answer in answers] == [(200, "ok")] * 2
    assert set(answers[1].json["checks"].values()) == {"ok"}


@pytest.mark.parametrize(
    ("query", "is_detailed"),
    [
        *[("detail", True), ("detail=", True), ("detail=true", True), ("detail=1", True)],
        *[("detail=false", False), ("detail=False", False), ("detail=0", False), ("detail=no", False)],
    ],
)
def test_details_are_for_who_asks_for_them_and_not_for_who_says_no(client, query, is_detailed):
    assert ("checks" in client.get(f"/healthcheck?{query}").json) is is_detailed


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("PUT", "/images", "/images"),
        ("POST", "/images/7", "/images/{image_id}"),
        ("GET", "/images/7/members/acme/x", "/images/{image_id}/members/{member_id}"),
        ("PATCH", "/metrics", "/metrics"),
        ("DELETE", "/images/7/no/such", "unmatched"),
    ],
)
def test_a_method_that_a_route_does_not_take_is_counted_under_the_route(server, method, path, route):
    labels = {"route": route, "method": method if method in metrics.METHODS else "other"}
    labels["status"] = "404" if route == "unmatched" else "405"

    assert server.request(method, path)[0] == int(labels["status"])

    wait_until_counted(server, 1, **labels)


def test_liveness_asks_nothing_of_the_database(client, database_path):
    database_path.unlink()

    assert client.get("/healthcheck").json == {"status": "ok"}


def gone(path):
    path.unlink()
    return "read", "cannot be opened"


def damaged(path):
    content = path.read_bytes()
    path.with_name(f"{path.name}-wal").unlink(missing_ok=True)
    path.write_bytes(content[:100] + b"\xff" * 4000 + content[4100:])
    return "read", "is damaged"


def no_database(path):
    path.with_name(f"{path.name}-wal").unlink(missing_ok=True)
    path.write_text("an image registry\n" * 500)
    return "read", "is damaged"


def of_another_version(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO schema_migration (name, applied) VALUES ('9999_future', '2030-01-01')")
    return "version", f"is 9999_future, and this server wants {schema_guard.SCHEMA}"


@pytest.mark.parametrize("make_worse", [gone, damaged, no_database, of_another_version], ids=lambda make: make.__name__)
def test_readiness_says_in_words_what_is_wrong_and_names_no_path(client, database_path, make_worse):
    check, words = make_worse(database_path)

    answer = client.get("/healthcheck?detail")

    assert (answer.status_code, answer.json["status"]) == (503, "failing")
    assert answer.json["checks"][check] == words
    assert str(database_path.parent) not in answer.text


def test_readiness_says_that_another_writer_holds_the_lock_and_liveness_does_not_wait(client, database_path):
    with closing(sqlite3.connect(database_path, isolation_level=None)) as locker:
        locker.execute("BEGIN IMMEDIATE")
        detailed = client.get("/healthcheck?detail")
        plain = client.get("/healthcheck")

    assert (detailed.status_code, detailed.json["checks"]["read"]) == (503, "ok")
    assert detailed.json["checks"]["write"] == "is locked by another writer for more than 0.5 seconds"
    assert plain.status_code == 200


def test_a_check_of_readiness_leaves_no_write_and_no_lock(client, make_image, database_path):
    make_image()
    log = database_path.with_name(f"{database_path.name}-wal")
    before = database_path.read_bytes(), log.read_bytes()

    assert client.get("/healthcheck?detail").status_code == 200

    assert (database_path.read_bytes(), log.read_bytes()) == before
    with closing(sqlite3.connect(database_path, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")


def test_a_disk_with_little_room_is_not_ready(make_client, tmp_path, request):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small disk is mounted by root alone")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    request.addfinalizer(lambda: subprocess.run(["umount", "--lazy", disk], check=True))
    client = make_client(database__connection=f"sqlite:///{disk}/registry.db")

    answer = client.get("/healthcheck?detail")

    assert answer.status_code == 503
    assert re.fullmatch(r"has \d\d MiB free, less than 64", answer.json["checks"]["disk"])


# Who may read the counts


@pytest.mark.parametrize(
    ("options", "caller", "status"),
    [
        ({"auth__flavor": "none"}, "anonymous", 200),
        ({"auth__flavor": "trusted-auth"}, "anonymous", 401),
        ({"auth__flavor": "trusted-auth"}, "stranger", 200),
        ({"auth__flavor": "trusted-auth", "auth__allow_anonymous_access": "true"}, "anonymous", 401),
        ({"auth__flavor": "trusted-auth", "server__metrics": "anyone"}, "anonymous", 200),
        ({"auth__flavor": "token"}, "anonymous", 401),
        ({"auth__flavor": "none", "server__metrics": "off"}, "anonymous", 404),
    ],
)
def test_the_counts_are_for_callers_that_are_known(make_client, options, caller, status):
    client = make_client(**options)

    assert client.get("/metrics", headers=identity(caller)).status_code == status


def test_prometheus_comes_with_a_token_that_can_do_nothing_else(make_client, run):
    client = make_client(auth__flavor="token")
    _, output, _ = run("token", "create", "--role", "monitor", "--read-only", "--description", "Prometheus")
    bearer = {"Authorization": f"Bearer {TOKEN.search(output.decode())[0]}"}

    scraped = client.get("/metrics", headers=bearer)

    assert (scraped.status_code, scraped.mimetype) == (200, "text/plain")
    assert client.post("/images", json={"image": IMAGE}, headers=bearer).status_code == 403


def test_a_page_whose_name_was_turned_to_us_reads_no_counts(client):
    assert client.get("/metrics", headers={"Host": "evil.example"}).status_code == 400


# What is counted


def test_the_counts_of_all_workers_are_what_was_sent_whoever_is_asked_and_whoever_was_killed(start_server):
    server = start_server()
    first, second = worker_pids(server)
    before = sample_of(scrape(server), "registry_requests_total", route="/images")
    sent = [0]

    def ask(times):
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda _: server.request("GET", "/images?limit=1")[0], range(times)))
        assert set(statuses) == {200}
        sent[0] += times

    ask(100)
    with stopped(first):  # so that the other one has some for sure
        ask(20)
    with stopped(second):
        ask(20)
    wait_until_counted(server, before + 140, route="/images")
    with stopped(second):
        seen_by_first = scrape(server)
    os.kill(first, signal.SIGKILL)
    printed_until(server, "Booting worker with pid: ", 1)
    ask(100)
    wait_until_counted(server, before + sent[0], route="/images")
    with stopped(second):
        seen_by_the_new_one = scrape(server)

    labels = {"route": "/images", "method": "GET", "status": "200"}
    assert sample_of(seen_by_first, "registry_requests_total", **labels) - before == 140
    assert sample_of(seen_by_the_new_one, "registry_requests_total", **labels) - before == sent[0]
    assert sample_of(seen_by_the_new_one, "registry_request_seconds_count", route="/images") - before == sent[0]
    assert sample_of(seen_by_the_new_one, "registry_worker_starts_total") == 3


@pytest.mark.exhaustive
def test_a_reload_keeps_the_counts_and_says_how_many_workers_are_alive(start_server):
    server = start_server()
    worker_pids(server)
    statuses = [server.request("GET", "/nowhere")[0] for _ in range(10)]

    server.process.send_signal(signal.SIGHUP)  # whoever ends settles before
    printed_until(server, "Worker exiting", 2)
    wait_until(lambda: sample_of(scrape(server), "registry_workers") == 2)

    text = scrape(server)
    assert statuses == [404] * 10
    assert sample_of(text, "registry_requests_total", route="unmatched", status="404") == 10
    assert sample_of(text, "registry_worker_starts_total") == 4


@pytest.mark.exhaustive
def test_scrapes_under_load_never_fall_and_end_where_the_load_does(start_server):
    server = start_server()
    worker_pids(server)
    image = server.request("POST", "/images", {"image": IMAGE})[2]["image"]

    with ThreadPoolExecutor(9) as pool:
        asked = [pool.submit(server.request, "GET", f"/images/{image['id']}") for _ in range(400)]
        seen = []
        while not all(request.done() for request in asked):
            seen.append(sample_of(scrape(server), "registry_requests_total", route="/images/{image_id}"))

    assert {request.result()[0] for request in asked} == {200}
    assert seen == sorted(seen)
    wait_until_counted(server, 400, route="/images/{image_id}")
    text = scrape(server)
    assert sample_of(text, "registry_requests_total", route="/images/{image_id}", method="GET", status="200") == 400
    assert image["id"] not in text


def test_labels_are_few_whatever_is_asked(server):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: server.request("GET", f"/nowhere/{number}"), range(50)))
        list(pool.map(lambda number: server.request(f"ODD{number}", "/images"), range(50)))
        list(pool.map(lambda number: server.request("PUT", f"/images/x/members/tenant-{number}", {}), range(20)))

    wait_until_counted(server, 50, route="unmatched", status="404")
    wait_until_counted(server, 50, route="/images", status="405")
    text = scrape(server)

    methods = set(re.findall(r'method="(.*?)"', text))
    assert methods <= set(metrics.METHODS)
    assert sample_of(text, "registry_requests_total", route="unmatched", method="GET", status="404") == 50
    assert sample_of(text, "registry_requests_total", route="/images", method="other", status="405") == 50
    assert not re.search(r"nowhere|ODD|tenant-", text)


@pytest.mark.exhaustive
def test_a_writer_that_waits_for_another_is_counted_with_its_time(start_server, database_path):
    server = start_server()
    with closing(sqlite3.connect(database_path, isolation_level=None)) as locker, ThreadPoolExecutor() as pool:
        locker.execute("BEGIN IMMEDIATE")
        waiting = pool.submit(server.request, "POST", "/images", {"image": IMAGE})
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.3)  # it cannot end before the lock does
        locker.execute("ROLLBACK")
        status, *_ = waiting.result(timeout=30)

    wait_until_counted(server, 1, route="/images", method="POST")
    text = scrape(server)
    assert status == 200
    assert sample_of(text, "registry_sqlite_waits_total") == 1
    assert 0.25 < sample_of(text, "registry_sqlite_wait_seconds_total") < 30
    assert sample_of(text, "registry_sqlite_seconds_total", route="/images", method="POST") > 0.25


@pytest.mark.parametrize("status", UPDATE_STATUSES)
def test_images_are_counted_by_every_status_that_an_update_takes_and_deleted_ones_apart(client, make_image, status):
    kept, deleted = make_image(), make_image()
    for image in (kept, deleted):
        assert client.put(f"/images/{image['id']}", json={"image": {"status": status}}).status_code == 200
    client.delete(f"/images/{deleted['id']}")

    text = client.get("/metrics").text

    found = {other: sample_of(text, "registry_images", status=other) for other in UPDATE_STATUSES}
    assert found == dict.fromkeys(UPDATE_STATUSES, 0) | {status: 1}
    assert sample_of(text, "registry_deleted_images") == 1


def test_gauges_say_what_the_database_holds(client, make_image, database_path):
    make_image()

    text = client.get("/metrics").text

    assert sample_of(text, "registry_images") == 1
    log = database_path.with_name(f"{database_path.name}-wal")
    assert sample_of(text, "registry_database_bytes") == database_path.stat().st_size
    assert sample_of(text, "registry_wal_bytes") == log.stat().st_size
    assert sample_of(text, "registry_info", version=VERSION) == 1


def test_without_its_database_the_server_still_tells_its_counts(client, database_path):
    shutil.rmtree(database_path.parent)

    answer = client.get("/metrics")

    assert answer.status_code == 200
    assert "registry_workers" in answer.text
    assert "registry_images{" not in answer.text


def test_what_could_not_be_counted_is_not_shown_the_second_time_either_and_later_is(client, make_image, database_path):
    make_image()
    of_another_version(database_path)
    without = [client.get("/metrics") for _ in range(2)]
    with connected(database_path) as connection:
        connection.execute("DELETE FROM schema_migration WHERE name = '9999_future'")

    assert [(answer.status_code, "registry_images{" in answer.text) for answer in without] == [(200, False)] * 2
    assert all("registry_database_bytes" in answer.text for answer in without)
    assert sample_of(client.get("/metrics").text, "registry_images", status="active") == 1


def test_who_asks_while_the_images_are_first_counted_is_answered_without_them(client, make_image):
    make_image()
    images, counts, goes_on = client.application.extensions["monitor"].images, threading.Event(), threading.Event()
    count = images.find

    def count_slowly():
        counts.set()
        assert goes_on.wait(timeout=30)
        return count()

    images.find = count_slowly
    with ThreadPoolExecutor() as pool:
        first = pool.submit(client.application.test_client().get, "/metrics")
        assert counts.wait(timeout=30)
        meanwhile = client.get("/metrics")
        goes_on.set()

    assert (meanwhile.status_code, "registry_images{" in meanwhile.text) == (200, False)
    assert sample_of(first.result().text, "registry_images", status="active") == 1


def test_openmetrics_is_spoken_where_it_is_asked_for(client):
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})

    assert answer.mimetype == "application/openmetrics-text"
    assert answer.text.endswith("# EOF\n")


def test_flask_run_counts_too(database_path):
    port = free_port()
    command = [*FLASK, "run", "--port", str(port)]
    variables = {**clean_environment(), **environment(database_path)}
    with subprocess.Popen(command, cwd=ROOT, env=variables, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: process.poll() is not None or is_answering(f"{url}/healthcheck"))
            for _ in range(3):
                assert is_answering(f"{url}/versions")
            with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
                text = answer.read().decode()
        finally:
            process.terminate()

    assert sample_of(text, "registry_requests_total", route="/versions") == 3
    assert sample_of(text, "registry_workers") == 1


def is_answering(url):
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


# The board


def answered(rule, method, status, seconds):
    return Record(0.0, seconds, rule, method, status, 0, "req-1", None, 0.0, ())


def test_slots_are_taken_once_and_again_when_they_are_free():
    board = SharedCounters(2)

    assert [board.take(), board.take(), board.take()] == [0, 1, None]
    board.release(0)
    board.release(None)
    assert board.take() == 0


def test_what_a_worker_has_counted_is_there_when_another_takes_its_slot():
    board, layout = SharedCounters(2), metrics.Layout(["/images"])
    for _ in range(3):
        slot = board.take()
        metrics.Counter(layout, board.slot(slot), {"/images": "/images"}).add([answered("/images", "GET", 200, 0.1)])
        board.release(slot)

    assert board.slot(0)[layout.starts["/images", "GET"]] == 3


def test_workers_that_would_mean_different_things_by_a_cell_do_not_both_count():
    board = SharedCounters(2)

    assert board.agrees(metrics.Layout(["/images"]).mark)
    assert board.agrees(metrics.Layout(["/images"]).mark)
    assert not board.agrees(metrics.Layout(["/images", "/new"]).mark)


def test_every_route_and_method_has_cells_of_its_own_and_within_its_slot():
    board = SharedCounters(1)
    layout = metrics.Layout([f"/{number}" for number in range(200)])
    starts = sorted(layout.starts.values())

    assert {after - before for before, after in pairwise(starts)} == {metrics.CELLS}
    metrics.Counter(layout, board.slot(0), {None: "/199"}).add([answered(None, "PATCH", 999, 1e9)])
    assert starts[-1] + metrics.CELLS <= len(board.slot(0))
    assert layout.start_of("/199", "PATCH") == layout.starts["unmatched", "other"]


def test_requests_that_are_settled_by_a_scrape_and_the_worker_at_once_are_counted_once(client, request):
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    request.addfinalizer(logging.getLogger("registry").handlers.clear)
    sys.setswitchinterval(1e-6)
    monitor, board = client.application.extensions["monitor"], SharedCounters(1)
    settle = monitor.start(board, board.take())
    monitor.log = None

    def answer_and_settle(_):
        for _ in range(20):
            monitor.queue.extend([answered("/images", "GET", 200, 0.1)] * 50)
            settle()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(answer_and_settle, range(8)))

    assert sample_of(client.get("/metrics").text, "registry_request_seconds_count", route="/images") == 8 * 20 * 50


def test_what_is_costly_to_find_is_kept_for_longer():
    times = []
    kept = metrics.CostCache(lambda: times.append(1) or len(times))

    assert [kept.get() for _ in range(5)] == [1] * 5
    kept.until = 0.0
    assert kept.get() == 2
    slow = metrics.CostCache(lambda: time.sleep(0.3))
    slow.get()
    assert slow.until - time.monotonic() > 14


def test_a_worker_that_nobody_scrapes_does_not_load_the_library():
    script = "import sys, registry; sys.exit('prometheus_client' in sys.modules)"
    command = [Path(sys.executable), "-c", script]

    assert subprocess.run(command, check=False, cwd=ROOT, timeout=60).returncode == 0
