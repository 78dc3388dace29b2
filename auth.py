"""Authentication: the caller of a request, trusted headers and tokens."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, NamedTuple

from errors import Forbidden, Invalid, NotFound, QuotaExceeded, Unauthorized
from storage import engine, timestamps
from storage.documents import TOKEN_COLUMNS, token_digest

UNLIMITED = -1
# Option of a quota → the counted things, for messages.
COUNTED = {
    "image_property_quota": "properties of an image",
    "image_member_quota": "members of an image",
    "image_location_quota": "locations of an image",
    "user_image_quota": "images of a tenant",
}
LONGEST_TENANT = 255
TOKEN = re.compile("registry_[A-Za-z0-9_-]{43}")
# Resolution of a token's last use: it is written at most this often.
USE_NOTED_EVERY = timedelta(hours=1)
LISTED_COLUMNS = ("id", *TOKEN_COLUMNS, "used_at", "digest")
FIND_TOKEN = "SELECT id, hash, tenant, roles, is_read_only, expires_at, revoked_at, used_at FROM token WHERE hash = ?"
LIST_TOKENS = """SELECT id, hash, tenant, roles, is_read_only, description, created_at, expires_at, revoked_at, used_at,
    digest FROM token WHERE :id IS NULL OR id = :id ORDER BY id"""
INSERT_TOKEN = """INSERT INTO token
    (hash, tenant, roles, is_read_only, description, created_at, expires_at, revoked_at, digest)
    VALUES
    (:hash, :tenant, :roles, :is_read_only, :description, :created_at, :expires_at, :revoked_at, :digest)"""


@dataclass(frozen=True)
class Context:
    """Caller of one request.

    ``tenant`` is the id of the caller's project, the owner of what it registers; None for an admin
    without one, a user without one, and anonymous callers (``is_authenticated`` false). ``limits`` is the section
    [api] of the settings: quotas, location schemes, length of the history.
    """

    tenant: str | None = None
    is_admin: bool = False
    is_authenticated: bool = True
    is_read_only: bool = False
    limits: Any = None

    def is_owner_of(self, owner: str | None) -> bool:
        """Return whether the caller has the rights of an image's owner; admins have."""
        return self.is_admin or (self.tenant is not None and owner == self.tenant)

    def require_owner(self, owner: str | None) -> None:
        """Raise Unauthorized or Forbidden unless the caller has the owner's rights."""
        if not self.is_owner_of(owner):
            if self.is_authenticated:
                raise Forbidden("Only the image's owner or an admin may do this.")
            raise Unauthorized("Only the image's owner or an admin may do this: authenticate first.")

    def require_admin(self) -> None:
        """Raise Forbidden unless the caller is an admin."""
        if not self.is_admin:
            raise Forbidden("Only an admin may do this.")

    def require_may_create(self) -> None:
        """Raise Unauthorized or Forbidden for a caller that cannot own an image."""
        self.require_may_write()
        if self.tenant is None and not self.is_admin:
            detail = "Only a tenant's user or an admin may register images."
            raise Forbidden(detail) if self.is_authenticated else Unauthorized(detail)

    def require_may_write(self) -> None:
        """Raise Forbidden for a read-only token."""
        if self.is_read_only:
            raise Forbidden("This token may only read.")

    def quota(self, name: str) -> int:
        """Return a quota of [api] as it applies to the caller, or UNLIMITED."""
        quota = UNLIMITED if self.is_admin else getattr(self.limits, name)
        return UNLIMITED if name == "user_image_quota" and quota == 0 else quota

    def require_room(self, name: str, attempted: int, present: int = 0) -> None:
        """Raise QuotaExceeded for more than the quota, unless as many are present already."""
        quota = self.quota(name)
        if quota != UNLIMITED and attempted > max(quota, present):
            detail = f"[api] {name} allows {quota} {COUNTED[name]}; with this there would be {attempted}."
            raise QuotaExceeded(detail)

    def require_locations(self, locations: list, present: list | tuple = ()) -> None:
        """Raise QuotaExceeded for too many locations, Invalid for schemes not allowed.

        The message leaves the URL out: it can carry credentials.
        """
        self.require_room("image_location_quota", len(locations), len(present))
        added = {url for url, *_ in locations} - {url for url, *_ in present}
        schemes = {url.partition(":")[0].lower() for url in added}
        if not self.is_admin and not schemes <= set(self.limits.location_schemes):
            allowed = ", ".join(self.limits.location_schemes)
            raise Invalid({"location": [f"Must be a URL of one of the schemes {allowed}."]})


ADMIN = Context(is_admin=True)
ANONYMOUS = Context(is_authenticated=False)
IDENTITY_HEADERS = frozenset({"X-IDENTITY-STATUS", "X-USER-ID", "X-TENANT-ID", "X-ROLES"})
TOKEN_HEADERS = frozenset({"X-AUTH-TOKEN", "AUTHORIZATION"})
DUPLICATE_HEADERS = "registry.repeated_headers"
TOKENLESS = "Authentication is required: send a token as X-Auth-Token or Authorization: Bearer."
UNIDENTIFIED = "Authentication is required: the proxy must send X-Identity-Status: Confirmed."
DUPLICATES_HIDDEN = (
    "Identity headers are refused, because this server does not report duplicate headers: start gunicorn with the "
    "registry's gunicorn.conf.py."
)
UNTRUSTED = "Identity headers are accepted only from the addresses in [auth] trusted_proxies."


def identify(environ: Mapping, auth, find_token: Callable) -> Context:
    """Return the caller of a WSGI environ, by ``[auth] flavor``.

    ``auth`` is the section of the settings; ``find_token`` takes a token and returns its TokenIdentity or None.

    Raises: Unauthorized if identity is required and missing, or cannot be read.
    """
    if auth.flavor == "none":
        return ADMIN
    if auth.flavor == "token":
        return token_identity(environ, auth, find_token)
    return trusted_identity(environ, auth)


def token_identity(environ: Mapping, auth, find_token: Callable) -> Context:
    """Return the caller of a token in X-Auth-Token, Authorization (RFC 6750), or both."""
    given = [text for text in (environ.get("HTTP_X_AUTH_TOKEN", "").strip(), bearer_token(environ)) if text]
    require_once(environ, TOKEN_HEADERS)
    if not given:
        return anonymous(auth, TOKENLESS)
    if given[0] != given[-1]:
        raise Unauthorized("X-Auth-Token and Authorization must have the same token; send one of them.")
    identity = find_token(given[0])
    if identity is None:
        raise Unauthorized("This token is unknown, expired or revoked.")
    return context_of_token(identity, auth)


def context_of_token(identity, auth) -> Context:
    """Return the Context of a TokenIdentity."""
    return replace(context_of(identity.tenant or "", identity.roles, auth), is_read_only=identity.is_read_only)


def bearer_token(environ: Mapping) -> str:
    """Return the bearer token of the Authorization header, or ""."""
    scheme, _, text = environ.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    if scheme and scheme.lower() != "bearer":
        raise Unauthorized('Authorization must be "Bearer TOKEN".')
    return text.strip()


def trusted_identity(environ: Mapping, auth) -> Context:
    """Return the caller in identity headers, as keystonemiddleware sends them."""
    is_from_proxy = is_trusted(environ.get("REMOTE_ADDR"), auth.trusted_proxies)
    if not is_from_proxy or environ.get("HTTP_X_IDENTITY_STATUS") is None:
        return anonymous(auth, UNTRUSTED if "HTTP_X_IDENTITY_STATUS" in environ else UNIDENTIFIED)
    if DUPLICATE_HEADERS not in environ:
        raise Unauthorized(DUPLICATES_HIDDEN)
    require_once(environ, IDENTITY_HEADERS)
    if environ["HTTP_X_IDENTITY_STATUS"] != "Confirmed":
        return anonymous(auth, UNIDENTIFIED)
    return context_of(read_header(environ, "X-Tenant-Id").strip(), read_header(environ, "X-Roles"), auth)


def context_of(tenant: str, roles: str, auth) -> Context:
    """Return the Context of a tenant and comma-separated roles, or raise Unauthorized."""
    if len(tenant) > LONGEST_TENANT or not tenant.isprintable():
        raise Unauthorized(f"X-Tenant-Id must be printable text of up to {LONGEST_TENANT} characters.")
    is_admin = auth.admin_role.casefold() in {role.strip().casefold() for role in roles.split(",")}
    return Context(tenant=tenant or None, is_admin=is_admin)


def anonymous(auth, detail: str) -> Context:
    """Return the anonymous caller, or raise Unauthorized with ``detail``."""
    if auth.allow_anonymous_access:
        return ANONYMOUS
    raise Unauthorized(detail)


@lru_cache(maxsize=1024)
def is_trusted(peer: str | None, networks: tuple) -> bool:
    """Return whether a peer's address is in ``networks``, or "", a Unix socket."""
    if not peer:
        return peer == ""
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in networks)


def require_once(environ: Mapping, names: frozenset[str]) -> None:
    """Raise Unauthorized for duplicate headers among ``names``.

    WSGI joins their values, and one of them may be the client's. Without a server that reports them, a joined token
    is invalid, but joined roles would count: see ``trusted_identity``.
    """
    repeated = names & environ.get(DUPLICATE_HEADERS, frozenset())
    if repeated:
        raise Unauthorized(f"{', '.join(sorted(repeated))} must be sent once.")


def read_header(environ: Mapping, name: str) -> str:
    """Return a header as UTF-8; WSGI passes its bytes as Latin-1 (PEP 3333)."""
    try:
        return environ.get(f"HTTP_{name.upper().replace('-', '_')}", "").encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise Unauthorized(f"{name} must be UTF-8.") from None


class TokenIdentity(NamedTuple):
    """Identity of a token; ``roles`` are comma-separated, ``tenant`` may be None."""

    tenant: str | None
    roles: str
    is_read_only: bool


def find_token(text):
    """Return the TokenIdentity of a token, or None for an invalid token."""
    return find_token_of_hash(hash_token(text)) if TOKEN.fullmatch(text) else None


def find_token_of_hash(wanted):
    """Return the TokenIdentity of a token's hash, or None for an invalid token."""
    with engine.translated_errors():
        row = engine.execute(FIND_TOKEN, (wanted,)).fetchone()
    if row is None or not hmac.compare_digest(row[1], wanted):
        return None
    number, _, tenant, roles, is_read_only, expires_at, revoked_at, used_at = row
    now = timestamps.current_time()
    if revoked_at is not None or (expires_at is not None and expires_at <= now):
        return None
    if used_at is None or not timestamps.time_before(USE_NOTED_EVERY) < used_at <= now:
        note_use(number, now)
    return TokenIdentity(tenant, roles, bool(is_read_only))


def note_use(number, now):
    """Store the time of a token's use, unless the database is locked or full."""
    with suppress(*engine.DATABASE_ERRORS), engine.without_waiting():
        engine.execute("UPDATE token SET used_at = ? WHERE id = ?", (now, number))


def create_token(tenant, roles, *, is_read_only=False, description="", lasts=None):
    """Create a token and return (id, text); only a hash of the text is stored.

    ``lasts`` is a timedelta, or None for no expiry.
    """
    text = f"registry_{secrets.token_urlsafe(32)}"
    row = {
        "hash": hash_token(text),
        "tenant": tenant or None,
        "roles": ",".join(roles),
        "is_read_only": int(is_read_only),
        "description": description,
        "created_at": timestamps.current_time(),
        "expires_at": None if lasts is None else timestamps.time_before(-lasts),
        "revoked_at": None,
    }
    row["digest"] = token_digest(row)
    with engine.writing():
        return engine.insert(INSERT_TOKEN, row), text


def list_tokens(number=None):
    """Return all tokens as [dict], in the order of creation, or the one with this id."""
    with engine.reading():
        rows = engine.execute(LIST_TOKENS, {"id": number}).fetchall()
    return [dict(zip(LISTED_COLUMNS, row, strict=True)) for row in rows]


def revoke_token(number):
    """Revoke a token; a revoked one keeps its time. Raises: NotFound."""
    with engine.writing():
        for row in list_tokens(number):
            if row["revoked_at"] is None or token_digest(row) != row["digest"]:
                row["revoked_at"] = timestamps.current_time()
                values = (row["revoked_at"], token_digest(row), number)
                engine.execute("UPDATE token SET revoked_at = ?, digest = ? WHERE id = ?", values)
            return
    raise NotFound(f"There is no token {number}.")


def token_state(row):
    """Return the state of a token: active, revoked or expired."""
    if row["revoked_at"] is not None:
        return "revoked"
    is_over = row["expires_at"] is not None and row["expires_at"] <= timestamps.current_time()
    return "expired" if is_over else "active"


def hash_token(text):
    """Return the SHA-256 of a token in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
