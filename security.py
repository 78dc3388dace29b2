"""Host validation (DNS rebinding), same-origin writes (CSRF), CORS and security headers."""

import ipaddress
import re
from functools import lru_cache

from auth import is_trusted
from config import HTTP_METHODS
from errors import Forbidden, Invalid

HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{0,5})?", re.IGNORECASE | re.ASCII)
AUTHORITY = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE | re.ASCII)
LONGEST_HOST = 270
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
OTHER_MACHINE = (
    "Requests from other machines are refused, because [auth] flavor = none makes every caller an admin: set flavor, "
    "or, on a network that nobody else reaches, [auth] allow_open_network = true."
)
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # RFC 9110: they change nothing
SAME_ORIGIN = (None, "none", "same-origin")  # values of Sec-Fetch-Site
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
WILDCARDS = ("0.0.0.0", "::", "*", "")  # noqa: S104 (compared, not bound)

# Responses are data, never a page, script or frame; caches revalidate with the ETag.
SAFE_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "private, no-cache"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
# CORS: request headers that a page of an allowed origin may send; never the browser's own credentials.
PURGE_HEADER = "X-Glance-Registry-Purge-Props"
SENT_HEADERS = (
    f"Authorization, Content-Type, If-Match, If-None-Match, X-Auth-Token, {PURGE_HEADER}, X-Openstack-Request-Id"
)
PREFLIGHT_HEADERS = (
    ("Access-Control-Allow-Methods", ", ".join(method for method in HTTP_METHODS if method != "OPTIONS")),
    ("Access-Control-Allow-Headers", SENT_HEADERS),
    ("Access-Control-Max-Age", "600"),
)


class RequestGuard:
    """Allowlists of hosts and origins, from one configuration.

    The Host is validated where a connection alone gives rights (flavors ``none`` and ``trusted-auth``): by DNS
    rebinding, a page of evil.example can resolve its name to 127.0.0.1 and send any header, but no token. With flavor
    ``none`` the peer's address is checked too, because the server may be bound to any address.
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
        """Raise an error for a request that the configuration does not allow.

        Raises: Invalid for an unknown Host; Forbidden for a cross-site write, and for a peer on another machine if
        every caller is an admin.
        """
        if self.is_closed and not self.is_local(environ.get("REMOTE_ADDR")):
            raise Forbidden(OTHER_MACHINE)
        if self.is_host_checked:
            self.require_host(environ)
        if environ["REQUEST_METHOD"] not in SAFE_METHODS:
            self.require_same_origin(environ)

    def require_host(self, environ):
        """Raise Invalid unless Host, and the host of an absolute target, are known.

        HTTP/1.0 may omit the Host; no browser does.
        """
        host = environ.get("HTTP_HOST")
        is_right = environ.get("SERVER_PROTOCOL") == "HTTP/1.0" if host is None else self.is_known(host)
        target = environ.get("RAW_URI", "/")
        if target[:1] != "/" and (authority := AUTHORITY.match(target)):
            is_right = is_right and self.is_known(authority[1])
        if not is_right:
            message = "Must be localhost, 127.0.0.1, [::1] or a name in [server] trusted_hosts, with any port."
            raise Invalid({"Host": [message]})

    def is_known(self, host):
        """Return whether a Host is on the allowlist."""
        return len(host) <= LONGEST_HOST and self.is_trusted(host)

    def require_same_origin(self, environ):
        """Raise Forbidden for a write by a page of an origin not allowed (CSRF)."""
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and origin.lower() in self.origins:
            return
        if environ.get("HTTP_SEC_FETCH_SITE") not in SAME_ORIGIN:
            raise Forbidden("A web page of another site sent this request: add its origin to [server] allowed_origins.")
        if origin is not None and not is_same_origin(origin, environ):
            raise Forbidden("The Origin is not this registry: add it to [server] allowed_origins.")

    def is_preflight(self, environ):
        """Return whether this is a CORS preflight of an allowed origin.

        Every path answers it.
        """
        if not self.origins or environ["REQUEST_METHOD"] != "OPTIONS":
            return False
        is_allowed = environ.get("HTTP_ORIGIN", "").lower() in self.origins
        return is_allowed and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ

    def cors_headers(self, environ):
        """Return the CORS headers of a response as [(name, value)].

        None without allowed origins.
        """
        if not self.origins:
            return []
        headers, origin = [("Vary", "Origin")], environ.get("HTTP_ORIGIN", "")
        if origin.lower() in self.origins:
            headers += [("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", "*")]
            if self.is_preflight(environ):
                headers += PREFLIGHT_HEADERS
        return headers


def is_trusted_host(host, names):
    """Return whether a Host is this machine or one of ``names``, with any port.

    A trailing dot is ignored.
    """
    parts = HOST.fullmatch(host)
    if parts is None:
        return False
    name = parts[1].strip("[]").lower().removesuffix(".")
    return name == "localhost" or name in names or is_loopback(name)


def is_loopback(name):
    """Return whether a name is a loopback address."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback if address.version == 4 else address == ipaddress.IPv6Address("::1")


def is_same_origin(origin, environ):
    """Return whether an Origin is the Host of the request.

    An https origin counts over http too: a proxy may terminate TLS.
    """
    scheme, _, authority = origin.lower().partition("://")
    schemes = ("https",) if environ["wsgi.url_scheme"] == "https" else ("http", "https")
    port, host = DEFAULT_PORTS.get(scheme, ""), environ.get("HTTP_HOST", "").lower()
    return scheme in schemes and authority != "" and authority.removesuffix(port) == host.removesuffix(port)
