"""Checks before a start or reload: listening addresses, certificate, duplicate headers."""

import contextlib
import ipaddress
import os
import socket
import ssl

from errors import StartupError

OPEN_NETWORK = (
    "[auth] flavor = none makes every client an admin, and {} is not a loopback address: set flavor, listen on "
    "127.0.0.1, or, on a network that nobody else reaches, set [auth] allow_open_network = true"
)
DUPLICATES_HIDDEN = (
    "[auth] flavor = trusted-auth cannot be served by {}, which joins duplicate headers without reporting them: a "
    "client could add a role to those of the proxy. Start gunicorn 'registry:create_app()', or set flavor"
)


def require_served(settings, addresses) -> None:
    """Raise StartupError for an unusable certificate or an open address.

    An address is (host, port), the path of a Unix socket, or a file descriptor.
    """
    require_certificate(settings.server)
    for address in addresses:
        if isinstance(address, int):
            require_closed(settings.auth, inherited_name(address))
        elif isinstance(address, tuple):
            require_closed(settings.auth, bound_name(address, settings.server))


def require_closed(auth, name) -> None:
    """Raise StartupError if every client on a network would be an admin.

    ``name`` is the result of getsockname.
    """
    if auth.flavor == "none" and not auth.allow_open_network and not is_local(name):
        raise StartupError(OPEN_NETWORK.format(name[0]))


def require_closed_host(auth, host) -> None:
    """Apply ``require_closed`` to the host of ``flask run``."""
    with contextlib.suppress(OSError, ValueError):
        require_closed(auth, socket.getaddrinfo(host, 0)[0][4])


def require_duplicates_reported(auth, server) -> None:
    """Raise StartupError if ``server`` must report duplicate headers, and does not."""
    if auth.flavor == "trusted-auth":
        raise StartupError(DUPLICATES_HIDDEN.format(server))


def is_local(name) -> bool:
    """Return whether a socket's name is a loopback address or a Unix socket."""
    if not isinstance(name, tuple):
        return True  # the file permissions of a Unix socket decide
    address = ipaddress.ip_address(name[0].partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def inherited_names() -> list:
    """Return the names of sockets inherited by LISTEN_FDS or GUNICORN_FD."""
    texts = [text for text in os.environ.get("GUNICORN_FD", "").split(",") if text]
    numbers = [parse_descriptor(text, "GUNICORN_FD") for text in texts]
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        numbers += range(3, 3 + parse_descriptor(os.environ.get("LISTEN_FDS", "0"), "LISTEN_FDS"))
    return [inherited_name(number) for number in numbers]


def parse_descriptor(text, variable) -> int:
    """Return the number in an environment variable, or raise StartupError."""
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise StartupError(f"{variable} = {text!r} (environment variable): must be a number")
    return int(text)


def inherited_name(number):
    """Return the name of an inherited socket, or raise StartupError if it is none."""
    try:
        inherited = socket.socket(fileno=number)
    except OSError as error:
        raise StartupError(f"the inherited socket, file descriptor {number}: {error.strerror}") from None
    try:
        return inherited.getsockname()
    finally:
        inherited.detach()


def bound_name(address, server):
    """Return the name of a socket bound to (host, port), or raise StartupError.

    gunicorn would retry for five seconds and report the failure in ten lines.
    """
    is_ours = address == (server.bind_host.strip("[]"), server.bind_port)
    option = "[server] bind_host, bind_port" if is_ours else "--bind"
    try:
        host = address[0] or "0.0.0.0"  # gunicorn's meaning of --bind :9191
        family, *_, target = socket.getaddrinfo(host, address[1], type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen(1)
            return probe.getsockname()
    except (OSError, ValueError) as error:  # an invalid host name raises UnicodeError
        cause = getattr(error, "strerror", None) or "not an address of this machine"
        raise StartupError(f"{option} = {address[0]}, {address[1]}: {cause}") from None


def require_certificate(server) -> None:
    """Raise StartupError if certfile and keyfile cannot be used."""
    if not server.certfile:
        if server.keyfile:
            raise StartupError(f"[server] keyfile = {server.keyfile!r}: set certfile too")
        return
    for name, path in (("certfile", server.certfile), ("keyfile", server.keyfile)):
        try:
            open(path or server.certfile, "rb").close()
        except OSError as error:
            raise StartupError(f"[server] {name} = {path!r}: {error.strerror}") from None
    try:
        # With an empty password openssl does not prompt for that of an encrypted key.
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(server.certfile, server.keyfile or None, password="")
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        cause = getattr(error, "reason", None) or "certificate and key must be PEM and belong together"
        raise StartupError(f"[server] certfile = {server.certfile!r}: {cause}") from None
