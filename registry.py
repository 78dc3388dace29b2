"""Glance Registry API v1 over HTTP, and the application factory ``create_app``."""

import re
from collections.abc import Callable
from itertools import accumulate

import click
import orjson
from flask import Blueprint, Flask, request
from flask.cli import AppGroup
from werkzeug.exceptions import HTTPException

import auth
import migrations
import monitoring
import ui
from cli import CommandGroup
from config import Settings, read_settings
from errors import RegistryError, StartupError
from listing import links, pages, parameters
from members import Member, parse_member, parse_memberships
from models import Image
from security import PURGE_HEADER
from server import startup_checks
from storage import engine
from storage.fields import DOCUMENT_FIELDS
from ui import api_docs
from web import (
    Application,
    answer_http_error,
    answer_registry_error,
    answer_unexpected_error,
    matching_etags,
    no_content,
    read_json,
    require_readable_path,
    respond,
    respond_json,
)

FIELD_HEADERS = [(name, f"x-image-meta-{name}") for name in (*DOCUMENT_FIELDS, "location")]
# Python's http.client reads at most 100 header lines; about 32 are not properties.
MOST_PROPERTY_HEADERS = 64
MOST_PROPERTY_HEADER_BYTES = 16 * 1024
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# Flask's own commands, which need the whole application.
FLASK_COMMANDS = ("run", "routes", "shell")

v1 = Blueprint("v1", __name__)


@v1.get("/")
def list_images_at_root():
    """List images, or redirect a browser to the pages."""
    return ui.redirect_browser() or respond_page("brief", [("Vary", "Accept")])


@v1.get("/images")
def list_images():
    """List six fields of each image."""
    return respond_page("brief")


@v1.get("/images/detail")
def list_images_in_detail():
    """List the full record of each image."""
    return respond_page(pages.content_for(request.context, request.settings.api))


@v1.get("/images/<image_id:image_id>")
def show_image(image_id):
    """Return the record of an image, also as x-image-meta headers."""
    context = request.context
    etag, record = pages.rendered(pages.show(image_id, context), context, request.settings.api)
    header = ("ETag", f'"{etag}"')
    if "HTTP_IF_NONE_MATCH" in request.environ and request.if_none_match.contains_weak(etag):
        return no_content(304, [header])
    return respond(b'{"image":%b}' % record, [header], last_headers=image_headers(orjson.loads(record)))


@v1.post("/images")
def create_image():
    """Register an image."""
    request.context.require_may_create()
    values = request.bodies.parse_create(read_json(), request.context)
    row = Image.register(values, request.context)
    return respond_record(row, [("Location", f"/images/{row['id']}")])


@v1.put("/images/<image_id:image_id>")
def update_image(image_id):
    """Change the named fields of an image and keep the rest."""
    Image.require_changeable(image_id, request.context)
    changes, from_state = request.bodies.parse_update(read_json(), request.context)
    purges = request.headers.get(PURGE_HEADER, "").strip().lower() in ("true", "1", "yes")
    options = {"purges_properties": purges, "from_state": from_state, "etags": matching_etags()}
    return respond_record(Image.change(image_id, changes, request.context, **options))


@v1.delete("/images/<image_id:image_id>")
def delete_image(image_id):
    """Mark an image deleted."""
    return respond_record(Image.remove(image_id, request.context, matching_etags()))


@v1.get("/images/<image_id:image_id>/members")
def list_members(image_id):
    """List the members of an image that the caller may see."""
    members = Member.list_of(image_id, request.context)
    entries = [{"member_id": member, "can_share": can_share} for member, can_share in members]
    return respond_json({"members": entries})


@v1.put("/images/<image_id:image_id>/members")
def replace_members(image_id):
    """Replace the member list of an image."""
    Member.require_shareable(image_id, request.context)
    memberships = parse_memberships(read_json())
    Member.replace_all(image_id, memberships, request.context)
    return no_content()


@v1.put("/images/<image_id:image_id>/members/<member_id:member_id>", provide_automatic_options=False)
def put_member(image_id, member_id):
    """Add a member, or change whether the member can share the image."""
    Member.require_shareable(image_id, request.context)
    require_readable_path()
    body = read_json(is_required=False)
    member_id, can_share = parse_member(member_id, body)
    Member.put(image_id, member_id, can_share, request.context)
    return no_content()


@v1.delete("/images/<image_id:image_id>/members/<member_id:member_id>", provide_automatic_options=False)
def remove_member(image_id, member_id):
    """Remove a member from an image."""
    Member.require_shareable(image_id, request.context)
    require_readable_path()
    Member.remove(image_id, member_id, request.context)
    return no_content()


@v1.get("/shared-images/<member_id:member_id>")
def list_shared_images(member_id):
    """List the images shared with a member that the caller may see."""
    require_readable_path()
    entries = Member.shared_with(member_id, request.context)
    shared_images = [{"image_id": image_id, "can_share": can_share} for image_id, can_share in entries]
    return respond_json({"shared_images": shared_images})


@v1.post("/images/<image_id:image_id>/undelete")
def undelete_image(image_id):
    """Undelete an image."""
    Image.require_changeable(image_id, request.context)
    request.context.require_admin()
    read_json(is_required=False)
    return respond_record(Image.restore(image_id, request.context, matching_etags()))


@v1.get("/images/<image_id:image_id>/history")
def show_history(image_id):
    """List the changes of an image."""
    return respond_json({"history": Image.history_of(image_id, request.context)})


class InvalidSettings:
    """Settings with an error, for commands: reading a section raises it, so that ``--help`` still works."""

    def __init__(self, error):
        self.error = error

    def __getattr__(self, section):
        raise StartupError(str(self.error).removeprefix("registry: "))


class Commands(CommandGroup, AppGroup):
    """Commands of ``flask --app registry``."""


def create_app(settings: Settings | None = None, read: Callable[[], Settings] = read_settings) -> Application:
    """Return the WSGI application for ``settings``, or those that ``read`` returns.

    Opens no file. For command-line use, invalid settings give an application that has only commands.

    Raises: StartupError for invalid settings.
    """
    try:
        settings = settings or read()
    except StartupError as error:
        if not is_for_command():
            raise
        return create_command_app(InvalidSettings(error))
    return create_full_app(settings)


def create_full_app(settings):
    """Return the application with all routes."""
    engine.open_database(settings.database)
    host = development_host()
    if host is not None:
        startup_checks.require_closed_host(settings.auth, host)
        startup_checks.require_duplicates_reported(settings.auth, "flask run")
        migrations.prepare(settings.database)
    app = Application("registry", settings, auth.find_token)
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


def is_for_command():
    """Return whether a command of the registry is looked up or run.

    False for those of Flask, which need the routes.
    """
    command = click.get_current_context(silent=True)
    return command is not None and command.info_name not in FLASK_COMMANDS


def create_command_app(settings):
    """Return an application without routes, for commands."""
    app = Flask("registry", static_folder=None)
    app.settings = settings
    app.cli = Commands(app.name)
    return app


def development_host():
    """Return the host of ``flask run``, or None elsewhere.

    Under gunicorn, ``gunicorn.conf.py`` checks host and database before the workers start.
    """
    command = click.get_current_context(silent=True)
    return command.params["host"] if command is not None and command.info_name == "run" else None


def respond_page(content, headers=()):
    """Return a page of images with a Link to the next page and a requested count.

    The link carries the position of the last image, which may change or go before the next request.
    """
    context = request.context
    query = parameters.parse_list_query(request.query_string, context.is_admin, request.settings.api)
    images, position = pages.list_page(query, context, content)
    link = []
    if position:
        text = parameters.position_text(query.sort_key, position)
        path = f"{request.script_root}{request.path}"
        link = [("Link", links.next_link(path, request.query_string, position[-1], text))]
    count = [count_header(pages.count_images(query, context))] if query.is_counted else []
    response = respond(b'{"images":[%b]}' % images, [*link, *count])
    response.headers.extend(headers)
    return response


def count_header(count):
    """Return the header of an exact count, or of a lower bound beyond MOST_COUNTED."""
    if count > pages.MOST_COUNTED:
        return "X-Total-Count-At-Least", str(pages.MOST_COUNTED)
    return "X-Total-Count", str(count)


def respond_record(row, headers=()):
    """Return the record that a write returned, with its ETag."""
    columns = {name: row[name] for name in ("owner", "revision", "nonce")}
    documents = {name: row[name].encode() for name in ("document", "location_document")}
    etag, record = pages.rendered(pages.Shown(**documents, **columns), request.context, request.settings.api)
    return respond(b'{"image":%b}' % record, [("ETag", f'"{etag}"'), *headers])


def image_headers(image):
    """Return the x-image-meta headers of a record as [(name, value)].

    Properties beyond the limits of common clients, or with names that no header can have, are omitted.
    """
    named = {}
    for name, value in image["properties"].items():
        if HEADER_NAME.fullmatch(name):
            named.setdefault(f"x-image-meta-property-{name.lower()}", value)
    properties = header_values(list(named.items())[:MOST_PROPERTY_HEADERS])
    sizes = accumulate(len(name) + len(value) + len(": \r\n") for name, value in properties)
    fitting = [header for header, size in zip(properties, sizes, strict=True) if size <= MOST_PROPERTY_HEADER_BYTES]
    return header_values([(name, image[field]) for field, name in FIELD_HEADERS]) + fitting


def header_values(headers):
    """Return headers with text values: UTF-8 as Latin-1 (PEP 3333), null as ""."""
    headers = [(name, "" if value is None else str(value)) for name, value in headers]
    text = "".join([value for _, value in headers])
    if text.isascii() and text.isprintable():
        return headers
    return [(name, CONTROL_CHARACTERS.sub(" ", value).encode().decode("latin-1")) for name, value in headers]
