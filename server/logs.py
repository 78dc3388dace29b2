"""What is logged, and how: lines for people at a terminal, JSON for everybody else."""

import logging
import os
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime

import orjson

HUMAN_LINE = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
HUMAN_TIME = "[%Y-%m-%d %H:%M:%S %z]"
JSON_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
WRITTEN_WHOLE = 4096  # PIPE_BUF of Linux
UNREADABLE = re.compile(r""":? b?['"].*""", re.DOTALL)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # Werkzeug's, for terminals
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})


class JSONFormatter(logging.Formatter):
    """One object a line."""

    def format(self, record):
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
    """One line a request. Lines are written whole, and so many at once as a pipe takes without mixing in another's.

    Nothing of a line comes from the client but the request id, which has been checked, and the tenant: the route
    stands for the path, since paths hold ids, and queries hold what is searched for. It goes by no logger: those take
    ten times as long. A log that cannot be written is no reason not to answer.
    """

    def __init__(self, log, descriptor, routes):
        self.descriptor, self.routes = descriptor, routes
        self.render = human_line if is_human(log) else json_line
        self.least = {"debug": 100, "info": 100, "warning": 500, "error": 500}[log.level]

    def write(self, answered):
        """A list of what monitoring keeps of each request."""
        written = b""
        for one in answered:
            if one.status < self.least:
                continue
            method = one.method if one.method in METHODS else "other"
            line = self.render(one, self.routes[one.rule], method, os.getpid())
            if len(written) + len(line) > WRITTEN_WHOLE:
                self.send(written)
                written = b""
            written += line
        self.send(written)

    def send(self, lines):
        with suppress(OSError):
            os.write(self.descriptor, lines)


def json_line(one, route, method, pid):
    line = {
        "time": datetime.fromtimestamp(one.when, UTC),
        "level": "info" if one.status < 500 else "error",
        "pid": pid,
        "message": "request",
        "request_id": one.request_id,
        "method": method,
        "route": route,
        "status": one.status,
        "ms": round(one.seconds * 1000, 3),
        "bytes": length_of(one),
        "tenant": one.tenant,
    }
    return orjson.dumps(line, option=JSON_OPTIONS)


def length_of(one):
    return 0 if one.method == "HEAD" else one.length or 0


def human_line(one, route, method, pid):
    level = "INFO" if one.status < 500 else "ERROR"
    when = datetime.fromtimestamp(one.when).astimezone().strftime(HUMAN_TIME)
    took = f"{one.seconds * 1000:.1f} ms {length_of(one)} B"
    caller = "" if one.tenant is None else f" tenant {one.tenant!r}"
    return f"{when} [{pid}] [{level}] {method} {route} {one.status} {took}{caller} {one.request_id}\n".encode()


def take_over_werkzeug(log):
    """Flask's development server logs in our format, and its requests by our own lines."""
    configure(log, "werkzeug")
    logging.getLogger("werkzeug").addFilter(is_no_request_line)


def hide_unreadable(record):
    """What gunicorn says of a request that it cannot read ends in a quotation of it, and that may be a token."""
    if str(record.msg).startswith("Invalid request from "):
        record.msg = UNREADABLE.sub("", record.msg)
    return True


def is_no_request_line(record):
    return '"%s" %s %s' not in record.msg
