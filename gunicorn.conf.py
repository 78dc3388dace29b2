"""gunicorn settings from the options of the registry; the database is prepared before the workers start."""

import os
import sys
from functools import partial

from gunicorn.glogging import Logger

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import migrations
from config import read_settings
from server import duplicate_headers, logs, startup_checks
from server.counters import SharedCounters

settings = read_settings()
server = settings.server

host = f"[{server.bind_host.strip('[]')}]" if ":" in server.bind_host else server.bind_host
bind = f"{host}:{server.bind_port}"
workers = server.workers
threads = server.threads
worker_class = "server.worker.RegistryWorker"
certfile = server.certfile or None
keyfile = server.keyfile or None
# Peers of a Unix socket are trusted: only the server's user and group (a proxy's) may connect.
umask = 0o007
# The heartbeat file is in memory: on a busy disk a worker would seem dead.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
control_socket_disable = True
# No header of a client sets the path of the application (SCRIPT_NAME).
forwarder_headers = ""
timeout = 60
# Requests that are being received when a worker stops are still answered.
graceful_timeout = max(30, server.request_timeout + 5)
keepalive = 15
limit_request_line = 8190
limit_request_fields = 100
# glance-api sends the service catalog of its caller in one header.
limit_request_field_size = 32768
loglevel = settings.log.level


class ServerLog(Logger):
    """Logger of the server's own messages, in the format of [log]."""

    def setup(self, cfg):
        """Set formatter and filter of the error log."""
        super().setup(cfg)
        self.error_log.addFilter(logs.hide_unreadable)
        for handler in self.error_log.handlers:
            handler.setFormatter(logs.formatter(read_settings().log))


logger_class = ServerLog


def on_starting(arbiter):
    """Check addresses and certificate, and prepare the database."""
    arbiter.counters = SharedCounters()
    names = startup_checks.inherited_names()  # set after USR2 or under systemd
    for name in names:
        startup_checks.require_closed(settings.auth, name)
    startup_checks.require_served(settings, [] if names else arbiter.cfg.address)
    if arbiter.cfg.worker_class_str != worker_class:
        startup_checks.require_duplicates_reported(settings.auth, f"gunicorn's worker {arbiter.cfg.worker_class_str}")
    migrations.prepare(settings.database)
    arbiter.database = settings.database


def pre_fork(arbiter, worker):
    """Give a new worker its time limit and its slot of the shared counters."""
    worker.request_timeout = server.request_timeout
    worker.counters, worker.slot = arbiter.counters, arbiter.counters.take()


def post_worker_init(worker):
    """Start counting and logging, and report duplicate headers to the application."""
    if begin_serving := getattr(worker.wsgi, "begin_serving", None):
        worker.settle = begin_serving(worker.counters, worker.slot)
    worker.wsgi = duplicate_headers.reporting(worker.wsgi)


pre_request = duplicate_headers.remember


def child_exit(arbiter, worker):
    """Free the slot of an ended worker."""
    arbiter.counters.release(worker.slot)


def when_ready(arbiter):
    """Report the address, and check the configuration of later reloads."""
    arbiter.handle_hup = partial(reload_if_valid, arbiter, arbiter.handle_hup)
    url = str(arbiter.LISTENERS[0]).replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
    is_path = url.startswith("unix:")
    arguments = f"--unix-socket {url.removeprefix('unix:')} http://localhost" if is_path else url
    message = f"The image registry serves {settings.database.connection} on {url}"
    if logs.is_human(settings.log):
        print(f"{message}\nTry: curl {arguments}/images", flush=True)
    else:
        arbiter.log.info(message)


def reload_if_valid(arbiter, reload):
    """Reload on SIGHUP, unless a start would refuse the configuration.

    Gunicorn would end.
    """
    try:
        candidate = type(arbiter.app)(arbiter.app.usage, prog=arbiter.app.prog).cfg
        options = read_settings()
        is_moving = candidate.address != arbiter.cfg.address
        startup_checks.require_served(options, set(candidate.address) - set(arbiter.cfg.address))
        for listener in () if is_moving else arbiter.LISTENERS:
            startup_checks.require_closed(options.auth, listener.getsockname())
        if options.database.connection != arbiter.database.connection:
            migrations.prepare(options.database)
    except SystemExit as refusal:
        arbiter.log.error("Not reloaded, and serving as before: %s", refusal)
    else:
        arbiter.database = options.database
        reload()
