"""Domain errors, each with its HTTP status."""


class StartupError(SystemExit):
    """Error of the configuration or start, in one line with option, value and cause.

    Uncaught it ends the process as it should: the line on standard error, exit code 1, no traceback.
    """

    def __init__(self, cause: str):
        super().__init__(f"registry: {cause}")


class RegistryError(Exception):
    """Refused request; ``detail`` is one sentence for the client."""

    status = 500

    def __init__(self, detail: str = "", headers: dict[str, str] | None = None):
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}


class Invalid(RegistryError):
    """Invalid values; ``errors`` maps each field to its messages."""

    status = 400

    def __init__(self, errors: dict[str, list[str]]):
        super().__init__(" ".join(f"{field}: {text}" for field, texts in errors.items() for text in texts))
        self.errors = errors


class Unauthorized(RegistryError):
    """Authentication is required."""

    status = 401


class Forbidden(RegistryError):
    """Action without the necessary rights on a visible record."""

    status = 403


class NotFound(RegistryError):
    """Missing or inaccessible record."""

    status = 404


class RequestTimeout(RegistryError):
    """Request not received within ``[server] request_timeout``."""

    status = 408

    def __init__(self, seconds: float):
        super().__init__(f"The request was not complete within {seconds:g} seconds.")


class Conflict(RegistryError):
    """Conflict with the current state of the record."""

    status = 409


class PreconditionFailed(RegistryError):
    """Record changed since the ETag in ``If-Match``."""

    status = 412


class TooLarge(RegistryError):
    """Body larger than ``[api] max_body_bytes``."""

    status = 413


class QuotaExceeded(RegistryError):
    """Quota of ``[api]`` exceeded; the detail names it."""

    status = 413


class UnsupportedMediaType(RegistryError):
    """Body of a type other than JSON."""

    status = 415


class DatabaseUnavailable(RegistryError):
    """Database locked for too long, or unreadable, or read-only."""

    status = 503

    def __init__(self, detail: str):
        super().__init__(detail, {"Retry-After": "1"})


class DatabaseFull(RegistryError):
    """Disk full; nothing was changed."""

    status = 507
