"""The Glance Registry API over HTTP: the v1 routes, the error handlers, ``create_app``."""

import json
import logging
import re
import uuid
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import quote, unquote_plus

import click
import orjson
from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BaseConverter

import lists
import migrations
import models
import queries
import schemas
from config import Settings, read_settings
from context import ANONYMOUS, identify
from errors import Invalid, RegistryError, TooLarge, UnsupportedMediaType
from models import Image, Member

NO_HEADERS = ("properties", "location_data")
# Python's http.client reads 100 header lines, the blank one included; about 25 are ours.
MOST_PROPERTY_HEADERS = 64
MOST_PROPERTY_HEADER_BYTES = 16 * 1024
# So much of a refused body is thrown away, so that its sender reads the answer; after more the connection closes.
DRAINED_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
DEEPEST = 100
TOO_DEEP = object()
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
# gunicorn takes request lines of 8,190 bytes; a next link that would be longer goes without the position.
LONGEST_QUERY = 8000
SAFE_IN_QUERY = "%=!$'()*+,;:@/?-._~"  # RFC 3986; what else is there is escaped
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
PURGE_HEADER = "X-Glance-Registry-Purge-Props"

logger = logging.getLogger("registry")
v1 = Blueprint("v1", __name__)


@v1.get("/")
@v1.get("/images")
def list_images():
    """Six fields of each image on a page."""
    return answer_page("brief")


@v1.get("/images/detail")
def list_images_in_detail():
    """The full record of each image on a page."""
    return answer_page("all" if sees_all_locations() else "none" if g.context.tenant is None else "own")


@v1.get("/images/<image_id:image_id>")
def show_image(image_id):
    """One record, also in HTTP headers."""
    shown = lists.show(image_id, g.context)
    tag = shown_etag(shown)
    if request.if_none_match.contains_weak(tag):
        return Response(status=304, headers={"ETag": f'"{tag}"'})
    record = record_json(shown)
    return answer(b'{"image":%b}' % record, {"ETag": f'"{tag}"'}, prepared=image_headers(orjson.loads(record)))


@v1.post("/images")
def create_image():
    """Register an image."""
    g.context.require_may_create()
    values = g.bodies.parse_create(read_json(), g.context)
    row = Image.register(values, g.context)
    return answer_record(row, {"Location": f"/images/{row['id']}"})


@v1.put("/images/<image_id:image_id>")
def update_image(image_id):
    """Change what is named, leave the rest as it was."""
    Image.require_changeable(image_id, g.context)
    changes, from_state = g.bodies.parse_update(read_json(), g.context)
    purges = request.headers.get(PURGE_HEADER, "").strip().lower() in ("true", "1", "yes")
    options = {"purges_properties": purges, "from_state": from_state, "tags": matching_tags()}
    return answer_record(Image.change(image_id, changes, g.context, **options))


@v1.delete("/images/<image_id:image_id>")
def delete_image(image_id):
    """Mark it deleted."""
    return answer_record(Image.remove(image_id, g.context, matching_tags()))


@v1.get("/images/<image_id:image_id>/members")
def list_members(image_id):
    """Whom it is shared with, as far as the caller may know."""
    members = Member.list_of(image_id, g.context)
    entries = [{"member_id": member, "can_share": can_share} for member, can_share in members]
    return answer(orjson.dumps({"members": entries}))


@v1.put("/images/<image_id:image_id>/members")
def replace_members(image_id):
    """Make the named ones all there are."""
    Member.require_shareable(image_id, g.context)
    Member.replace_all(image_id, schemas.parse_memberships(read_json()), g.context)
    return no_content()


@v1.put("/images/<image_id:image_id>/members/<member_id:member_id>", provide_automatic_options=False)
def put_member(image_id, member_id):
    """Share it with one more, or change whether that one may share it on."""
    Member.require_shareable(image_id, g.context)
    require_readable_path()
    body = read_json(is_required=False)
    member_id, can_share = schemas.parse_member(member_id, body)
    Member.put(image_id, member_id, can_share, g.context)
    return no_content()


@v1.delete("/images/<image_id:image_id>/members/<member_id:member_id>", provide_automatic_options=False)
def remove_member(image_id, member_id):
    """Share it with one less."""
    Member.require_shareable(image_id, g.context)
    require_readable_path()
    Member.remove(image_id, member_id, g.context)
    return no_content()


@v1.get("/shared-images/<member_id:member_id>")
def list_shared_images(member_id):
    """What is shared with a member, as far as the caller may know."""
    require_readable_path()
    entries = Member.shared_with(member_id, g.context)
    shared_images = [{"image_id": image_id, "can_share": can_share} for image_id, can_share in entries]
    return answer(orjson.dumps({"shared_images": shared_images}))


class ImageIdConverter(BaseConverter):
    """A uuid in any spelling, to its canonical one. Another text is an image that does not exist."""

    regex = "(?!detail$)[^/]+"  # GET /images/detail is a path of its own
    part_isolating = True

    def to_python(self, value):
        return schemas.canonical_uuid(value) or ""


class MemberIdConverter(BaseConverter):
    """Any text, slashes included, but for one at the end: that makes no other page."""

    regex = "(?s:.+)"
    part_isolating = False

    def to_python(self, value):
        return value.removesuffix("/")


def create_app(settings: Settings | None = None) -> Flask:
    """The application, by ``settings`` or by REGISTRY_CONFIG and the environment; opens no file.

    Raises StartupError.
    """
    settings = settings or read_settings()
    bodies = schemas.ImageBodies(settings.api)
    models.open_database(settings.database)
    if is_development_server():
        migrations.prepare(settings.database)
    app = Flask("registry", static_folder=None)
    app.response_class = JSONResponse
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters |= {"image_id": ImageIdConverter, "member_id": MemberIdConverter}
    app.before_request(lambda: start_request(settings, bodies))
    app.after_request(finish_request)
    app.register_error_handler(RegistryError, answer_registry_error)
    app.register_error_handler(HTTPException, answer_http_error)
    app.register_error_handler(Exception, answer_unexpected_error)
    app.register_blueprint(v1)
    return app


class JSONResponse(Response):
    """Its ``prepared_headers`` go out as they are, unchecked: (name, value) that cannot break a response.

    Checking and copying an image's 30 headers would cost more than reading the image.
    """

    default_mimetype = "application/json"
    prepared_headers = ()

    def get_wsgi_response(self, environ):
        content, status, headers = super().get_wsgi_response(environ)
        return content, status, [*headers, *self.prepared_headers]


def is_development_server():
    """Whether this is ``flask run``; gunicorn's hook prepares the database before its workers start."""
    command = click.get_current_context(silent=True)
    return command is not None and command.info_name == "run"


def start_request(settings, bodies):
    given = request.headers.get("X-Openstack-Request-Id", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else f"req-{uuid.uuid4()}"
    g.settings, g.bodies, g.taken = settings, bodies, 0
    g.context = ANONYMOUS if request.method == "OPTIONS" else identify(request.headers, settings.auth)


def finish_request(response):
    drain_body()
    response.headers["X-Openstack-Request-Id"] = g.request_id
    return response


def answer(content, headers=None, status=200, prepared=()):
    response = JSONResponse(content, status, headers)
    response.prepared_headers = prepared
    return response


def no_content():
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def answer_page(content):
    """A page of images, and the Link to the next: it carries where the last one stood, should that change or go."""
    query = queries.parse_list_query(request.query_string, g.context, g.settings.api)
    images, position = lists.list_page(query, g.context, content)
    return answer(b'{"images":[%b]}' % images, {"Link": next_link(query, position)} if position else None)


def answer_record(row, headers=()):
    """The record that a write returned."""
    columns = {name: row[name] for name in ("owner", "revision", "nonce")}
    documents = {name: row[name].encode() for name in ("document", "location_document")}
    shown = lists.Shown(**documents, **columns)
    return answer(b'{"image":%b}' % record_json(shown), {"ETag": f'"{shown_etag(shown)}"', **dict(headers)})


def sees_all_locations():
    return g.context.is_admin or g.settings.api.expose_locations == "all"


def is_whole(shown):
    """Whether the caller sees the locations, which can carry credentials."""
    return sees_all_locations() or g.context.is_owner_of(shown.owner)


def shown_etag(shown):
    return models.etag(shown.revision, shown.nonce, is_whole(shown))


def record_json(shown):
    return shown.document + (shown.location_document if is_whole(shown) else models.NO_LOCATIONS.encode())


def image_headers(image):
    """[(name, value)] of the fields and properties, such that no content can break the response."""
    headers = [(f"x-image-meta-{name}", header_value(value)) for name, value in image.items() if name not in NO_HEADERS]
    named = {}
    for name, value in image["properties"].items():
        if HEADER_NAME.fullmatch(name):
            named.setdefault(f"x-image-meta-property-{name.lower()}", header_value(value))
    room = MOST_PROPERTY_HEADER_BYTES
    for name, value in list(named.items())[:MOST_PROPERTY_HEADERS]:
        room -= len(f"{name}: {value}\r\n")
        if room < 0:
            break
        headers.append((name, value))
    return headers


def header_value(value):
    """Null is empty, text is UTF-8 (its bytes as Latin-1, as PEP 3333 wants them), control characters are spaces."""
    return "" if value is None else CONTROL_CHARACTERS.sub(" ", str(value)).encode().decode("latin-1")


def next_link(query, position):
    """``position`` is a JSON list, its last the image's id. The query's own parts stay as the client wrote them."""
    parts = request.query_string.split(b"&")
    kept = [
        quote(part, safe=SAFE_IN_QUERY)
        for part in parts
        if part and unquote_plus(part.partition(b"=")[0].decode("latin-1")) not in ("marker", "position")
    ]
    marker = [*kept, f"marker={orjson.loads(position)[-1]}"]
    parameters = "&".join([*marker, f"position={queries.position_text(query.sort_key, position)}"])
    if len(parameters) > LONGEST_QUERY:
        parameters = "&".join(marker)
    return f'<{request.script_root}{request.path}?{parameters}>; rel="next"'


def matching_tags():
    """The ETags of If-Match, or None where it is not sent."""
    return request.if_match if "If-Match" in request.headers else None


def require_readable_path():
    """Werkzeug puts U+FFFD for bytes that are not UTF-8, and that could name another member. Raises Invalid."""
    try:
        request.environ["PATH_INFO"].encode("latin-1").decode()
    except UnicodeDecodeError:
        raise Invalid({"member_id": ["Must be UTF-8."]}) from None


def has_body():
    return bool(request.content_length) or "Transfer-Encoding" in request.headers


def read_json(is_required=True):
    """The request's JSON object, or None where there is no body and none needed.

    Raises UnsupportedMediaType, TooLarge, Invalid.
    """
    if not (is_required or has_body()):
        return None
    require_json_type()
    limit = g.settings.api.max_body_bytes
    content = b"".join(read_chunks(limit + 1))
    if len(content) > limit:
        raise TooLarge(f"The body is larger than the {limit} bytes that [api] max_body_bytes allows.")
    return parse_json(content) if content or is_required else None


def read_chunks(most):
    """The body, up to ``most`` bytes of it, those read before included. Raises Invalid where it breaks off."""
    try:
        while g.taken < most and (chunk := request.stream.read(min(most - g.taken, CHUNK_BYTES))):
            g.taken += len(chunk)
            yield chunk
    except Exception:  # whatever the server's reader has for malformed chunks and for clients that go
        raise invalid_body("Must arrive whole; this one breaks off, or its chunks are malformed.") from None


def drain_body():
    """Throw away what was not read of the body, so that its sender comes to read the answer."""
    if has_body():
        with suppress(Invalid):
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


def invalid_body(message):
    return Invalid({"body": [message]})


def answer_registry_error(error):
    if error.status >= 500:
        logger.error("%s %s %r: %s", g.request_id, request.method, request.path, error.__cause__)
    extras = {"errors": error.errors} if isinstance(error, Invalid) else {}
    return problem(error.status, error.detail, error.headers, **extras)


def answer_http_error(error):
    """What Flask itself refuses: unknown paths, other methods, broken bodies."""
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(method for method in METHODS if method in error.valid_methods)
        return problem(405, f"This path takes {allowed}.", {"Allow": allowed})
    return problem(error.code, "Nothing is at this path." if error.code == 404 else error.description)


def answer_unexpected_error(error):
    logger.exception("%s %s %r", g.request_id, request.method, request.path, exc_info=error)
    return problem(500, "A mistake of the registry's own; its log says more under the request id.")


def problem(status, detail, headers=None, **extras):
    """RFC 9457."""
    about = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    response = answer(orjson.dumps({**about, **extras, "request_id": g.request_id}), headers, status)
    response.mimetype = "application/problem+json"
    return response
