"""What a web page in somebody's browser may do: by the Host, Origin and Sec-Fetch-Site of a request."""

import ipaddress
import re
from functools import lru_cache

from auth import is_trusted
from errors import Forbidden, Invalid

HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{0,5})?", re.IGNORECASE | re.ASCII)
AUTHORITY = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE | re.ASCII)
LONGEST_HOST = 270
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
OTHER_MACHINE = "Everybody is an admin here ([auth] flavor = none), so only this machine may ask: set flavor, or, "
OTHER_MACHINE += "where nobody else reaches this network, [auth] allow_open_network = true."
READS = ("GET", "HEAD", "OPTIONS")
OWN_PAGES = (None, "none", "same-origin")
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
WILDCARDS = ("0.0.0.0", "::", "*", "")  # noqa: S104 (nothing is bound to them)

# Answers are data for whoever asked, never a page, a script or a frame; a cache asks again, with the ETag.
SAFE_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "private, no-cache"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
# What a page of an allowed origin may send and see; never with a browser's own credentials.
PURGE_HEADER = "X-Glance-Registry-Purge-Props"
SENT_HEADERS = (
    f"Authorization, Content-Type, If-Match, If-None-Match, X-Auth-Token, {PURGE_HEADER}, X-Openstack-Request-Id"
)
PREFLIGHT_HEADERS = (
    ("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE"),
    ("Access-Control-Allow-Headers", SENT_HEADERS),
    ("Access-Control-Max-Age", "600"),
)


class Guard:
    """The rules of one configuration.

    The Host counts where a connection alone makes somebody: a page of evil.example whose name an attacker's DNS turns
    to 127.0.0.1 is, to the browser, at home here, and sends what headers it likes, an identity's too. A token it does
    not have. With flavor none the peer counts as well: who starts the server may have bound it to anything.
    """

    def __init__(self, settings):
        server = settings.server
        bound = server.bind_host.strip("[]").lower()
        names = {*server.trusted_hosts, *(() if bound in WILDCARDS else (bound,))}
        self.origins = frozenset(server.allowed_origins)
        self.is_host_checked = settings.auth.flavor != "token" or bool(server.trusted_hosts)
        self.is_closed = settings.auth.flavor == "none" and not settings.auth.allow_open_network
        self.is_local = lru_cache(maxsize=256)(lambda peer: is_trusted(peer, LOOPBACK))
        self.is_trusted = lru_cache(maxsize=256)(lambda host: is_trusted_host(host, names))

    def require_allowed(self, environ):
        """Raises Invalid for a Host that is not ours, Forbidden for a write that another site's page sends, and for
        who comes from another machine where everybody is an admin."""
        if self.is_closed and not self.is_local(environ.get("REMOTE_ADDR")):
            raise Forbidden(OTHER_MACHINE)
        if self.is_host_checked:
            self.require_host(environ)
        if environ["REQUEST_METHOD"] not in READS:
            self.require_own_page(environ)

    def require_host(self, environ):
        """No browser leaves the Host out, and HTTP/1.0 may; a target with a host of its own must be right too."""
        host = environ.get("HTTP_HOST")
        is_right = environ.get("SERVER_PROTOCOL") == "HTTP/1.0" if host is None else self.is_known(host)
        target = environ.get("RAW_URI", "/")
        if target[:1] != "/" and (authority := AUTHORITY.match(target)):
            is_right = is_right and self.is_known(authority[1])
        if not is_right:
            message = "Must be localhost, 127.0.0.1, [::1], or a name in [server] trusted_hosts, and any port."
            raise Invalid({"Host": [message]})

    def is_known(self, host):
        return len(host) <= LONGEST_HOST and self.is_trusted(host)

    def require_own_page(self, environ):
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and origin.lower() in self.origins:
            return
        if environ.get("HTTP_SEC_FETCH_SITE") not in OWN_PAGES:
            raise Forbidden("A web page of another site sends this: name its origin in [server] allowed_origins.")
        if origin is not None and not is_own(origin, environ):
            raise Forbidden("The Origin is not this registry's own: name it in [server] allowed_origins.")

    def is_preflight(self, environ):
        """Whether an allowed origin's browser asks beforehand: every path answers that, also one without OPTIONS."""
        is_asked = environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
        return is_asked and environ.get("HTTP_ORIGIN", "").lower() in self.origins

    def sharing_headers(self, environ):
        """[(name, value)] where some origin is allowed: for its browser (CORS), and for caches."""
        headers, origin = [("Vary", "Origin")], environ.get("HTTP_ORIGIN", "")
        if origin.lower() in self.origins:
            headers += [("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", "*")]
            if self.is_preflight(environ):
                headers += PREFLIGHT_HEADERS
        return headers


def is_trusted_host(host, names):
    """Whether a Host is this machine's own, or one of ``names``, with any port. A dot at its end changes nothing."""
    parts = HOST.fullmatch(host)
    if parts is None:
        return False
    name = parts[1].strip("[]").lower().removesuffix(".")
    return name == "localhost" or name in names or is_loopback(name)


def is_loopback(name):
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback if address.version == 4 else address == ipaddress.IPv6Address("::1")


def is_own(origin, environ):
    """Whether an Origin is the Host asked; https also where a proxy in front has taken TLS off."""
    scheme, _, place = origin.lower().partition("://")
    schemes = ("https",) if environ["wsgi.url_scheme"] == "https" else ("http", "https")
    port, host = DEFAULT_PORTS.get(scheme, ""), environ.get("HTTP_HOST", "").lower()
    return scheme in schemes and place != "" and place.removesuffix(port) == host.removesuffix(port)
