"""The Glance Registry API over HTTP: the v1 routes, the error handlers, ``create_app``."""

import json
import logging
import re
import uuid
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import urlencode

import click
import orjson
from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BaseConverter

import migrations
import models
import schemas
from config import Settings, read_settings
from context import ANONYMOUS, identify
from errors import Invalid, RegistryError, TooLarge, UnsupportedMediaType
from models import Image, Member

BRIEF_FIELDS = ("id", "name", "size", "disk_format", "container_format", "checksum")
SCALAR_FIELDS = (
    *("id", "name", "status", "disk_format", "container_format", "size", "virtual_size", "checksum"),
    *("min_disk", "min_ram", "owner", "is_public", "protected", "location"),
    *("created_at", "updated_at", "deleted", "deleted_at"),
)
# Python's http.client reads 100 header lines, the blank one included; about 25 are ours.
MOST_PROPERTY_HEADERS = 64
MOST_PROPERTY_HEADER_BYTES = 16 * 1024
# So much of a refused body is thrown away, so that its sender reads the answer; after more the connection closes.
DRAINED_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
# gunicorn takes request lines of 8,190 bytes; a next link that would be longer goes without the position.
LONGEST_QUERY = 8000
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
    query = schemas.parse_list_query(request.query_string, g.context, g.settings.api)
    rows, is_more = Image.list_page(query, g.context, is_detailed=False)
    images = [{name: row[name] for name in BRIEF_FIELDS} for row in rows]
    return answer({"images": images}, next_link(query, rows, is_more))


@v1.get("/images/detail")
def list_images_in_detail():
    """The full record of each image on a page."""
    query = schemas.parse_list_query(request.query_string, g.context, g.settings.api)
    records, is_more = Image.list_page(query, g.context, is_detailed=True)
    return answer({"images": [full_record(record) for record in records]}, next_link(query, records, is_more))


@v1.get("/images/<image_id:image_id>")
def show_image(image_id):
    """One record, also in HTTP headers."""
    record = Image.show(image_id, g.context)
    tag = record_etag(record)
    if request.if_none_match.contains_weak(tag):
        return Response(status=304, headers={"ETag": f'"{tag}"'})
    image = full_record(record)
    response = answer({"image": image}, {"ETag": f'"{tag}"'})
    response.headers.extend(image_headers(image))
    return response


@v1.post("/images")
def create_image():
    """Register an image."""
    g.context.require_may_create()
    values = g.bodies.parse_create(read_json(), g.context)
    record = Image.register(values, g.context)
    return answer_record(record, {"Location": f"/images/{record['id']}"})


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
    return answer({"members": [{"member_id": member, "can_share": can_share} for member, can_share in members]})


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
    require_readable_path()
    Member.remove(image_id, member_id, g.context)
    return no_content()


@v1.get("/shared-images/<member_id:member_id>")
def list_shared_images(member_id):
    """What is shared with a member, as far as the caller may know."""
    require_readable_path()
    entries = Member.shared_with(member_id, g.context)
    shared_images = [{"image_id": image_id, "can_share": can_share} for image_id, can_share in entries]
    return answer({"shared_images": shared_images})


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
    default_mimetype = "application/json"


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


def answer(payload, headers=None, status=200):
    return JSONResponse(orjson.dumps(payload), status, headers)


def no_content():
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def answer_record(record, headers=()):
    return answer({"image": full_record(record)}, {"ETag": f'"{record_etag(record)}"', **dict(headers)})


def is_whole(record):
    """Whether the caller sees the locations, which can carry credentials."""
    return g.settings.api.expose_locations == "all" or g.context.is_owner_of(record)


def record_etag(record):
    return models.etag(record, is_whole(record))


def full_record(record):
    """The one place that renders a record: what the API answers, in its order."""
    locations = record["locations"] if is_whole(record) else []
    image = {
        **{name: record.get(name) for name in SCALAR_FIELDS},
        "is_public": record["visibility"] == models.PUBLIC,
        "location": next((url for url, _, status in locations if status == "active"), None),
    }
    image["location_data"] = [
        {"url": url, "metadata": orjson.Fragment(metadata), "status": status} for url, metadata, status in locations
    ]
    image["properties"] = record["properties"]
    return image


def image_headers(image):
    """[(name, value)] of the fields and properties, such that no content can break the response."""
    headers = [(f"x-image-meta-{name}", header_value(image[name])) for name in SCALAR_FIELDS]
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


def next_link(query, rows, is_more):
    """The Link header to the page after ``rows``; it carries where the last one stood, should it change or go."""
    if not (is_more and rows):
        return {}
    last = rows[-1]
    kept = [pair for pair in schemas.parse_parameters(request.query_string) if pair[0] not in ("marker", "position")]
    position = schemas.position_text(query.sort_key, [last[name] for name in query.sort_columns])
    marker = [*kept, ("marker", last["id"])]
    parameters = urlencode([*marker, ("position", position)], errors="surrogateescape")
    if len(parameters) > LONGEST_QUERY:
        parameters = urlencode(marker, errors="surrogateescape")
    return {"Link": f'<{request.script_root}{request.path}?{parameters}>; rel="next"'}


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
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    is_json = request.mimetype == "application/json" and charset in ("utf-8", "utf8")
    is_untyped_put = request.method == "PUT" and not request.headers.get("Content-Type")
    is_encoded = request.headers.get("Content-Encoding", "identity").lower() != "identity"
    if is_encoded or not (is_json or is_untyped_put):
        raise UnsupportedMediaType("The body must be JSON in UTF-8; send the header Content-Type: application/json.")


def parse_json(content):
    """The JSON object in the bytes ``content``. Raises Invalid."""
    try:
        parsed = json.loads(content.decode(), parse_float=schemas.JSONFloat, parse_constant=schemas.JSONFloat)
    except json.JSONDecodeError as error:
        raise invalid_body(f"Must be JSON: {error.msg}, line {error.lineno} column {error.colno}.") from None
    except UnicodeDecodeError as error:
        raise invalid_body(f"Must be UTF-8: the byte at {error.start} is not.") from None
    except (ValueError, RecursionError):
        raise invalid_body("Must be JSON without NaN, endless numbers, or nesting hundreds deep.") from None
    if not isinstance(parsed, dict):
        raise invalid_body("Must be a JSON object.")
    return parsed


def invalid_body(message):
    return Invalid({"body": [message]})


def answer_registry_error(error):
    if error.status >= 500:
        logger.error("%s %s %s: %s", g.request_id, request.method, request.path, error.__cause__)
    extras = {"errors": error.errors} if isinstance(error, Invalid) else {}
    return problem(error.status, error.detail, error.headers, **extras)


def answer_http_error(error):
    """What Flask itself refuses: unknown paths, other methods, broken bodies."""
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(method for method in METHODS if method in error.valid_methods)
        return problem(405, f"This path takes {allowed}.", {"Allow": allowed})
    return problem(error.code, "Nothing is at this path." if error.code == 404 else error.description)


def answer_unexpected_error(error):
    logger.exception("%s %s %s", g.request_id, request.method, request.path, exc_info=error)
    return problem(500, "A mistake of the registry's own; its log says more under the request id.")


def problem(status, detail, headers=None, **extras):
    """RFC 9457."""
    about = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    response = answer({**about, **extras, "request_id": g.request_id}, headers, status)
    response.mimetype = "application/problem+json"
    return response
