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
from security import RequestGuard, is_loopback
from storage.engine import database

CONNECT_SECONDS, ANSWER_SECONDS = 10, 60
# Commands that add images create the database if it is missing.
CREATING_COMMANDS = ("create", "scan", "simplestreams")


def with_client(command):
    """Add the options --url and --token, and pass a Client to the command."""

    @functools.wraps(command)
    def run(*arguments, url, token, **options):
        context = click.get_current_context()
        require_text(context)
        may_create = context.command.name in CREATING_COMMANDS and not options.get("dry_run")
        with open_client(url, token, may_create=may_create) as client:
            return command(*arguments, client=client, **options)

    url = click.option("--url", envvar="REGISTRY_URL", metavar="URL", help="Server to use; default: REGISTRY_URL.")
    token = click.option(
        "--token", envvar="REGISTRY_TOKEN", metavar="TOKEN", help="Token for the server; default: REGISTRY_TOKEN."
    )
    return url(token(with_application(run)))


def require_text(context):
    """Raise UsageError for an argument that is not UTF-8: JSON has no surrogates."""
    for param in context.command.params:
        given = context.params.get(param.name)
        if not isinstance(param.type, click.Path) and any(map(schemas.UNCLEAN.search, texts_in(given))):
            raise click.BadParameter("The value must be UTF-8 text.", context, param)


def texts_in(value):
    """Return the texts in a parameter's value, those in nested tuples included."""
    if isinstance(value, tuple):
        return [text for part in value for text in texts_in(part)]
    return [value] if isinstance(value, str) else []


@contextmanager
def open_client(url=None, token=None, *, may_create=False, is_prepared=False):
    """Open a Client for the server at ``url``, or for the local database as admin.

    A local database is prepared at the first request, so that usage errors are reported first; with ``is_prepared``
    it is neither created nor migrated.

    Raises: ClickException.
    """
    import httpx2  # slow to import; only commands that use a client need it

    if url is None:
        if token and not os.environ.get("REGISTRY_TOKEN") == token:
            raise click.UsageError("--token has no effect on the local database; add --url URL.")
        with (
            local_transport(httpx2) as transport,
            httpx2.Client(transport=transport, base_url="http://localhost") as http,
        ):
            settings = current_app.settings.database
            act = None if is_prepared else lambda: prepare(settings, may_create=may_create, is_brief=True)
            yield Client(http, "the local database", is_local=True, prepare=act)
        return
    with open_server_client(httpx2, url, token) as client:
        yield client


@contextmanager
def open_server_client(httpx2, url, token):
    """Open a Client for a server, or raise UsageError for an invalid URL or token."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.UsageError(f"--url must be an HTTP URL such as http://127.0.0.1:9191; got {url!r}.")
    headers = {"Authorization": f"Bearer {require_header(token)}"} if token else {}
    options = {"headers": headers, "timeout": httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)}
    if parts.hostname == "localhost" or is_loopback(parts.hostname):  # a proxy cannot reach this machine's loopback
        options["mounts"] = {"http://": None, "https://": None}
    with httpx2.Client(base_url=url, **options) as http:
        yield Client(http, without_userinfo(url))


def require_header(token):
    """Return the token, or raise UsageError if no HTTP header can carry it."""
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise click.UsageError("--token must be printable ASCII without spaces; copy the token again.")
    return token


@contextmanager
def local_transport(httpx2):
    """Open a WSGI transport to the application.

    Every request has admin rights, whatever the auth flavor.
    """
    application = copy.copy(current_app._get_current_object())
    auth = application.settings.auth._replace(flavor="none")
    application.settings = application.settings._replace(auth=auth)
    application.request_guard = RequestGuard(application.settings)
    # The command reports error answers; the log is only for unexpected exceptions.
    logging.getLogger("registry").addFilter(lambda record: record.exc_info is not None)
    try:
        yield httpx2.WSGITransport(app=with_bytes_in_path(application))
    finally:
        database.close()


def with_bytes_in_path(application):
    """Wrap an application so that paths are Latin-1 (PEP 3333); httpx2 passes Unicode."""

    def answer(environ, start_response):
        return application({**environ, "PATH_INFO": environ["PATH_INFO"].encode().decode("latin-1")}, start_response)

    return answer


def without_userinfo(url):
    """Return the URL without user name and password."""
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"
