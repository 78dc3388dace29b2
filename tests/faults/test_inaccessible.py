"""Timing of the 404 of an inaccessible image: neither the client's nor the server's time reveals it.

The client's is all that an attacker has. The server's leaves out what other processes do meanwhile, and shows smaller
differences.
"""

import http.client
import json
import math
import time
import uuid
from contextlib import closing

import pytest
from conftest import IMAGE, identity

from faults.conftest import IS_TORTURE

CERTAIN = 4.0  # standard errors: chance alone comes so far once in 16,000 runs
RUNS = 3  # and in each of so many once in some millions of millions, whatever else the machine does in one of them
PAIRS = 5_000
ROUTES = {
    "show": ("GET", "/images/{}", None),
    "head": ("HEAD", "/images/{}", None),
    "update": ("PUT", "/images/{}", {"image": {"name": "renamed"}}),
    "delete": ("DELETE", "/images/{}", None),
    "list members": ("GET", "/images/{}/members", None),
    "replace members": ("PUT", "/images/{}/members", {"memberships": [{"member_id": "stranger"}]}),
    "put member": ("PUT", "/images/{}/members/stranger", None),
    "remove member": ("DELETE", "/images/{}/members/member", None),
    "undelete": ("POST", "/images/{}/undelete", None),
    "history": ("GET", "/images/{}/history", None),
}
# What hides an image from a stranger: each route for one shared with others, and some for the other kinds.
KINDS = [(route, "shared") for route in ROUTES]
KINDS += [(route, kind) for route in ("show", "update", "history") for kind in ("private", "deleted")]
# One thread answers, so that requests do not wait for each other.
OPTIONS = {"auth__flavor": "trusted-auth", "server__workers": 1, "server__threads": 1}
every_route = pytest.mark.parametrize("route", ROUTES)
takes_its_time = pytest.mark.skipif(not IS_TORTURE, reason="thousands of requests: make torture")


def standard_score(ones, others):
    """Mann and Whitney's: how far two samples are from being draws of one distribution, in standard errors."""
    ranked = sorted([(value, 0) for value in ones] + [(value, 1) for value in others])
    ranks = sum(rank for rank, (_, which) in enumerate(ranked, 1) if which == 0)
    n, m = len(ones), len(others)
    return (ranks - n * (n + m + 1) / 2) / math.sqrt(n * m * (n + m + 1) / 12)


def is_told_apart(scores):
    """Whether each of the runs says so, and all the same way."""
    return len(scores) == RUNS and (min(scores) > CERTAIN or max(scores) < -CERTAIN)


def test_the_score_tells_a_shift_of_two_hundredths_from_none(tally):
    draws = [tally.random.gauss(100, 10) for _ in range(40_000)]
    tally.promise = "the score of Mann and Whitney sees what it should"

    assert abs(standard_score(draws[:20_000], draws[20_000:])) < CERTAIN + 1
    assert abs(standard_score(draws[:20_000], [draw + 2 for draw in draws[20_000:]])) > CERTAIN


@pytest.mark.parametrize(
    ("scores", "is_apart"),
    [
        ([4.1, 5.0, 9.0], True),
        ([-4.1, -5.0, -9.0], True),
        ([4.1, 3.9, 9.0], False),
        ([4.1, -5.0, 9.0], False),
        ([9.0], False),
        ([0.3], False),
    ],
)
def test_one_run_alone_judges_nothing(scores, is_apart):
    assert is_told_apart(scores) == is_apart


@takes_its_time
@pytest.mark.parametrize(("route", "kind"), KINDS)
def test_the_404_of_an_inaccessible_image_takes_as_long_as_that_of_none(start_broken_server, tally, route, kind):
    scores = scores_of(start_broken_server(**OPTIONS), route, kind, tally)

    tally.promise = f"404 of an inaccessible image takes as long as of none: {route}, {kind} (scores {told(scores)})"
    tally.violations = [name for name in scores if is_told_apart(scores[name])]
    assert tally.violations == []


@takes_its_time
@every_route
def test_work_for_an_inaccessible_image_is_found_by_its_time(start_broken_server, tally, route):
    server = start_broken_server(without="without_hiding_before_reading", **OPTIONS)

    scores = scores_of(server, route, "shared", tally)

    tally.promise = f"404 of an inaccessible image that is read first: {route} (must find some)"
    tally.violations = [name for name in scores if is_told_apart(scores[name])]
    assert "server's" in tally.violations, told(scores)


def told(scores):
    return "; ".join(f"{name} {', '.join(f'{score:.1f}' for score in found)}" for name, found in scores.items())


def scores_of(server, route, kind, tally):
    """{whose time: the scores of up to RUNS runs}: one that tells nothing apart is the last."""
    inaccessible, clock = [register(server, kind) for _ in range(50)], processor_clock(server)
    scores = {"client's": [], "server's": []}
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        run(connection, clock, route, inaccessible, 200, tally)  # the first requests find nothing warm
        for _ in range(RUNS):
            found = run(connection, clock, route, inaccessible, PAIRS, tally)
            for name in scores:
                scores[name].append(found[name])
            if not any(all(abs(score) > CERTAIN for score in each) for each in scores.values()):
                break
    return scores


def processor_clock(server):
    """The clock of the one worker's processor time, as clock_getcpuclockid of Linux makes it of a process' id."""
    (worker,) = server.worker_pids(1)
    return (~worker << 3) | 2


def run(connection, clock, route, inaccessible, pairs, tally):
    """Return the scores of both times, over pairs of requests for an inaccessible image and for none."""
    clients, servers = {True: [], False: []}, {True: [], False: []}
    for _ in range(pairs):
        for is_inaccessible in tally.random.sample((True, False), 2):
            image_id = (
                tally.random.choice(inaccessible) if is_inaccessible else uuid.UUID(int=tally.random.getrandbits(128))
            )
            worked = time.clock_gettime_ns(clock)
            clients[is_inaccessible].append(seconds_of(connection, route, image_id))
            servers[is_inaccessible].append(time.clock_gettime_ns(clock) - worked)
            tally.rounds += 1
    return {
        "client's": standard_score(clients[True], clients[False]),
        "server's": standard_score(servers[True], servers[False]),
    }


def register(server, kind):
    """Another tenant's image with properties and locations: shared with others, private, or public and deleted."""
    more = {"properties": {"os_distro": "cirros"}, "location": "https://images.example/x"}
    image = {**IMAGE, **more, "is_public": kind == "deleted"}
    status, _, answer = server.request("POST", "/images", {"image": image}, identity("owner"))
    assert status == 200
    path = f"/images/{answer['image']['id']}"
    if kind == "shared":
        assert server.request("PUT", f"{path}/members/member", None, identity("owner"))[0] == 204
    if kind == "deleted":
        assert server.request("DELETE", path, None, identity("owner"))[0] == 200
    return answer["image"]["id"]


def seconds_of(connection, route, image_id):
    method, path, body = ROUTES[route]
    headers = {**identity("stranger"), **({} if body is None else {"Content-Type": "application/json"})}
    content = None if body is None else json.dumps(body)
    started = time.perf_counter()
    connection.request(method, path.format(image_id), content, headers)
    response = connection.getresponse()
    response.read()
    taken = time.perf_counter() - started
    assert response.status == 404
    return taken
