"""The domain's errors, each with the HTTP status that it is answered with."""


class StartupError(SystemExit):
    """The service cannot start: one line that names the option, its value and the cause.

    Uncaught it ends the process as it should: the line on standard error, exit code 1, no traceback.
    """

    def __init__(self, cause: str):
        super().__init__(f"registry: {cause}")


class RegistryError(Exception):
    """A request that is refused; ``detail`` is one sentence for the client."""

    status = 500

    def __init__(self, detail: str = "", headers: dict[str, str] | None = None):
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}


class Invalid(RegistryError):
    """Values that are refused: ``errors`` maps each field to its messages."""

    status = 400

    def __init__(self, errors: dict[str, list[str]]):
        super().__init__(" ".join(f"{field}: {text}" for field, texts in errors.items() for text in texts))
        self.errors = errors


class Unauthorized(RegistryError):
    """Nobody is asking, where somebody must."""

    status = 401


class Forbidden(RegistryError):
    """The caller sees the record and may not do this to it."""

    status = 403


class NotFound(RegistryError):
    """No such record, as far as the caller may know."""

    status = 404


class RequestTimeout(RegistryError):
    """The request did not arrive within ``[server] request_timeout``."""

    status = 408

    def __init__(self, seconds: float):
        super().__init__(f"The request took longer to arrive than the {seconds:g} seconds that it may.")


class Conflict(RegistryError):
    """The record's present state excludes the request."""

    status = 409


class PreconditionFailed(RegistryError):
    """The record has changed since the ETag in ``If-Match``."""

    status = 412


class TooLarge(RegistryError):
    """The body is larger than ``[api] max_body_bytes``."""

    status = 413


class QuotaExceeded(RegistryError):
    """The caller would have more than a quota of ``[api]``, which the detail names."""

    status = 413


class UnsupportedMediaType(RegistryError):
    """The body does not say that it is JSON."""

    status = 415


class DatabaseUnavailable(RegistryError):
    """The database is locked for too long, or cannot be read or written now."""

    status = 503

    def __init__(self, detail: str):
        super().__init__(detail, {"Retry-After": "1"})


class DatabaseFull(RegistryError):
    """The disk holds no more; nothing was changed."""

    status = 507
