"""The Glance Registry API over HTTP: the v1 routes, the error handlers, ``create_app``."""

import re
from collections.abc import Callable
from functools import cached_property, lru_cache
from urllib.parse import quote, unquote_plus

import click
import orjson
from flask import Blueprint, Flask, request
from flask.cli import AppGroup
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

import auth
import migrations
import monitoring
import schemas
import ui
from config import Settings, read_settings
from errors import Invalid, RegistryError, StartupError
from listing import pages, parameters
from members import Member
from models import Image
from security import PURGE_HEADER
from server import startup_checks
from storage import engine
from storage.fields import DOCUMENT_FIELDS
from ui import api_docs
from web import (
    Answer,
    Application,
    answer,
    answer_http_error,
    answer_registry_error,
    answer_unexpected_error,
    no_content,
    read_json,
)

FIELD_HEADERS = [(name, f"x-image-meta-{name}") for name in (*DOCUMENT_FIELDS, "location")]
# Python's http.client reads 100 header lines, the blank one included; about 32 are ours.
MOST_PROPERTY_HEADERS = 64
MOST_PROPERTY_HEADER_BYTES = 16 * 1024
# gunicorn takes request lines of 8,190 bytes; a next link that would be longer goes without the position.
LONGEST_QUERY = 8000
SAFE_IN_QUERY = "%=!$'()*+,;:@/?-._~"  # RFC 3986; what else is there is escaped
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

v1 = Blueprint("v1", __name__)


@v1.get("/")
def list_images_at_root():
    """The same; a browser is shown to the pages."""
    response = ui.redirect_browser()
    if response is None:
        response = answer_page("brief")
        response.headers.append(("Vary", "Accept"))
    return response


@v1.get("/images")
def list_images():
    """Six fields of each image on a page."""
    return answer_page("brief")


@v1.get("/images/detail")
def list_images_in_detail():
    """The full record of each image on a page."""
    asked = request._get_current_object()
    return answer_page(pages.content_for(asked.context, asked.settings.api))


@v1.get("/images/<image_id:image_id>")
def show_image(image_id):
    """One record, also in HTTP headers."""
    asked = request._get_current_object()
    shown = pages.show(image_id, asked.context)
    tag, record = pages.rendered(shown, asked.context, asked.settings.api)
    etag = ("ETag", f'"{tag}"')
    # To look first saves 3 µs of Werkzeug's parsing of nothing.
    if "HTTP_IF_NONE_MATCH" in asked.environ and asked.if_none_match.contains_weak(tag):
        return Answer(b"", 304, [etag])
    return answer(b'{"image":%b}' % record, [etag], prepared=image_headers(orjson.loads(record)))


@v1.post("/images")
def create_image():
    """Register an image."""
    request.context.require_may_create()
    values = request.bodies.parse_create(read_json(), request.context)
    row = Image.register(values, request.context)
    return answer_record(row, [("Location", f"/images/{row['id']}")])


@v1.put("/images/<image_id:image_id>")
def update_image(image_id):
    """Change what is named, leave the rest as it was."""
    Image.require_changeable(image_id, request.context)
    changes, from_state = request.bodies.parse_update(read_json(), request.context)
    purges = request.headers.get(PURGE_HEADER, "").strip().lower() in ("true", "1", "yes")
    options = {"purges_properties": purges, "from_state": from_state, "tags": matching_tags()}
    return answer_record(Image.change(image_id, changes, request.context, **options))


@v1.delete("/images/<image_id:image_id>")
def delete_image(image_id):
    """Mark it deleted."""
    return answer_record(Image.remove(image_id, request.context, matching_tags()))


@v1.get("/images/<image_id:image_id>/members")
def list_members(image_id):
    """Whom it is shared with, as far as the caller may know."""
    members = Member.list_of(image_id, request.context)
    entries = [{"member_id": member, "can_share": can_share} for member, can_share in members]
    return answer(orjson.dumps({"members": entries}))


@v1.put("/images/<image_id:image_id>/members")
def replace_members(image_id):
    """Make the named ones all there are."""
    Member.require_shareable(image_id, request.context)
    memberships = schemas.parse_memberships(read_json())
    Member.replace_all(image_id, memberships, request.context)
    return no_content()


@v1.put("/images/<image_id:image_id>/members/<member_id:member_id>", provide_automatic_options=False)
def put_member(image_id, member_id):
    """Share it with one more, or change whether that one may share it on."""
    Member.require_shareable(image_id, request.context)
    require_readable_path()
    body = read_json(is_required=False)
    member_id, can_share = schemas.parse_member(member_id, body)
    Member.put(image_id, member_id, can_share, request.context)
    return no_content()


@v1.delete("/images/<image_id:image_id>/members/<member_id:member_id>", provide_automatic_options=False)
def remove_member(image_id, member_id):
    """Share it with one less."""
    Member.require_shareable(image_id, request.context)
    require_readable_path()
    Member.remove(image_id, member_id, request.context)
    return no_content()


@v1.get("/shared-images/<member_id:member_id>")
def list_shared_images(member_id):
    """What is shared with a member, as far as the caller may know."""
    require_readable_path()
    entries = Member.shared_with(member_id, request.context)
    shared_images = [{"image_id": image_id, "can_share": can_share} for image_id, can_share in entries]
    return answer(orjson.dumps({"shared_images": shared_images}))


@v1.post("/images/<image_id:image_id>/undelete")
def undelete_image(image_id):
    """Take back that it was deleted."""
    Image.require_changeable(image_id, request.context)
    request.context.require_admin()
    read_json(is_required=False)
    return answer_record(Image.restore(image_id, request.context, matching_tags()))


@v1.get("/images/<image_id:image_id>/history")
def show_history(image_id):
    """What was changed of it, when and by whom."""
    return answer(orjson.dumps({"history": Image.history_of(image_id, request.context)}))


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


class Unreadable:
    """Settings that are wrong: a command that needs none works, and any other says why as soon as it asks for one."""

    def __init__(self, error):
        self.error = error

    def __getattr__(self, section):
        raise StartupError(str(self.error).removeprefix("registry: "))


class Commands(AppGroup):
    """What ``flask --app registry`` offers, imported when somebody asks: a worker does without (45 ms, 2 MB)."""

    def __init__(self, name):
        super().__init__(name)
        del self.commands

    @cached_property
    def commands(self):
        from cli import COMMANDS

        return {command.name: command for command in COMMANDS}


def create_app(settings: Settings | None = None, read: Callable[[], Settings] = read_settings) -> Application:
    """The application, by ``settings`` or by what ``read`` finds; opens no file.

    Raises StartupError, but for commands: then it has nothing else.
    """
    try:
        settings = settings or read()
    except StartupError as error:
        if not is_for_commands():
            raise
        return command_app(Unreadable(error))
    return whole_app(settings)


def whole_app(settings):
    engine.open_database(settings.database)
    host = development_host()
    if host is not None:
        startup_checks.require_closed_host(settings.auth, host)
        startup_checks.require_repeats_told(settings.auth, "flask run")
        migrations.prepare(settings.database)
    app = Application("registry", settings, auth.find_bearer)
    app.url_map.converters |= {"image_id": ImageIdConverter, "member_id": MemberIdConverter}
    app.register_error_handler(RegistryError, answer_registry_error)
    app.register_error_handler(HTTPException, answer_http_error)
    app.register_error_handler(Exception, answer_unexpected_error)
    app.register_blueprint(v1)
    api_docs.register(app)
    monitoring.register(app)
    ui.register(app)
    if host is not None:
        app.begin_serving()
    app.cli = Commands(app.name)
    return app


def is_for_commands():
    """Whether a command is looked for, and not yet run."""
    command = click.get_current_context(silent=True)
    return command is not None and command.parent is None


def command_app(settings):
    app = Flask("registry", static_folder=None)
    app.settings = settings
    app.cli = Commands(app.name)
    return app


def development_host():
    """What ``flask run`` listens on, or None: gunicorn's hook sees to host and database before its workers start."""
    command = click.get_current_context(silent=True)
    return command.params["host"] if command is not None and command.info_name == "run" else None


def answer_page(content):
    """A page of images, and the Link to the next: it carries where the last one stood, should that change or go."""
    asked = request._get_current_object()
    query = parameters.parse_list_query(asked.query_string, asked.context.is_admin, asked.settings.api)
    images, position = pages.list_page(query, asked.context, content)
    headers = [("Link", next_link(asked, query, position))] if position else []
    if query.is_counted:
        headers.append(count_header(pages.count_images(query, asked.context)))
    return answer(b'{"images":[%b]}' % images, headers)


def count_header(count):
    """A number that clients can rely on, or another header where counting ended early."""
    if count > pages.MOST_COUNTED:
        return "X-Total-Count-At-Least", str(pages.MOST_COUNTED)
    return "X-Total-Count", str(count)


def answer_record(row, headers=()):
    """The record that a write returned."""
    columns = {name: row[name] for name in ("owner", "revision", "nonce")}
    documents = {name: row[name].encode() for name in ("document", "location_document")}
    tag, record = pages.rendered(pages.Shown(**documents, **columns), request.context, request.settings.api)
    return answer(b'{"image":%b}' % record, [("ETag", f'"{tag}"'), *headers])


def image_headers(image):
    """[(name, value)] of the fields and properties, such that no content can break the response."""
    named = {}
    for name, value in image["properties"].items():
        if header := property_header(name):
            named.setdefault(header, value)
    properties = header_values(list(named.items())[:MOST_PROPERTY_HEADERS])
    room = MOST_PROPERTY_HEADER_BYTES
    for place, (name, value) in enumerate(properties):
        room -= len(name) + len(value) + len(": \r\n")
        if room < 0:
            properties = properties[:place]
            break
    return header_values([(name, image[field]) for field, name in FIELD_HEADERS]) + properties


@lru_cache(maxsize=1024)
def property_header(name):
    """The header of a property, or None where no header can have its name; images share few names."""
    return f"x-image-meta-property-{name.lower()}" if HEADER_NAME.fullmatch(name) else None


def header_values(headers):
    """Null is empty, text is UTF-8 (its bytes as Latin-1, as PEP 3333 wants them), control characters are spaces.

    Nearly all are plain: to look at all of them at once costs 5 µs less than to look at each.
    """
    headers = [(name, "" if value is None else str(value)) for name, value in headers]
    text = "".join([value for _, value in headers])
    if text.isascii() and text.isprintable():
        return headers
    return [(name, CONTROL_CHARACTERS.sub(" ", value).encode().decode("latin-1")) for name, value in headers]


def next_link(asked, query, position):
    """``position`` ends in the image's id."""
    marker = f"{kept_parts(asked.query_string)}marker={position[-1]}"
    query_string = f"{marker}&position={parameters.position_text(query.sort_key, position)}"
    if len(query_string) > LONGEST_QUERY:
        query_string = marker
    return f'<{asked.script_root}{asked.path}?{query_string}>; rel="next"'


@lru_cache(maxsize=512)
def kept_parts(query_string):
    """The query as the client wrote it, but for its place in the list."""
    named = [(unquote_plus(part.partition("=")[0]), part) for part in query_string.decode("latin-1").split("&")]
    kept = [part for name, part in named if part and name not in ("marker", "position")]
    return "".join(f"{quote(part, safe=SAFE_IN_QUERY, encoding='latin-1')}&" for part in kept)


def matching_tags():
    """The ETags of If-Match, or None where it is not sent."""
    return request.if_match if "If-Match" in request.headers else None


def require_readable_path():
    """Werkzeug puts U+FFFD for bytes that are not UTF-8, and that could name another member. Raises Invalid."""
    try:
        request.environ["PATH_INFO"].encode("latin-1").decode()
    except UnicodeDecodeError:
        raise Invalid({"member_id": ["Must be UTF-8."]}) from None
