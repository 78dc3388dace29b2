"""HTTP beneath the routes: requests read, answers written, errors told."""

import json
import logging
import os
import re
import time
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus

import orjson
from flask import Flask, Request, Response, current_app, request, request_tearing_down
from flask.sessions import SessionInterface
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.routing import MapAdapter

import schemas
from auth import ANONYMOUS, identify
from errors import Invalid, RequestTimeout, TooLarge, UnsupportedMediaType
from security import SAFE_HEADERS, Guard

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
CONVERTED = re.compile(r"<(?:\w+:)?(\w+)>")
UNMATCHED = "unmatched"
CANONICAL_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

STATUSES = {status: f"{status} {phrase.upper()}" for status, phrase in HTTP_STATUS_CODES.items()}
# Of a uuid4's bits those that are random, and those that say what it is.
RANDOM_BITS, UUID4_BITS = ((1 << 128) - 1) ^ (0xF << 76) ^ (3 << 62), (4 << 76) | (2 << 62)

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
    """What Flask answers by itself: OPTIONS."""

    default_mimetype = "application/json"
    automatically_set_content_length = False

    def get_wsgi_response(self, environ):
        content, status, headers = super().get_wsgi_response(environ)
        return content, status, [*headers, *SAFE_HEADERS]


class Answer:
    """What we answer: bytes, and (name, value) of headers, which go out unchecked: no content can break a response.

    Werkzeug's Response costs 10 µs more, for objects of its headers, length and type that nobody looks at; and it would
    check and copy an image's 30 headers, for more than it costs to read the image.
    """

    safe_headers = SAFE_HEADERS

    def __init__(self, content, status, headers, prepared=()):
        self.content, self.status_code, self.headers, self.prepared = content, status, headers, prepared

    def __call__(self, environ, start_response):
        start_response(STATUSES[self.status_code], [*self.headers, *self.prepared, *self.safe_headers])
        return (self.content,) if self.content and environ["REQUEST_METHOD"] != "HEAD" else ()


class KnownRoutes(MapAdapter):
    """Werkzeug's router, which remembers: its search costs 8 µs, a tenth of a request."""

    known = None  # (method, path, of which an image's id at the end is left out) → (rule, name of the id or None)

    def match(self, path_info=None, method=None, return_rule=False, **options):
        if path_info is not None or method is not None or not return_rule or options:
            return super().match(path_info, method, return_rule, **options)
        start, _, last = self.path_info.rpartition("/")
        is_id = CANONICAL_ID.fullmatch(last) is not None
        key = (self.default_method, start if is_id else self.path_info, is_id)
        found = self.known.get(key)
        if found is not None:
            rule, name = found
            return rule, {name: last} if is_id else {}
        rule, arguments = super().match(return_rule=True)
        # So a path stands for all of its kind: without arguments itself, or the id is all that the rule takes.
        if arguments == {} and not is_id:
            self.known[key] = rule, None
        elif is_id and [*arguments.values()] == [last]:
            self.known[key] = rule, *arguments
        return rule, arguments


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
        self.known_routes = {}
        self.url_map.strict_slashes = False
        self.url_map.merge_slashes = False

    def ensure_sync(self, func):
        """No view is asynchronous; to look would cost a twentieth of a request."""
        return func

    def create_url_adapter(self, request):
        """The path alone finds a route; Werkzeug looks at the Host too, for 13 µs, and refuses a long label."""
        if request is None:
            return super().create_url_adapter(None)
        adapter = KnownRoutes(self.url_map, "localhost", request.root_path, "", "http", request.path, request.method)
        adapter.known = self.known_routes
        return adapter

    def make_response(self, rv):
        return rv if isinstance(rv, Answer) else super().make_response(rv)

    def do_teardown_request(self, exc=None):
        """Nothing is registered for it; to go through what could be costs 2 µs."""
        if self.teardown_request_funcs or request_tearing_down.receivers:
            super().do_teardown_request(exc)

    def preprocess_request(self):
        asked = request._get_current_object()
        asked.began = time.perf_counter()
        environ, blueprint = asked.environ, asked.blueprint
        given = environ.get("HTTP_X_OPENSTACK_REQUEST_ID")
        asked.request_id = given if given and REQUEST_ID.fullmatch(given) else new_request_id()
        asked.settings, asked.bodies = self.settings, self.bodies
        if blueprint not in self.hostless:
            self.guard.require_allowed(environ)
        if self.guard.origins and self.guard.is_preflight(environ):
            return no_content()
        if asked.method != "OPTIONS":
            identify_caller = self.identifiers.get(blueprint, self.identify)
            asked.context = replace(identify_caller(asked), limits=self.settings.api)
        return super().preprocess_request() if self.before_request_funcs else None

    def identify(self, asked):
        return identify(asked.environ, self.settings.auth, self.find_bearer)

    def process_response(self, response):
        asked = request._get_current_object()
        if has_body(asked):
            drain_body()
        response.headers.extend([("X-Openstack-Request-Id", asked.request_id)])
        if self.guard.origins:
            response.headers.extend(self.guard.sharing_headers(asked.environ))
        if self.after_request_funcs:
            response = super().process_response(response)
        if self.observe is not None:
            self.observe(asked, response)
        return response


def new_request_id():
    """Like f"req-{uuid.uuid4()}", for half of its 3 µs."""
    text = f"{(int.from_bytes(os.urandom(16), 'big') & RANDOM_BITS) | UUID4_BITS:032x}"
    return f"req-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def answer(content, headers=(), status=200, prepared=(), content_type="application/json"):
    """JSON in bytes; ``headers`` come before what describes it, ``prepared`` after all but the safe ones."""
    described = [*headers, ("Content-Type", content_type), ("Content-Length", str(len(content)))]
    return Answer(content, status, described, prepared)


def answer_json(content, status=200):
    return answer(orjson.dumps(content), status=status)


def no_content():
    return Answer(b"", 204, [])


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


def log_failure(error):
    """What is the server's own trouble goes to the log."""
    if error.status >= 500:
        logger.error("%s: %s", told_request(), told(error.__cause__))


def answer_registry_error(error):
    log_failure(error)
    extras = {"errors": error.errors} if isinstance(error, Invalid) else {}
    challenge = {"WWW-Authenticate": CHALLENGES[request.settings.auth.flavor]} if error.status == 401 else {}
    return problem(error.status, error.detail, error.headers | challenge, **extras)


def told_request():
    """For the log: the route stands for the path, which has ids of images and tenants."""
    method = request.method if request.method in METHODS else "other"
    return f"{request.request_id} {method} {shown_route(request.url_rule and request.url_rule.rule)}"


def shown_route(rule):
    """As the OpenAPI document writes it; None is that of a path that is no route's."""
    return UNMATCHED if rule is None else CONVERTED.sub(r"{\1}", rule)


def told(cause):
    """What SQLite says, in one line, without the text that it could not read: that may be a location."""
    return " ".join(str(cause).partition(" with text ")[0].split())


def answer_http_error(error):
    """What Flask itself refuses: unknown paths, other methods, broken bodies."""
    if isinstance(error, MethodNotAllowed):
        # For those who count and log: the route, which took another method.
        request.url_rule, _ = current_app.create_url_adapter(request).match(
            method=error.valid_methods[0], return_rule=True
        )
        allowed = ", ".join(method for method in METHODS if method in error.valid_methods)
        return problem(405, f"This path takes {allowed}.", {"Allow": allowed})
    return problem(error.code, "Nothing is at this path." if error.code == 404 else error.description)


def answer_unexpected_error(error):
    logger.exception("%s", told_request(), exc_info=error)
    return problem(500, "A mistake of the registry's own; its log says more under the request id.")


def problem(status, detail, headers=None, **extras):
    """RFC 9457."""
    about = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    content = orjson.dumps({**about, **extras, "request_id": request.request_id})
    return answer(content, (headers or {}).items(), status, content_type="application/problem+json")
