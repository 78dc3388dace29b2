"""Promise 7, the clock: jumps back and forward break neither order, nor paging, nor ETags."""

import itertools
import json
import mmap
import struct

import pytest
from conftest import IMAGE

from faults.conftest import rounds

YEAR = 365 * 24 * 3600
JUMPS = (-30 * YEAR, -YEAR, -3600, -2, -1, 0, 0, 1, 2, 3600, YEAR, 70 * YEAR)
ORDERS = list(itertools.product(("id", "name", "created_at", "updated_at"), ("asc", "desc")))


class Clock:
    """The server's clock of the day, through shim.c: so many seconds wrong."""

    def __init__(self, path):
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self.mapped = mmap.mmap(file.fileno(), 8)

    def jump(self, seconds):
        self.mapped[:] = struct.pack("<q", seconds)


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path / "clock")


@pytest.fixture
def start_with_clock(start_broken_server, shim, clock, tmp_path):
    def start(**options):
        variables = {"LD_PRELOAD": shim, "CLOCK_FILE": tmp_path / "clock"}
        return start_broken_server(variables=variables, **options)

    return start


class Watched:
    """One image and all the ETags and times that it has had; what is wrong is added to ``violations``."""

    def __init__(self, server, violations):
        self.server, self.violations = server, violations
        self.tags, self.updated_at = {}, ""
        status, headers, body = server.request("POST", "/images", {"image": IMAGE})
        self.path = f"/images/{body['image']['id']}"
        self.take(status, headers, body)

    def take(self, status, headers, body):
        """An answer to a change: a tag and a time that it never had."""
        text = json.dumps(body, sort_keys=True)
        if status != 200 or headers["ETag"] in self.tags or body["image"]["updated_at"] <= self.updated_at:
            self.violations.append(f"{status}, {headers['ETag']}, after {self.updated_at}: {text}")
        self.tags[headers["ETag"]] = text
        self.updated_at = body["image"]["updated_at"]
        self.tag = headers["ETag"]

    def change(self, name):
        old = self.tag
        self.take(*self.server.request("PUT", self.path, {"image": {"name": name}}, {"If-Match": old}))
        stale, _, _ = self.server.request("PUT", self.path, {"image": {"name": "stale"}}, {"If-Match": old})
        fresh, _, _ = self.server.request("GET", self.path, headers={"If-None-Match": self.tag})
        moved, _, _ = self.server.request("GET", self.path, headers={"If-None-Match": old})
        if (stale, fresh, moved) != (412, 304, 200):
            self.violations.append(f"If-Match old {stale}, If-None-Match new {fresh}, old {moved}")


def check_order(server, clock, random, known, violations):
    """A walk in some order, the clock jumping between its pages, shows every image once and in that order."""
    sort_key, sort_dir = random.choice(ORDERS)
    following, images = f"/images/detail?is_public=none&sort_key={sort_key}&sort_dir={sort_dir}&limit=7", []
    while following:
        clock.jump(random.choice(JUMPS))
        _, headers, body = server.request("GET", following)
        images += body["images"]
        link = headers.get("Link", "")
        following = link[1 : link.index(">")] if link else None
    places = [(image[sort_key] or "", image["created_at"], image["id"]) for image in images]
    if places != sorted(places, reverse=sort_dir == "desc"):
        violations.append(f"not sorted by {sort_key} {sort_dir}: {places}")
    if sorted(image["id"] for image in images) != sorted(known):
        violations.append(f"by {sort_key} {sort_dir}: {len(images)} shown of {len(known)}")


def jump_often(server, clock, tally, times):
    watched = []
    for number in range(times):
        clock.jump(tally.random.choice(JUMPS))
        if len(watched) < 40 and tally.random.random() < 0.5:
            watched.append(Watched(server, tally.violations))
        elif watched:
            tally.random.choice(watched).change(str(number))
        if number % 10 == 9:
            known = [image.path.removeprefix("/images/") for image in watched]
            check_order(server, clock, tally.random, known, tally.violations)
        tally.rounds += 1


def test_a_clock_that_jumps_breaks_neither_order_nor_paging_nor_etags(start_with_clock, clock, tally):
    tally.promise = "7 clock: jumps of seconds to decades, back and forward"

    jump_often(start_with_clock(), clock, tally, rounds(100, 5000))

    assert tally.violations == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("without", ["without_order_of_times", "without_nonces_and_revisions"])
def test_the_jumps_find_a_missing_defence(start_with_clock, clock, tally, without):
    tally.promise = f"7 clock: {without.replace('_', ' ')} (must find some)"

    jump_often(start_with_clock(without=without), clock, tally, 60)

    assert tally.violations


def test_the_jumps_reach_the_server(start_with_clock, clock):
    server = start_with_clock()
    years = []

    for jump in (0, -30 * YEAR, 70 * YEAR):
        clock.jump(jump)
        years.append(int(server.request("POST", "/images", {"image": IMAGE})[2]["image"]["created_at"][:4]))

    assert (years[1] - years[0], years[2] - years[0]) in {(-30, 69), (-30, 70), (-29, 69), (-29, 70)}
