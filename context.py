"""Who is asking: a frozen Context, and how it comes out of a request's headers."""

from collections.abc import Mapping
from dataclasses import dataclass

from errors import Forbidden, Unauthorized

LONGEST_TENANT = 255


@dataclass(frozen=True)
class Context:
    """The caller of one request.

    ``tenant`` is the id of the caller's project, the owner of what it registers; None for an admin
    without one, a user without one, and anonymous callers (``is_authenticated`` false).
    """

    tenant: str | None = None
    is_admin: bool = False
    is_authenticated: bool = True

    def is_owner_of(self, owner: str | None) -> bool:
        """Whether it may do what an image's owner may; admins may, and a null owner is nobody."""
        return self.is_admin or (self.tenant is not None and owner == self.tenant)

    def require_may_create(self) -> None:
        """Raises Unauthorized or Forbidden for those who cannot own an image."""
        if self.tenant is None and not self.is_admin:
            detail = "Only a tenant's user or an admin may register images."
            raise Forbidden(detail) if self.is_authenticated else Unauthorized(detail)


ADMIN = Context(is_admin=True)
ANONYMOUS = Context(is_authenticated=False)


def identify(headers: Mapping[str, str], auth) -> Context:
    """The caller by ``[auth] flavor``; ``auth`` is the settings' section.

    Raises Unauthorized when identity is required and missing, or cannot be read.
    """
    if auth.flavor == "none":
        return ADMIN
    return trusted_identity(headers, auth)


def trusted_identity(headers: Mapping[str, str], auth) -> Context:
    """Identity headers as keystonemiddleware sets them: a proxy in front has authenticated."""
    if headers.get("X-Identity-Status") != "Confirmed":
        if auth.allow_anonymous_access:
            return ANONYMOUS
        raise Unauthorized("This needs identity: the proxy in front must send X-Identity-Status: Confirmed.")
    roles = {role.strip().casefold() for role in read_header(headers, "X-Roles").split(",")}
    tenant = read_header(headers, "X-Tenant-Id").strip()
    if len(tenant) > LONGEST_TENANT or not tenant.isprintable():
        raise Unauthorized(f"X-Tenant-Id must be printable text of up to {LONGEST_TENANT} characters.")
    return Context(tenant=tenant or None, is_admin=auth.admin_role.casefold() in roles)


def read_header(headers: Mapping[str, str], name: str) -> str:
    """The header as UTF-8: WSGI hands its bytes over as Latin-1 (PEP 3333)."""
    try:
        return headers.get(name, "").encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise Unauthorized(f"{name} must be UTF-8.") from None
