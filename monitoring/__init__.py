"""What watches over the registry: /healthcheck, /metrics, and what is counted and logged of each request."""

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
from monitoring import health, metrics
from schemas import UPDATE_STATUSES
from server import logs
from server.counters import Board
from storage import engine
from storage.documents import DELETED
from storage.timing import spent
from web import Answer, answer, answer_json, shown_route

COUNT = "SELECT shelf, status, count(*) FROM image GROUP BY shelf, status"

checks = Blueprint("checks", __name__)
counts = Blueprint("counts", __name__)

logger = logging.getLogger("registry")


@checks.get("/healthcheck")
def check_health():
    """That a worker answers; with ?detail, whether it can do its work."""
    if request.args.get("detail", "false").lower() in ("false", "0", "no"):
        return answer_json({"status": "ok"})
    report = monitor().health.report()
    is_ready = health.is_ready(report)
    return answer_json({"status": "ok" if is_ready else "failing", "checks": report}, 200 if is_ready else 503)


@counts.get("/metrics")
def show_metrics():
    """What was counted, for Prometheus."""
    monitor().settle()
    content, content_type = metrics.encode(monitor().collector, request.headers.get("Accept", ""))
    return answer(content, content_type=content_type)


def monitor():
    return current_app.extensions["monitor"]


class Answered(NamedTuple):
    """What is kept of a request until it is counted and logged; ``rule`` is its route's, or None."""

    when: float
    seconds: float
    rule: str | None
    method: str
    status: int
    length: int | None  # of its body
    request_id: str
    tenant: str | None
    in_sqlite: float
    waits: tuple  # for the write lock, each in seconds


class Monitor:
    """Of one application; before somebody serves it, it counts and logs nothing.

    Requests put what is known of them into a queue, and the worker's main thread counts and logs what has gathered, at
    once or a tenth of a second later: one by one, between two requests, this would take four times as long.
    """

    def __init__(self, app):
        self.app, self.settings = app, app.settings
        self.health = health.Health(app.settings.database)
        self.images = metrics.Kept(count_images)
        self.collector = metrics.Collector(Board(1), metrics.Layout(()), self.gauges)
        self.routes, self.count, self.log = {None: shown_route(None)}, None, None
        self.answered, self.lock = deque(), threading.Lock()

    def attend(self, board=None, slot=None):
        """This process serves: count on ``board``, or on one of its own. Returns what empties the queue."""
        logs.configure(self.settings.log, "registry")
        self.routes |= {rule.rule: shown_route(rule.rule) for rule in self.app.url_map.iter_rules()}
        self.app.observe = self.observe
        if board is None:  # Flask's development server: it is one process, and nobody calls for the queue
            board = Board(1)
            slot = board.take()
            logs.take_over_werkzeug(self.settings.log)
            self.app.observe = self.observe_now
        if self.settings.log.requests and sys.stderr is not None:
            self.log = logs.RequestLog(self.settings.log, sys.stderr.fileno(), self.routes)
        if self.settings.server.metrics != "off":
            self.begin_counting(board, slot)
        if self.count is None and self.log is None:
            self.app.observe = None
        return self.settle

    def begin_counting(self, board, slot):
        layout = metrics.Layout(set(self.routes.values()))
        if slot is None or not board.agrees(layout.mark):
            logger.error("This worker counts nothing for /metrics: restart the server.")
            return
        self.collector = metrics.Collector(board, layout, self.gauges)
        self.count = metrics.Counter(layout, board.slot(slot), self.routes)

    def observe(self, asked, response):
        """A request has its answer: what is to be done within it is as little as can be."""
        seconds, rule = time.perf_counter() - asked.began, asked.url_rule
        known = (
            time.time(),
            seconds,
            rule and rule.rule,
            asked.method,
            response.status_code,
            len(response.content) if isinstance(response, Answer) else response.content_length,
            asked.request_id,
            asked.context.tenant,
            spent.seconds,
            spent.waits,
        )
        spent.seconds = 0.0
        if spent.waits:
            spent.waits = ()
        self.answered.append(known)

    def observe_now(self, asked, response):
        self.observe(asked, response)
        self.settle()

    def settle(self):
        """Count and log what is in the queue."""
        if not self.answered:
            return
        with self.lock:
            gathered = [Answered._make(self.answered.popleft()) for _ in range(len(self.answered))]
            if self.count is not None:
                self.count.add(gathered)
            if self.log is not None:
                self.log.write(gathered)

    def gauges(self):
        """What cannot be found is not shown, and /healthcheck?detail says why."""
        with suppress(OSError, RegistryError):
            file, log = engine.sizes(self.settings.database)
            yield "registry_database_bytes", "The database's file.", file, None
            yield "registry_wal_bytes", "The write-ahead log beside it.", log, None
            yield "registry_disk_free_bytes", "What is left on its disk.", health.free_bytes(self.health.path), None
            if counted := self.images.get():
                by_status, deleted = counted
                yield "registry_images", "Images that are not deleted, by status.", by_status, "status"
                yield "registry_deleted_images", "Images that are deleted, and not yet purged.", deleted, None


def count_images():
    """({status: how many}, how many deleted ones). A million: a tenth of a second, of an index that is in memory."""
    by_status, deleted = dict.fromkeys(UPDATE_STATUSES, 0), 0
    with engine.translated_errors():
        rows = engine.execute(COUNT, ()).fetchall()
    for shelf, status, number in rows:
        if shelf >= DELETED:
            deleted += number
        else:
            by_status[status] = by_status.get(status, 0) + number
    return by_status, deleted


def identify_scraper(asked):
    """Who may see the counts: whoever is identified, unless ``[server] metrics`` says anyone."""
    if current_app.settings.server.metrics == "anyone":
        return ANONYMOUS
    context = current_app.identify(asked)
    if not context.is_authenticated:
        raise Unauthorized("The counts are for callers that are known: send a token, or set [server] metrics = anyone.")
    return context


def register(app):
    """The routes, and what they and whoever serves ask."""
    monitor = Monitor(app)
    app.extensions["monitor"], app.begin_serving = monitor, monitor.attend
    app.register_blueprint(checks)
    app.hostless = frozenset({checks.name})
    app.identifiers[checks.name] = lambda asked: ANONYMOUS
    if app.settings.server.metrics != "off":
        app.register_blueprint(counts)
        app.identifiers[counts.name] = identify_scraper
