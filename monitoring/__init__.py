"""Monitoring: /healthcheck, /metrics, and counters and log lines of requests."""

import logging
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import NamedTuple

from flask import Blueprint, current_app, request

from auth import ANONYMOUS
from errors import RegistryError, Unauthorized
from listing.aggregates import count_by_status
from monitoring import health, metrics
from schemas import UPDATE_STATUSES
from server import logs
from server.counters import SharedCounters
from storage import engine, verifications
from storage.documents import DELETED
from storage.timing import spent
from web import respond, respond_json, route_of

checks = Blueprint("checks", __name__)
counts = Blueprint("counts", __name__)

logger = logging.getLogger("registry")


@checks.get("/healthcheck")
def check_health():
    """Report that a worker responds; with ?detail, whether it is ready to serve."""
    if request.args.get("detail", "false").lower() in ("false", "0", "no"):
        return respond_json({"status": "ok"})
    report = monitor().health.report()
    is_ready = health.is_ready(report)
    return respond_json({"status": "ok" if is_ready else "failing", "checks": report}, 200 if is_ready else 503)


@counts.get("/metrics")
def show_metrics():
    """Send the metrics in a format of Prometheus."""
    monitor().settle()
    content, content_type = metrics.encode(monitor().collector, request.headers.get("Accept", ""))
    return respond(content, content_type=content_type)


def monitor():
    """Return the Monitor of the current application."""
    return current_app.extensions["monitor"]


class Record(NamedTuple):
    """Facts of a request for counters and log; ``rule`` is its URL rule, or None."""

    when: float
    seconds: float
    rule: str | None
    method: str
    status: int
    length: int | None  # of its body
    request_id: str
    tenant: str | None
    in_database: float
    waits: tuple  # for the write lock, each in seconds


class Monitor:
    """Counters and request log of one application, active once it is served.

    Requests append to a queue; the worker's main thread counts and logs them in batches, at most 0.1 s later. One by
    one this takes four times as long.
    """

    def __init__(self, app):
        self.app, self.settings = app, app.settings
        self.health = health.Health(app.settings.database)
        self.images = metrics.CostCache(count_images)
        self.collector = metrics.Collector(SharedCounters(1), metrics.Layout(()), self.gauges)
        self.routes, self.count, self.log = {None: route_of(None)}, None, None
        self.queue, self.lock = deque(), threading.Lock()
        self.is_active = self.is_immediate = False

    def start(self, counters=None, slot=None):
        """Start counting and logging in this process.

        Returns: the function that empties the queue. Without ``counters`` the process has its own.
        """
        logs.configure(self.settings.log, "registry")
        self.routes |= {rule.rule: route_of(rule.rule) for rule in self.app.url_map.iter_rules()}
        if counters is None:  # Flask's development server: one process, without a worker that empties the queue
            counters = SharedCounters(1)
            slot = counters.take()
            logs.take_over_werkzeug(self.settings.log)
            self.is_immediate = True
        if self.settings.log.requests and sys.stderr is not None:
            self.log = logs.RequestLog(self.settings.log, sys.stderr.fileno(), self.routes)
        if self.settings.server.metrics != "off":
            self.start_counting(counters, slot)
        self.is_active = self.count is not None or self.log is not None
        return self.settle

    def start_counting(self, counters, slot):
        """Count in a slot of the shared counters, if their layout is this code's."""
        layout = metrics.Layout(set(self.routes.values()))
        if slot is None or not counters.agrees(layout.mark):
            logger.error("This worker counts no requests for /metrics: its code differs from the server's; restart it.")
            return
        self.collector = metrics.Collector(counters, layout, self.gauges)
        self.count = metrics.Counter(layout, counters.slot(slot), self.routes)

    def observe(self, response):
        """Queue the facts of the current request and its response."""
        if not self.is_active:
            return response
        current = request._get_current_object()
        facts = (
            time.time(),
            time.perf_counter() - current.began,
            current.url_rule and current.url_rule.rule,
            current.method,
            response.status_code,
            response.content_length,
            current.request_id,
            current.context.tenant,
            spent.seconds,
            spent.waits,
        )
        spent.seconds = 0.0
        if spent.waits:
            spent.waits = ()
        self.queue.append(facts)
        if self.is_immediate:
            self.settle()
        return response

    def settle(self):
        """Count and log the queued requests."""
        if not self.queue:
            return
        with self.lock:
            gathered = [Record._make(self.queue.popleft()) for _ in range(len(self.queue))]
            if self.count is not None:
                self.count.add(gathered)
            if self.log is not None:
                self.log.write(gathered)

    def gauges(self):
        """Yield (name, help, value or {label value: value}, label or None) of each gauge.

        Gauges that cannot be read are omitted; /healthcheck?detail has the reason.
        """
        with suppress(OSError, RegistryError):
            file, log = engine.sizes(self.settings.database)
            yield "registry_database_bytes", "Size of the database file.", file, None
            yield "registry_wal_bytes", "Size of the write-ahead log.", log, None
            yield (
                "registry_disk_free_bytes",
                "Free space on the disk of the database.",
                health.free_bytes(self.health.folder),
                None,
            )
            if counted := self.images.get():
                by_status, deleted, by_state = counted
                yield "registry_images", "Images that are not deleted, by status.", by_status, "status"
                yield "registry_deleted_images", "Images that are deleted and not yet purged.", deleted, None
                yield "registry_verified_images", "Images by the state of their last verification.", by_state, "state"


def count_images():
    """Return ({status: count}, count of deleted images, {verification state: count})."""
    by_status, deleted = dict.fromkeys(UPDATE_STATUSES, 0), 0
    for list_partition, status, number in count_by_status():
        if list_partition >= DELETED:
            deleted += number
        else:
            by_status[status] = by_status.get(status, 0) + number
    return by_status, deleted, verifications.count_by_state()


def identify_scraper(request):
    """Return the caller of /metrics.

    Raises: Unauthorized for anonymous callers, unless ``[server] metrics`` is anyone.
    """
    if current_app.settings.server.metrics == "anyone":
        return ANONYMOUS
    context = current_app.identify(request)
    if not context.is_authenticated:
        raise Unauthorized("The metrics need authentication: send a token, or set [server] metrics = anyone.")
    return context


def register(app):
    """Add the routes and the monitor to an application."""
    monitor = Monitor(app)
    app.extensions["monitor"], app.begin_serving = monitor, monitor.start
    app.after_request(monitor.observe)
    app.register_blueprint(checks)
    app.hostless = frozenset({checks.name})
    app.identifiers[checks.name] = lambda request: ANONYMOUS
    if app.settings.server.metrics != "off":
        app.register_blueprint(counts)
        app.identifiers[counts.name] = identify_scraper
