"""Log formats: readable lines on a terminal, JSON elsewhere; one line per request."""

import logging
import os
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime

import orjson

from config import HTTP_METHODS

HUMAN_LINE = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
HUMAN_TIME = "[%Y-%m-%d %H:%M:%S %z]"
JSON_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
WRITTEN_WHOLE = 4096  # PIPE_BUF of Linux
UNREADABLE = re.compile(r""":? b?['"].*""", re.DOTALL)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # Werkzeug's, for terminals


class JSONFormatter(logging.Formatter):
    """Formatter with one JSON object per line."""

    def format(self, record):
        """Return a log record as JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "pid": record.process,
            "message": COLOURS.sub("", record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z).decode()


def is_human(log):
    """Return whether the section [log] asks for readable lines."""
    return log.format == "human" or (log.format == "auto" and sys.stderr is not None and sys.stderr.isatty())


def formatter(log):
    """Return the formatter of the section [log]."""
    return logging.Formatter(HUMAN_LINE, HUMAN_TIME) if is_human(log) else JSONFormatter()


def configure(log, name):
    """Send the messages of the logger ``name`` to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log))
    logger = logging.getLogger(name)
    logger.handlers[:] = [handler]
    logger.setLevel(log.level.upper())


class RequestLog:
    """Log of requests, one line each, written in blocks that a pipe takes atomically.

    A line has no text of the client but the validated request id and the tenant; the route replaces the path, which
    has ids. The logging module takes ten times as long. A log that cannot be written fails no request.
    """

    def __init__(self, log, descriptor, routes):
        self.descriptor, self.routes = descriptor, routes
        self.render = human_line if is_human(log) else json_line
        self.least = {"debug": 100, "info": 100, "warning": 500, "error": 500}[log.level]

    def write(self, records):
        """Write a line for each record of a request."""
        written = b""
        for record in records:
            if record.status < self.least:
                continue
            method = record.method if record.method in HTTP_METHODS else "other"
            line = self.render(record, self.routes[record.rule], method, os.getpid())
            if len(written) + len(line) > WRITTEN_WHOLE:
                self.send(written)
                written = b""
            written += line
        self.send(written)

    def send(self, lines):
        """Write bytes to the log, ignoring errors."""
        with suppress(OSError):
            os.write(self.descriptor, lines)


def json_line(record, route, method, pid):
    line = {
        "time": datetime.fromtimestamp(record.when, UTC),
        "level": "info" if record.status < 500 else "error",
        "pid": pid,
        "message": "request",
        "request_id": record.request_id,
        "method": method,
        "route": route,
        "status": record.status,
        "ms": round(record.seconds * 1000, 3),
        "bytes": length_of(record),
        "tenant": record.tenant,
    }
    return orjson.dumps(line, option=JSON_OPTIONS)


def length_of(record):
    return 0 if record.method == "HEAD" else record.length or 0


def human_line(record, route, method, pid):
    level = "INFO" if record.status < 500 else "ERROR"
    when = datetime.fromtimestamp(record.when).astimezone().strftime(HUMAN_TIME)
    took = f"{record.seconds * 1000:.1f} ms {length_of(record)} B"
    caller = "" if record.tenant is None else f" tenant {record.tenant!r}"
    return f"{when} [{pid}] [{level}] {method} {route} {record.status} {took}{caller} {record.request_id}\n".encode()


def take_over_werkzeug(log):
    """Log messages of Flask's development server in our format, except requests."""
    configure(log, "werkzeug")
    logging.getLogger("werkzeug").addFilter(is_no_request_line)


def hide_unreadable(record):
    """Remove the quoted request of gunicorn's parse errors, which may contain a token."""
    if str(record.msg).startswith("Invalid request from "):
        record.msg = UNREADABLE.sub("", record.msg)
    return True


def is_no_request_line(record):
    return '"%s" %s %s' not in record.msg
