"""What must hold before a server starts, or reloads its configuration: the addresses and the certificate."""

import contextlib
import ipaddress
import os
import socket
import ssl

from errors import StartupError

OPEN_NETWORK = (
    "[auth] flavor = none makes everybody who can connect an admin, and {} is not a loopback address: set flavor, or "
    "listen on 127.0.0.1, or, where nobody else reaches this network, set [auth] allow_open_network = true"
)
REPEATS_UNTOLD = (
    "[auth] flavor = trusted-auth cannot be served by {}, which joins a header that comes twice and does not tell: a "
    "client could add a role to those that the proxy sends. Start gunicorn 'registry:create_app()', or set flavor"
)


def require_served(settings, addresses) -> None:
    """Raises StartupError for a certificate that cannot be used, and for ``addresses`` as ``require_closed``.

    An address is (host, port), the path of a Unix socket, or an open file's number.
    """
    require_certificate(settings.server)
    for address in addresses:
        if isinstance(address, int):
            require_closed(settings.auth, inherited_name(address))
        elif isinstance(address, tuple):
            require_closed(settings.auth, bound_name(address, settings.server))


def require_closed(auth, name) -> None:
    """Raises StartupError where everybody on a network would be an admin; ``name`` is getsockname's."""
    if auth.flavor == "none" and not auth.allow_open_network and not is_local(name):
        raise StartupError(OPEN_NETWORK.format(name[0]))


def require_closed_host(auth, host) -> None:
    """Like ``require_closed``, for ``flask run``; a host that is none is left to it."""
    with contextlib.suppress(OSError, ValueError):
        require_closed(auth, socket.getaddrinfo(host, 0)[0][4])


def require_repeats_told(auth, server) -> None:
    """Raises StartupError where ``server``, a program without worker.py, would have to tell of repeated headers."""
    if auth.flavor == "trusted-auth":
        raise StartupError(REPEATS_UNTOLD.format(server))


def is_local(name) -> bool:
    if not isinstance(name, tuple):
        return True  # a Unix socket: its file's permissions decide
    address = ipaddress.ip_address(name[0].partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def inherited_names() -> list:
    """The names of the sockets that systemd opened (LISTEN_FDS), or the server before this one (GUNICORN_FD)."""
    texts = [text for text in os.environ.get("GUNICORN_FD", "").split(",") if text]
    numbers = [whole_number(text, "GUNICORN_FD") for text in texts]
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        numbers += range(3, 3 + whole_number(os.environ.get("LISTEN_FDS", "0"), "LISTEN_FDS"))
    return [inherited_name(number) for number in numbers]


def whole_number(text, variable) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise StartupError(f"{variable} = {text!r} (environment variable): must be a number")
    return int(text)


def inherited_name(number):
    """Raises StartupError where no socket is open under that number."""
    try:
        inherited = socket.socket(fileno=number)
    except OSError as error:
        raise StartupError(f"the socket to listen on, open file {number}: {error.strerror}") from None
    try:
        return inherited.getsockname()
    finally:
        inherited.detach()


def bound_name(address, server):
    """The name that a socket bound to (host, port) has.

    Raises StartupError in our words: gunicorn would try for five seconds and tell it in ten lines.
    """
    is_ours = address == (server.bind_host.strip("[]"), server.bind_port)
    option = "[server] bind_host, bind_port" if is_ours else "--bind"
    try:
        host = address[0] or "0.0.0.0"  # as gunicorn understands --bind :9191
        family, *_, target = socket.getaddrinfo(host, address[1], type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen(1)
            return probe.getsockname()
    except (OSError, ValueError) as error:  # a host that no name can be is a UnicodeError
        cause = getattr(error, "strerror", None) or "no address of this machine"
        raise StartupError(f"{option} = {address[0]}, {address[1]}: {cause}") from None


def require_certificate(server) -> None:
    """Raises StartupError where certfile and keyfile cannot be served with."""
    if not server.certfile:
        if server.keyfile:
            raise StartupError(f"[server] keyfile = {server.keyfile!r}: it needs certfile beside it")
        return
    for name, path in (("certfile", server.certfile), ("keyfile", server.keyfile)):
        try:
            open(path or server.certfile, "rb").close()
        except OSError as error:
            raise StartupError(f"[server] {name} = {path!r}: {error.strerror}") from None
    try:
        # An empty password: openssl would ask the terminal for that of an encrypted key.
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(server.certfile, server.keyfile or None, password="")
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        cause = getattr(error, "reason", None) or "no certificate and key, as PEM, that fit each other"
        raise StartupError(f"[server] certfile = {server.certfile!r}: {cause}") from None
