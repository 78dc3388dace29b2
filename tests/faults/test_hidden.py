"""A hidden image is not betrayed by the time that its 404 takes."""

import http.client
import math
import time
import uuid

import pytest
from conftest import IMAGE, identity

from faults.conftest import IS_TORTURE, rounds

CERTAIN = 4.0  # standard errors: chance alone comes so far once in 16,000 tests
HEADERS = identity("stranger")


def standard_score(ones, others):
    """Mann and Whitney's: how far two samples are from being draws of one distribution, in standard errors."""
    ranked = sorted([(value, 0) for value in ones] + [(value, 1) for value in others])
    ranks = sum(rank for rank, (_, which) in enumerate(ranked, 1) if which == 0)
    n, m = len(ones), len(others)
    return (ranks - n * (n + m + 1) / 2) / math.sqrt(n * m * (n + m + 1) / 12)


def test_the_score_tells_a_shift_of_two_hundredths_from_none(tally):
    draws = [tally.random.gauss(100, 10) for _ in range(40_000)]
    tally.promise = "the score of Mann and Whitney sees what it should"

    assert abs(standard_score(draws[:20_000], draws[20_000:])) < CERTAIN + 1
    assert abs(standard_score(draws[:20_000], [draw + 2 for draw in draws[20_000:]])) > CERTAIN


@pytest.mark.skipif(
    not IS_TORTURE, reason="a figure of many requests, which says nothing on a busy machine: make torture"
)
def test_the_404_of_a_hidden_image_takes_as_long_as_that_of_none(start_server, tally):
    tally.promise = "404 of a hidden image takes as long as of none"
    server = start_server(auth__flavor="trusted-auth", server__workers=1, server__threads=1)
    hidden = [register(server) for _ in range(50)]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    times = {True: [], False: []}

    for _ in range(rounds(0, 20_000)):
        is_hidden = tally.random.random() < 0.5
        image_id = tally.random.choice(hidden) if is_hidden else str(uuid.UUID(int=tally.random.getrandbits(128)))
        times[is_hidden].append(seconds_of(connection, f"/images/{image_id}"))
        tally.rounds += 1
    connection.close()

    score = standard_score(times[True], times[False])
    medians = {name: sorted(found)[len(found) // 2] * 1e6 for name, found in times.items()}
    print(f"hidden {medians[True]:.1f} µs, none {medians[False]:.1f} µs, score {score:.2f}")
    tally.promise += f" (score {score:.1f})"


def register(server):
    _, _, answer = server.request("POST", "/images", {"image": IMAGE}, identity("owner"))
    return answer["image"]["id"]


def seconds_of(connection, path):
    started = time.perf_counter()
    connection.request("GET", path, headers=HEADERS)
    response = connection.getresponse()
    response.read()
    assert response.status == 404
    return time.perf_counter() - started
