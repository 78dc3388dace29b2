"""gunicorn's settings, from our options; the database is prepared once, before the workers start."""

import os
import sys
from functools import partial

from gunicorn.glogging import Logger

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import migrations
from config import read_settings
from server import logs, startup_checks
from server.counters import Board

settings = read_settings()
server = settings.server

host = f"[{server.bind_host.strip('[]')}]" if ":" in server.bind_host else server.bind_host
bind = f"{host}:{server.bind_port}"
workers = server.workers
threads = server.threads
worker_class = "server.worker.RegistryWorker"
certfile = server.certfile or None
keyfile = server.keyfile or None
# Whoever reaches a Unix socket is trusted: nobody but our user and group (a proxy's, say) does.
umask = 0o007
# The heartbeat's file belongs in memory: on a busy disk a worker would seem dead.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
control_socket_disable = True
# No header of a client's may say under which path we are (SCRIPT_NAME).
forwarder_headers = ""
timeout = 60
# What is arriving when a worker is told to stop may still arrive, and be answered.
graceful_timeout = max(30, server.request_timeout + 5)
keepalive = 15
limit_request_line = 8190
limit_request_fields = 100
# glance-api sends its caller's service catalog in one header.
limit_request_field_size = 32768
loglevel = settings.log.level


class ServerLog(Logger):
    """The server's own messages, in the format of [log]."""

    def setup(self, cfg):
        super().setup(cfg)
        self.error_log.addFilter(logs.hide_unreadable)
        for handler in self.error_log.handlers:
            handler.setFormatter(logs.formatter(read_settings().log))


logger_class = ServerLog


def on_starting(arbiter):
    arbiter.board = Board()
    names = startup_checks.inherited_names()  # after USR2 or under systemd the sockets are open already
    for name in names:
        startup_checks.require_closed(settings.auth, name)
    startup_checks.require_served(settings, [] if names else arbiter.cfg.address)
    if arbiter.cfg.worker_class_str != worker_class:
        startup_checks.require_repeats_told(settings.auth, f"gunicorn's worker {arbiter.cfg.worker_class_str}")
    migrations.prepare(settings.database)
    arbiter.database = settings.database


def pre_fork(arbiter, worker):
    worker.request_timeout = server.request_timeout
    worker.board, worker.slot = arbiter.board, arbiter.board.take()


def child_exit(arbiter, worker):
    arbiter.board.release(worker.slot)


def when_ready(arbiter):
    arbiter.handle_hup = partial(reload_what_is_valid, arbiter, arbiter.handle_hup)
    url = str(arbiter.LISTENERS[0]).replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
    is_path = url.startswith("unix:")
    asked = f"--unix-socket {url.removeprefix('unix:')} http://localhost" if is_path else url
    words = f"The image registry serves {settings.database.connection} on {url}"
    if logs.is_human(settings.log):
        print(f"{words}\nTry: curl {asked}/images", flush=True)
    else:
        arbiter.log.info(words)


def reload_what_is_valid(arbiter, reload):
    """SIGHUP: a configuration that a start would refuse leaves the server as it is; by itself gunicorn would end."""
    try:
        candidate = type(arbiter.app)(arbiter.app.usage, prog=arbiter.app.prog).cfg
        options = read_settings()
        is_moving = candidate.address != arbiter.cfg.address
        startup_checks.require_served(options, set(candidate.address) - set(arbiter.cfg.address))
        for listener in () if is_moving else arbiter.LISTENERS:
            startup_checks.require_closed(options.auth, listener.getsockname())
        if options.database.path != arbiter.database.path:
            migrations.prepare(options.database)
    except SystemExit as refusal:
        arbiter.log.error("Not reloaded, and serving as before: %s", refusal)
    else:
        arbiter.database = options.database
        reload()
