"""HTTP beneath the routes: requests read, answers written, errors told."""

import json
import logging
import re
import time
import uuid
from contextlib import suppress
from http import HTTPStatus

import orjson
from flask import Flask, Request, Response, request
from flask.sessions import SessionInterface
from werkzeug.exceptions import MethodNotAllowed

import schemas
from context import ANONYMOUS, identify
from errors import Invalid, RequestTimeout, TooLarge, UnsupportedMediaType
from guard import SAFE_HEADERS, Guard

# So much of a refused body is thrown away, so that its sender reads the answer; after more the connection closes.
DRAINED_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
DEEPEST = 100
TOO_DEEP = object()
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
# RFC 9110 wants a challenge with every 401; where a proxy authenticates there is no scheme to try.
CHALLENGES = {
    "none": 'none realm="image registry"',
    "trusted-auth": 'trusted-auth realm="image registry"',
    "token": 'Bearer realm="image registry"',
}
REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")

logger = logging.getLogger("registry")


class AskedRequest(Request):
    """A request, and who asks."""

    context = ANONYMOUS
    request_id = ""
    settings = None
    bodies = None
    taken = 0  # bytes of the body that were read
    began = 0.0


class JSONResponse(Response):
    """Its ``prepared_headers`` go out as they are, unchecked: (name, value) that cannot break a response.

    Checking and copying an image's 30 headers would cost more than reading the image; so would Werkzeug's
    last look at a response that is a list of bytes with its length set.
    """

    default_mimetype = "application/json"
    prepared_headers = ()

    def get_wsgi_response(self, environ):
        if self.status_code in (204, 304):
            content, status, headers = super().get_wsgi_response(environ)
            return content, status, [*headers, *SAFE_HEADERS]
        content = () if environ["REQUEST_METHOD"] == "HEAD" else self.response
        return content, self.status, [*self.headers, *self.prepared_headers, *SAFE_HEADERS]


class NoSession(SessionInterface):
    def open_session(self, app, request):
        return None

    def make_null_session(self, app):
        return None

    def is_null_session(self, obj):
        return True


class Application(Flask):
    """Flask, which asks who is asking before each request, and does without what this service has no use for."""

    request_class = AskedRequest
    response_class = JSONResponse
    session_interface = NoSession()

    def __init__(self, name, settings, find_bearer):
        super().__init__(name, static_folder=None)
        self.settings = settings
        self.find_bearer = find_bearer
        self.identifiers = {}  # blueprint → function of a request that says who asks, where that is not by headers
        self.hostless = frozenset()  # blueprints that answer whatever the Host
        self.begin_serving = None  # a function of the worker's board and slot; returns what is to be called at times
        self.observe = None  # a function of a request and its answer, while it serves
        self.bodies = schemas.ImageBodies(settings.api)
        self.guard = Guard(settings)
        self.url_map.strict_slashes = False
        self.url_map.merge_slashes = False

    def ensure_sync(self, func):
        """No view is asynchronous; to look would cost a twentieth of a request."""
        return func

    def preprocess_request(self):
        asked = request._get_current_object()
        asked.began = time.perf_counter()
        given = asked.environ.get("HTTP_X_OPENSTACK_REQUEST_ID", "")
        asked.request_id = given if REQUEST_ID.fullmatch(given) else f"req-{uuid.uuid4()}"
        asked.settings, asked.bodies = self.settings, self.bodies
        blueprint = asked.blueprint
        if blueprint not in self.hostless:
            self.guard.require_allowed(asked.environ)
        if self.guard.origins and self.guard.is_preflight(asked.environ):
            return no_content()
        if asked.method != "OPTIONS":
            identify_caller = self.identifiers.get(blueprint, self.identify)
            asked.context = identify_caller(asked)
        return super().preprocess_request() if self.before_request_funcs else None

    def identify(self, asked):
        return identify(asked.environ, self.settings.auth, self.find_bearer)

    def process_response(self, response):
        asked = request._get_current_object()
        if has_body(asked):
            drain_body()
        response.headers["X-Openstack-Request-Id"] = asked.request_id
        if self.guard.origins:
            response.headers.extend(self.guard.sharing_headers(asked.environ))
        if self.after_request_funcs:
            response = super().process_response(response)
        if self.observe is not None:
            self.observe(asked, response)
        return response


def answer(content, headers=None, status=200, prepared=()):
    """JSON in bytes."""
    response = JSONResponse(content, status, headers)
    response.prepared_headers = prepared
    return response


def answer_json(content, status=200):
    return answer(orjson.dumps(content), status=status)


def no_content():
    response = JSONResponse(status=204)
    del response.headers["Content-Type"]
    return response


def has_body(asked):
    return asked.environ.get("CONTENT_LENGTH", "0") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in asked.environ


def read_json(is_required=True):
    """The request's JSON object, or None where there is no body and none needed.

    Raises UnsupportedMediaType, TooLarge, Invalid.
    """
    if not (is_required or has_body(request)):
        return None
    require_json_type()
    limit = request.settings.api.max_body_bytes
    content = b"".join(read_chunks(limit + 1))
    if len(content) > limit:
        raise TooLarge(f"The body is larger than the {limit} bytes that [api] max_body_bytes allows.")
    return parse_json(content) if content or is_required else None


def read_chunks(most):
    """The body, up to ``most`` bytes of it, those read before included.

    Raises Invalid where it breaks off, RequestTimeout where the worker's deadline for it passes.
    """
    asked = request._get_current_object()
    try:
        while asked.taken < most and (chunk := asked.stream.read(min(most - asked.taken, CHUNK_BYTES))):
            asked.taken += len(chunk)
            yield chunk
    except RequestTimeout:
        raise
    except Exception:  # whatever the server's reader has for malformed chunks and for clients that go
        raise invalid_body("Must arrive whole; this one breaks off, or its chunks are malformed.") from None


def drain_body():
    """Throw away what was not read of the body, so that its sender comes to read the answer."""
    with suppress(Invalid, RequestTimeout):
        for _ in read_chunks(DRAINED_BYTES):
            pass


def require_json_type():
    """A PUT without type is taken as JSON, as clients of the time send it; a web page cannot PUT unasked."""
    content_type, encoding = (
        request.headers.get("Content-Type", ""),
        request.headers.get("Content-Encoding", "identity"),
    )
    charset = request.mimetype_params.get("charset", "utf-8")
    expected = "send JSON in UTF-8, with the header Content-Type: application/json"
    if encoding.lower() != "identity":
        raise UnsupportedMediaType(f"The body is {encoding[:40]}: {expected}, and no Content-Encoding.")
    if content_type and request.mimetype != "application/json":
        raise UnsupportedMediaType(f"The body is {request.mimetype[:80]}: {expected}.")
    if charset.lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaType(f"The body is in {charset[:40]}: {expected}.")
    if not content_type and request.method != "PUT":
        raise UnsupportedMediaType(f"The body does not say what it is: {expected}.")


def invalid_body(message):
    return Invalid({"body": [message]})


def parse_json(content):
    """The JSON object in the bytes ``content``. Raises Invalid."""
    try:
        parsed = json.loads(content.decode(), parse_float=schemas.JSONFloat, parse_constant=schemas.JSONFloat)
    except json.JSONDecodeError as error:
        cause = error.msg.removesuffix(" at").removesuffix(" (decode using utf-8-sig)")
        raise invalid_body(f"Must be JSON: {cause}, line {error.lineno} column {error.colno}.") from None
    except UnicodeDecodeError as error:
        raise invalid_body(f"Must be UTF-8: the byte at {error.start} is not.") from None
    except ValueError:
        raise invalid_body("Must be JSON with numbers of up to 4,300 digits and 1.8e308, and without NaN.") from None
    except RecursionError:
        parsed = TOO_DEEP
    if parsed is TOO_DEEP or is_deep(parsed):
        raise invalid_body(f"Must be JSON nested at most {DEEPEST} levels deep.")
    if not isinstance(parsed, dict):
        raise invalid_body("Must be a JSON object.")
    return parsed


def is_deep(value):
    """Python's parsers differ by version in how deep they go."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            part
            for outer in level
            if isinstance(outer, dict | list)
            for part in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def answer_registry_error(error):
    if error.status >= 500:
        logger.error("%s %s %r: %s", request.request_id, request.method, request.path, told(error.__cause__))
    extras = {"errors": error.errors} if isinstance(error, Invalid) else {}
    challenge = {"WWW-Authenticate": CHALLENGES[request.settings.auth.flavor]} if error.status == 401 else {}
    return problem(error.status, error.detail, error.headers | challenge, **extras)


def told(cause):
    """What SQLite says, in one line, without the text that it could not read: that may be a location."""
    return " ".join(str(cause).partition(" with text ")[0].split())


def answer_http_error(error):
    """What Flask itself refuses: unknown paths, other methods, broken bodies."""
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(method for method in METHODS if method in error.valid_methods)
        return problem(405, f"This path takes {allowed}.", {"Allow": allowed})
    return problem(error.code, "Nothing is at this path." if error.code == 404 else error.description)


def answer_unexpected_error(error):
    logger.exception("%s %s %r", request.request_id, request.method, request.path, exc_info=error)
    return problem(500, "A mistake of the registry's own; its log says more under the request id.")


def problem(status, detail, headers=None, **extras):
    """RFC 9457."""
    about = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    response = answer(orjson.dumps({**about, **extras, "request_id": request.request_id}), headers, status)
    response.mimetype = "application/problem+json"
    return response
