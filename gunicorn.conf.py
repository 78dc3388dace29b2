"""gunicorn's settings, from our options; the database is prepared once, before the workers start."""

import os
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import migrations
from config import read_settings
from errors import StartupError

settings = read_settings()
server = settings.server

host = f"[{server.bind_host.strip('[]')}]" if ":" in server.bind_host else server.bind_host
bind = f"{host}:{server.bind_port}"
workers = server.workers
threads = server.threads
worker_class = "gthread"
# The heartbeat's file belongs in memory: on a busy disk a worker would seem dead.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
control_socket_disable = True
# No header of a client's may say under which path we are (SCRIPT_NAME).
forwarder_headers = ""
timeout = 60
graceful_timeout = 30
keepalive = 15
limit_request_line = 8190
limit_request_fields = 100
# glance-api sends its caller's service catalog in one header.
limit_request_field_size = 32768


def on_starting(arbiter):
    # After USR2 or under systemd the sockets are open already.
    if not {"GUNICORN_FD", "LISTEN_FDS"} & set(os.environ):
        for address in arbiter.cfg.address:
            require_bindable(address)
    migrations.prepare(settings.database)


def when_ready(arbiter):
    url = str(arbiter.LISTENERS[0]).replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
    print(f"The image registry serves {settings.database.connection} on {url}\nTry: curl {url}/images", flush=True)


def require_bindable(address):
    """Raises StartupError in our words: gunicorn would try for five seconds and tell it in ten lines."""
    if not isinstance(address, tuple):
        return
    is_ours = address == (host.strip("[]"), server.bind_port)
    option = "[server] bind_host, bind_port" if is_ours else "--bind"
    try:
        family, *_, target = socket.getaddrinfo(*address[:2], type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen(1)
    except (OSError, ValueError) as error:  # a host that no name can be is a UnicodeError
        cause = getattr(error, "strerror", None) or "no address of this machine"
        raise StartupError(f"{option} = {address[0]}, {address[1]}: {cause}") from None
