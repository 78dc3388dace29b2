"""Request metrics, and their output for Prometheus."""

import platform
import time
import zlib
from bisect import bisect_left

from config import HTTP_METHODS, VERSION
from server.counters import ALIVE, FIRST, SLOT_CELLS, STARTS
from storage.engine import ENGINE_VERSION
from web import route_of

BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
UNMATCHED = route_of(None)
METHODS = (*HTTP_METHODS, "other")
STATUSES = (200, 204, 301, 302, 303, 304, 308, 400, 401, 403, 404, 405, 408, 409, 412, 413, 415, 500, 503, 507)
# Cells of a slot: waits and seconds waited, then statuses, buckets and two sums of each route and method.
WAITS, WAITED = FIRST, FIRST + 1
FIRST_ROUTE = FIRST + 8
STATUS_CELLS = {status: number for number, status in enumerate(STATUSES)}
OTHER_STATUS = len(STATUSES)
BUCKET = OTHER_STATUS + 1
SUM = BUCKET + len(BUCKETS) + 1
DATABASE = SUM + 1
CELLS = DATABASE + 1
MOST_ROUTES = (SLOT_CELLS - FIRST_ROUTE) // (CELLS * len(METHODS))


class Layout:
    """Layout of a slot: the cells of each route and method, equal in all workers of one version."""

    def __init__(self, routes):
        self.routes = (UNMATCHED, *sorted(routes))[:MOST_ROUTES]
        self.starts = {
            (route, method): FIRST_ROUTE + (place * len(METHODS) + number) * CELLS
            for place, route in enumerate(self.routes)
            for number, method in enumerate(METHODS)
        }
        self.mark = zlib.crc32(repr((self.routes, METHODS, STATUSES, BUCKETS)).encode()) + 1.0

    def start_of(self, route, method):
        """Return the first cell of a route and method.

        Unknown ones count as unmatched or other.
        """
        if start := self.starts.get((route, method)):
            return start
        return self.starts[route if route in self.routes else UNMATCHED, method if method in METHODS else "other"]


class Counter:
    """Counter of one worker's slot, for one thread at a time; ``routes`` maps URL rules to names."""

    def __init__(self, layout, slot, routes):
        self.layout, self.slot, self.routes = layout, slot, routes

    def add(self, records):
        """Count the records of requests."""
        slot, start_of, routes = self.slot, self.layout.start_of, self.routes
        for record in records:
            start = start_of(routes[record.rule], record.method)
            slot[start + STATUS_CELLS.get(record.status, OTHER_STATUS)] += 1.0
            slot[start + BUCKET + bisect_left(BUCKETS, record.seconds)] += 1.0
            slot[start + SUM] += record.seconds
            slot[start + DATABASE] += record.in_database
            slot[WAITS] += len(record.waits)
            slot[WAITED] += sum(record.waits)


class Collector:
    """Collector for prometheus_client: counts of all workers, and gauges read on request.

    ``gauges`` is a function that returns [(name, help, {label value: number} or a number, label or None)].
    """

    def __init__(self, counters, layout, gauges):
        self.counters, self.layout, self.gauges = counters, layout, gauges

    def collect(self):
        """Yield the metric families."""
        # Imported here: half a second and some megabytes, which only a scraped worker spends.
        from prometheus_client import core

        slots = self.counters.used()
        totals = [sum(cells) for cells in zip(*slots, strict=True)] or [0.0] * SLOT_CELLS
        yield from self.requests(core, totals)
        waits = core.CounterMetricFamily("registry_sqlite_waits", "Writes that waited 1 ms or more for the lock.")
        waits.add_metric((), totals[WAITS])
        waited = core.CounterMetricFamily("registry_sqlite_wait_seconds", "Time that writes waited for the write lock.")
        waited.add_metric((), totals[WAITED])
        starts = core.CounterMetricFamily("registry_worker_starts", "Workers started, replacements included.")
        starts.add_metric((), totals[STARTS])
        alive = core.GaugeMetricFamily("registry_workers", "Workers alive.", sum(slot[ALIVE] for slot in slots))
        about = {"version": VERSION, "sqlite": ENGINE_VERSION, "python": platform.python_version()}
        yield from (
            waits,
            waited,
            starts,
            alive,
            core.InfoMetricFamily("registry", "Versions that run.", about),
        )
        for name, explanation, found, label in self.gauges():
            family = core.GaugeMetricFamily(name, explanation, labels=(label,) if label else None)
            for value, number in found.items() if label else (((), found),):
                family.add_metric((value,) if label else (), number)
            yield family

    def requests(self, core, totals):
        """Return the families of requests, durations and time in SQLite."""
        labels = ("route", "method")
        requests = core.CounterMetricFamily("registry_requests", "Requests answered.", labels=(*labels, "status"))
        durations = core.HistogramMetricFamily(
            "registry_request_seconds",
            "Time from a request to its response.",
            labels=labels,
        )
        in_database = core.CounterMetricFamily("registry_sqlite_seconds", "Time spent in SQLite.", labels=labels)
        for label_values, start in self.layout.starts.items():
            counts = totals[start : start + BUCKET]
            buckets = totals[start + BUCKET : start + SUM]
            for status, number in zip((*STATUSES, "other"), counts, strict=True):
                if number:
                    requests.add_metric((*label_values, str(status)), number)
            if any(buckets):
                durations.add_metric(label_values, cumulated(buckets), totals[start + SUM])
                in_database.add_metric(label_values, totals[start + DATABASE])
        return requests, durations, in_database


def cumulated(buckets):
    """Return the cumulative buckets of a histogram as [(upper bound, count)]."""
    shown, number = [], 0.0
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), buckets, strict=True):
        number += count
        shown.append((bound, number))
    return shown


def encode(collector, accept):
    """Return (text, Content-Type) in the format that an Accept header prefers."""
    from prometheus_client.exposition import choose_encoder

    encoder, content_type = choose_encoder(accept)
    return encoder(collector), content_type


class CostCache:
    """Cache with a TTL of 50 times the cost of ``find``, and at least ten seconds."""

    SHORTEST_SECONDS = 10.0
    TIMES_THE_COST = 50

    def __init__(self, find):
        self.find = find
        self.found, self.until = None, 0.0

    def get(self):
        """Return the cached value, or None while another thread finds the first.

        Raises: the errors of ``find``, after which the cache is empty.
        """
        began = time.monotonic()
        if began >= self.until:
            self.until = began + self.SHORTEST_SECONDS  # meanwhile other threads get the old value
            try:
                self.found = self.find()
            except Exception:
                self.found, self.until = None, 0.0
                raise
            now = time.monotonic()
            self.until = now + max(self.SHORTEST_SECONDS, self.TIMES_THE_COST * (now - began))
        return self.found
