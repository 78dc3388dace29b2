"""Connections of commands: to the local database in process, or to a server (``--url``)."""

import copy
import functools
import logging
import os
from contextlib import contextmanager
from urllib.parse import urlsplit

import click
from flask import current_app

import schemas
from cli.api_client import Client
from cli.runtime import prepare, with_application
from security import Guard, is_loopback
from storage.engine import database

CONNECT_SECONDS, ANSWER_SECONDS = 10, 60
# Commands that add images create the database if it is missing.
CREATING_COMMANDS = ("create", "scan", "simplestreams")


def with_client(command):
    """The options --url and --token, and the argument ``client``."""

    @functools.wraps(command)
    def run(*arguments, url, token, **options):
        context = click.get_current_context()
        require_text(context)
        may_create = context.command.name in CREATING_COMMANDS and not options.get("dry_run")
        with open_client(url, token, may_create=may_create) as client:
            return command(*arguments, client=client, **options)

    url = click.option("--url", envvar="REGISTRY_URL", metavar="URL", help="A server; REGISTRY_URL.")
    token = click.option("--token", envvar="REGISTRY_TOKEN", metavar="TOKEN", help="For that; REGISTRY_TOKEN.")
    return url(token(with_application(run)))


def require_text(context):
    """Raises UsageError that names what is no UTF-8: such bytes come as halves of characters, and JSON has none."""
    for param in context.command.params:
        given = context.params.get(param.name)
        if not isinstance(param.type, click.Path) and any(map(schemas.UNCLEAN.search, texts_in(given))):
            raise click.BadParameter("Must be UTF-8.", context, param)


def texts_in(value):
    if isinstance(value, tuple):
        return [text for part in value for text in texts_in(part)]
    return [value] if isinstance(value, str) else []


@contextmanager
def open_client(url=None, token=None, *, may_create=False, is_prepared=False):
    """A Client of the server at ``url``, or of the local database, with an admin's rights. Raises ClickException.

    A local database is prepared at the first request, such that wrong usage is told first; one that ``is_prepared`` is
    taken as it is, neither made nor migrated.
    """
    import httpx2  # only commands pay for it

    if url is None:
        if token and not os.environ.get("REGISTRY_TOKEN") == token:
            raise click.UsageError("--token is for a server: it needs --url.")
        with (
            local_transport(httpx2) as transport,
            httpx2.Client(transport=transport, base_url="http://localhost") as http,
        ):
            settings = current_app.settings.database
            act = None if is_prepared else lambda: prepare(settings, may_create=may_create, is_brief=True)
            yield Client(http, "the local database", is_local=True, prepare=act)
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.UsageError("--url must be like http://127.0.0.1:9191.")
    headers = {"Authorization": f"Bearer {require_header(token)}"} if token else {}
    options = {"headers": headers, "timeout": httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)}
    if parts.hostname == "localhost" or is_loopback(parts.hostname):  # the environment's proxy is none for this machine
        options["mounts"] = {"http://": None, "https://": None}
    with httpx2.Client(base_url=url, **options) as http:
        yield Client(http, without_userinfo(url))


def require_header(token):
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise click.UsageError("--token is no token: it has characters that none has.")
    return token


@contextmanager
def local_transport(httpx2):
    """The application itself, without a socket: every request is an admin's, whatever flavor a server has."""
    application = copy.copy(current_app._get_current_object())
    auth = application.settings.auth._replace(flavor="none")
    application.settings = application.settings._replace(auth=auth)
    application.guard = Guard(application.settings)
    # What the answer says is told by the command; only mistakes of our own need the log.
    logging.getLogger("registry").addFilter(lambda record: record.exc_info is not None)
    try:
        yield httpx2.WSGITransport(app=with_bytes_in_path(application))
    finally:
        database.close()


def with_bytes_in_path(application):
    """WSGI has a path's bytes as Latin-1 (PEP 3333); httpx2 hands its text over."""

    def answer(environ, start_response):
        return application({**environ, "PATH_INFO": environ["PATH_INFO"].encode().decode("latin-1")}, start_response)

    return answer


def without_userinfo(url):
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"
