"""HTTP below the routes: requests, responses, URL converters and error handlers."""

import json
import logging
import re
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from http import HTTPStatus

import orjson
from flask import Flask, Request, Response, current_app, request
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.routing import BaseConverter, MapAdapter

import schemas
from auth import ANONYMOUS, identify
from config import HTTP_METHODS
from errors import Invalid, RequestTimeout, TooLarge, UnsupportedMediaType
from security import SAFE_HEADERS, RequestGuard

# Up to this much of a refused body is read, so that its sender gets the response; then the connection closes.
DRAINED_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
DEEPEST_NESTING = 100
TOO_DEEP = object()
# RFC 9110 requires a challenge with every 401; where a proxy authenticates there is no standard scheme.
CHALLENGES = {
    "none": 'none realm="image registry"',
    "trusted-auth": 'trusted-auth realm="image registry"',
    "token": 'Bearer realm="image registry"',
}
REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
CONVERTER = re.compile(r"<(?:\w+:)?(\w+)>")
STATUS_LINES = {status: f"{status} {phrase.upper()}" for status, phrase in HTTP_STATUS_CODES.items()}

logger = logging.getLogger("registry")


class RegistryRequest(Request):
    """Request with its caller, settings and body schemas."""

    context = ANONYMOUS
    request_id = ""
    settings = None
    bodies = None
    bytes_read = 0  # of the body

    def __init__(self, environ, *args, **options):
        super().__init__(environ, *args, **options)
        self.began = time.perf_counter()


class JSONResponse(Response):
    """JSON response; ``last_headers`` follow those that every response gets."""

    default_mimetype = "application/json"
    automatically_set_content_length = False
    last_headers = SAFE_HEADERS


class BytesResponse:
    """Response of prepared bytes and headers, as a WSGI application.

    Werkzeug's Response takes 65 µs more to build and copy its headers (docs/decisions.md).
    """

    def __init__(self, content, status, headers, last_headers=SAFE_HEADERS):
        self.content, self.status_code, self.headers = content, status, headers
        self.last_headers = last_headers
        self.content_length = len(content)

    def __call__(self, environ, start_response):
        """Send the response; HEAD gets no body."""
        start_response(STATUS_LINES[self.status_code], self.headers)
        return (self.content,) if self.content and environ["REQUEST_METHOD"] != "HEAD" else ()


class Application(Flask):
    """Flask application of the registry: settings, identity and security checks of each request."""

    request_class = RegistryRequest
    response_class = JSONResponse

    def __init__(self, name, settings, find_token):
        super().__init__(name, static_folder=None)
        self.settings = settings
        self.find_token = find_token
        self.identifiers = {}  # blueprint → function (request) → Context, in place of ``identify``
        self.hostless = frozenset()  # blueprints without Host validation
        self.begin_serving = None  # function (counters, slot) → function to call periodically
        self.bodies = schemas.ImageBodies(settings.api)
        self.request_guard = RequestGuard(settings)
        self.limited = lru_cache(maxsize=1024)(partial(replace, limits=settings.api))  # Context → with its quotas
        self.url_map.strict_slashes = False
        self.url_map.merge_slashes = False
        self.url_map.converters |= {"image_id": ImageIdConverter, "member_id": MemberIdConverter}
        self.before_request(admit_request)
        self.after_request(complete_response)

    def create_url_adapter(self, request):
        """Return the URL adapter of a request; routes do not depend on the Host.

        Flask's own adapter answers 400 to a Host with an empty or overlong label, before Host validation.
        """
        if request is None:
            return super().create_url_adapter(None)
        return MapAdapter(self.url_map, "localhost", request.root_path, "", "http", request.path, request.method)

    def make_response(self, rv):
        """Return the response of a view; a BytesResponse is complete."""
        return rv if isinstance(rv, BytesResponse) else super().make_response(rv)

    def ensure_sync(self, func):
        """Return a view unchanged: none is asynchronous (Flask documents the override)."""
        return func

    def identify(self, request):
        """Return the Context of a request by its headers."""
        return identify(request.environ, self.settings.auth, self.find_token)


class ImageIdConverter(BaseConverter):
    """URL converter of image ids: any spelling of a UUID to its canonical one, other text to ""."""

    regex = "(?!detail$)[^/]+"  # GET /images/detail is a path of its own
    part_isolating = True

    def to_python(self, value):
        """Return the canonical UUID, or "", which no image has."""
        return schemas.canonical_uuid(value) or ""


class MemberIdConverter(BaseConverter):
    """URL converter of member ids: any text with slashes, without one trailing slash."""

    regex = "(?s:.+)"
    part_isolating = False

    def to_python(self, value):
        """Return the member id."""
        return value.removesuffix("/")


def admit_request():
    """Set request id and caller, after the security checks."""
    current, application = request._get_current_object(), current_app._get_current_object()
    environ, blueprint = current.environ, current.blueprint
    given = environ.get("HTTP_X_OPENSTACK_REQUEST_ID", "")
    current.request_id = given if REQUEST_ID.fullmatch(given) else f"req-{uuid.uuid4()}"
    current.settings, current.bodies = application.settings, application.bodies
    if blueprint not in application.hostless:
        application.request_guard.require_allowed(environ)
    if application.request_guard.is_preflight(environ):
        return no_content()
    if current.method != "OPTIONS":
        current.context = application.limited(application.identifiers.get(blueprint, application.identify)(current))
    return None


def complete_response(response):
    """Drain the rest of the body, and add request id, CORS and security headers."""
    current = request._get_current_object()
    if has_body(current):
        drain_body()
    cors_headers = current_app.request_guard.cors_headers(current.environ)
    response.headers.extend([("X-Openstack-Request-Id", current.request_id), *cors_headers, *response.last_headers])
    return response


def respond(content, headers=(), status=200, last_headers=(), content_type="application/json"):
    """Return a response of bytes; ``last_headers`` precede the security headers."""
    described = [*headers, ("Content-Type", content_type), ("Content-Length", str(len(content)))]
    return BytesResponse(content, status, described, (*last_headers, *SAFE_HEADERS))


def respond_json(value, status=200):
    """Return a response with ``value`` as JSON."""
    return respond(orjson.dumps(value), status=status)


def no_content(status=204, headers=()):
    """Return a response without a body."""
    return BytesResponse(b"", status, [*headers])


def has_body(request):
    """Return whether a request announces a body."""
    environ = request.environ
    return environ.get("CONTENT_LENGTH", "0") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in environ


def matching_etags():
    """Return the ETags of If-Match, or None without that header."""
    return request.if_match if "If-Match" in request.headers else None


def require_readable_path():
    """Raise Invalid for a path that is not UTF-8.

    Werkzeug decodes such bytes as U+FFFD, which could name another member.
    """
    try:
        request.environ["PATH_INFO"].encode("latin-1").decode()
    except UnicodeDecodeError:
        raise Invalid({"member_id": ["Must be UTF-8."]}) from None


def read_json(is_required=True):
    """Return the JSON object of the request, or None for an optional missing body."""
    if not (is_required or has_body(request)):
        return None
    require_json_type()
    limit = request.settings.api.max_body_bytes
    content = b"".join(read_chunks(limit + 1))
    if len(content) > limit:
        raise TooLarge(f"The body is larger than the {limit} bytes that [api] max_body_bytes allows.")
    return parse_json(content) if content or is_required else None


def read_chunks(most):
    """Yield the body in chunks, until ``most`` bytes of the request were read."""
    try:
        while request.bytes_read < most:
            chunk = request.stream.read(min(most - request.bytes_read, CHUNK_BYTES))
            if not chunk:
                return
            request.bytes_read += len(chunk)
            yield chunk
    except RequestTimeout:
        raise
    except Exception:  # gunicorn's reader raises several types for malformed chunks and closed connections
        raise invalid_body("Must be complete; the connection broke off, or a chunk is malformed.") from None


def drain_body():
    """Read and discard the rest of the body, so that its sender reads the response."""
    with suppress(Invalid, RequestTimeout):
        for _ in read_chunks(DRAINED_BYTES):
            pass


def require_json_type():
    """Raise UnsupportedMediaType unless the body is declared as JSON in UTF-8.

    A PUT may omit Content-Type, as early clients do; a web page cannot send a PUT without CORS.
    """
    content_type = request.headers.get("Content-Type", "")
    encoding = request.headers.get("Content-Encoding", "identity")
    charset = request.mimetype_params.get("charset", "utf-8")
    expected = "send JSON in UTF-8 with the header Content-Type: application/json"
    if encoding.lower() != "identity":
        raise UnsupportedMediaType(f"Content-Encoding {encoding[:40]} is not supported: {expected}.")
    if content_type and request.mimetype != "application/json":
        raise UnsupportedMediaType(f"Content-Type {request.mimetype[:80]} is not supported: {expected}.")
    if charset.lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaType(f"The charset {charset[:40]} is not supported: {expected}.")
    if not content_type and request.method != "PUT":
        raise UnsupportedMediaType(f"Content-Type is missing: {expected}.")


def invalid_body(message):
    """Return the Invalid error of a malformed body."""
    return Invalid({"body": [message]})


def parse_json(content):
    """Return the JSON object in the bytes ``content``. Raises: Invalid."""
    try:
        parsed = json.loads(content.decode(), parse_float=schemas.JSONFloat, parse_constant=schemas.JSONFloat)
    except json.JSONDecodeError as error:
        cause = error.msg.removesuffix(" at").removesuffix(" (decode using utf-8-sig)")
        raise invalid_body(f"Must be JSON: {cause}, line {error.lineno} column {error.colno}.") from None
    except UnicodeDecodeError as error:
        raise invalid_body(f"Must be UTF-8; the byte at {error.start} is not.") from None
    except ValueError:
        raise invalid_body("Must be JSON with numbers of up to 4,300 digits and 1.8e308, without NaN.") from None
    except RecursionError:
        parsed = TOO_DEEP
    if parsed is TOO_DEEP or is_deep(parsed):
        raise invalid_body(f"Must be JSON nested at most {DEEPEST_NESTING} levels deep.")
    if not isinstance(parsed, dict):
        raise invalid_body("Must be a JSON object.")
    return parsed


def is_deep(value):
    """Return whether JSON is nested too deep; Python's own limit differs by version."""
    level = [value]
    for _ in range(DEEPEST_NESTING):
        containers = [
            part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)
        ]
        level = [part for container in containers for part in container]
        if not level:
            return False
    return True


def log_failure(error):
    """Log the cause of a server-side error in one line."""
    if error.status >= 500:  # without quoted text, which may be a location
        cause = " ".join(str(error.__cause__).partition(" with text ")[0].split())
        logger.error("%s: %s", describe_request(), cause)


def describe_request():
    """Return request id, method and route (paths have ids) for the log."""
    method = request.method if request.method in HTTP_METHODS else "other"
    return f"{request.request_id} {method} {route_of(request.url_rule and request.url_rule.rule)}"


def route_of(rule):
    """Return a URL rule as the OpenAPI document writes it, or "unmatched" for None."""
    return "unmatched" if rule is None else CONVERTER.sub(r"{\1}", rule)


def answer_registry_error(error):
    """Return the problem document of a domain error."""
    log_failure(error)
    extras = {"errors": error.errors} if isinstance(error, Invalid) else {}
    challenge = {"WWW-Authenticate": CHALLENGES[request.settings.auth.flavor]} if error.status == 401 else {}
    return problem(error.status, error.detail, error.headers | challenge, **extras)


def answer_http_error(error):
    """Return the problem document of Flask's errors: unknown paths and methods."""
    if isinstance(error, MethodNotAllowed):
        # Counters and logs need the route, which the router found for another method.
        adapter = current_app.create_url_adapter(request)
        request.url_rule, _ = adapter.match(method=error.valid_methods[0], return_rule=True)
        allowed = ", ".join(method for method in HTTP_METHODS if method in error.valid_methods)
        return problem(405, f"The method is not allowed; use one of {allowed}.", {"Allow": allowed})
    return problem(error.code, "This path does not exist." if error.code == 404 else error.description)


def answer_unexpected_error(error):
    """Return the problem document of a programming error, and log its traceback."""
    logger.exception("%s", describe_request(), exc_info=error)
    return problem(500, "Internal error; the log has the details under the request id.")


def problem(status, detail, headers=None, **extras):
    """Return a problem document (RFC 9457)."""
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    content = orjson.dumps({**document, **extras, "request_id": request.request_id})
    return respond(content, (headers or {}).items(), status, content_type="application/problem+json")
