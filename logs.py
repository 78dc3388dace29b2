"""What is logged, and how: lines for people at a terminal, JSON for everybody else."""

import logging
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime

import orjson

HUMAN_LINE = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
HUMAN_TIME = "[%Y-%m-%d %H:%M:%S %z]"
JSON_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})


class JSONFormatter(logging.Formatter):
    """One object a line."""

    def format(self, record):
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z).decode()


def is_human(log):
    """``log`` is the settings' section."""
    return log.format == "human" or (log.format == "auto" and sys.stderr is not None and sys.stderr.isatty())


def formatter(log):
    return logging.Formatter(HUMAN_LINE, HUMAN_TIME) if is_human(log) else JSONFormatter()


def configure(log, name):
    """Send what the logger ``name`` is told to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log))
    logger = logging.getLogger(name)
    logger.handlers[:] = [handler]
    logger.setLevel(log.level.upper())


class RequestLog:
    """One line a request, in one write each, so that lines of several workers do not mix.

    Nothing of it comes from the client but the request id, which has been checked, and the tenant: the route stands
    for the path, since paths hold ids, and queries hold what is searched for. It goes by no logger: those take ten
    times as long. A log that cannot be written is no reason not to answer.
    """

    def __init__(self, log, descriptor):
        self.descriptor = descriptor
        self.render = human_line if is_human(log) else json_line
        self.least = {"debug": 100, "info": 100, "warning": 500, "error": 500}[log.level]
        self.pid = os.getpid()

    def write(self, asked, status, length, route, seconds):
        if status < self.least:
            return
        method = asked.method if asked.method in METHODS else "other"
        tenant = asked.context.tenant
        line = self.render(self.pid, asked.request_id, method, route, status, seconds * 1000, length, tenant)
        with suppress(OSError):
            os.write(self.descriptor, line)


def json_line(pid, request_id, method, route, status, milliseconds, length, tenant):
    line = {
        "time": datetime.now(UTC),
        "level": "info" if status < 500 else "error",
        "pid": pid,
        "message": "request",
        "request_id": request_id,
        "method": method,
        "route": route,
        "status": status,
        "ms": round(milliseconds, 3),
        "bytes": length,
        "tenant": tenant,
    }
    return orjson.dumps(line, option=JSON_OPTIONS)


def human_line(pid, request_id, method, route, status, milliseconds, length, tenant):
    level = "INFO" if status < 500 else "ERROR"
    time = datetime.now().astimezone().strftime(HUMAN_TIME)
    caller = "" if tenant is None else f" tenant {tenant!r}"
    return (
        f"{time} [{pid}] [{level}] {method} {route} {status} {milliseconds:.1f} ms {length} B{caller} {request_id}\n"
    ).encode()


def take_over_werkzeug(log):
    """Flask's development server logs in our format, and its requests by our own lines."""
    configure(log, "werkzeug")
    logging.getLogger("werkzeug").addFilter(is_no_request_line)


def is_no_request_line(record):
    return '"%s" %s %s' not in record.msg
