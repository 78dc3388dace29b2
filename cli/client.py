"""``Client``: the same calls on the local database and on a server (``--url``)."""

import copy
import functools
import logging
import os
import re
from contextlib import contextmanager, suppress
from typing import ClassVar
from urllib.parse import quote, urlsplit

import click
import orjson
from click.shell_completion import CompletionItem
from flask import current_app
from flask.cli import ScriptInfo

import schemas
from cli.param_types import cleaned
from cli.response_checks import is_list_of_changes, is_list_of_members, is_list_of_records, is_record
from cli.runtime import (
    EXIT_CODES,
    FAILED,
    NO_ACCESS,
    NOT_FOUND,
    UNREACHABLE,
    USAGE,
    Failure,
    prepare,
    with_application,
)
from security import PURGE_HEADER, RequestGuard, is_loopback
from storage.engine import database

CONNECT_SECONDS, ANSWER_SECONDS = 10, 60
ERROR_NUMBER = re.compile(r"\[Errno -?[0-9]+\] |\[SSL: \w+\] | \(_ssl\.c:[0-9]+\)")
NO_SUCH_PATH = "Nothing is at this path."
LIST = "/images/detail"
LEAST_DIGITS = 4  # of an id's beginning: what is shorter a server looks for among the words only
MOST_CANDIDATES = 10
# Who puts something in makes the database where there is none.
CREATING = ("create", "scan", "simplestreams")
MOST_COMPLETED = 2000
SHELL_WORD = re.compile(r"[\w.+@%,-][\w.+@%,=-]*")
# These quote what they insert; click's script for fish ends a word at a comma.
QUOTING_SHELLS, QUOTED_WORD = ("zsh", "fish"), re.compile(r"[\w.+@%=-][ \w.+@%=()&!'-]*")
# A caller may see images that lists leave out unless they are asked for.
ALIVE, DELETED = ({}, {"status": "killed"}), ({"deleted": True},)


def with_client(command):
    """The options --url and --token, and the argument ``client``."""

    @functools.wraps(command)
    def run(*arguments, url, token, **options):
        context = click.get_current_context()
        require_text(context)
        may_create = context.command.name in CREATING and not options.get("dry_run")
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


def image_argument(**options):
    """The argument IMAGE: what ``Client.find`` takes; shells complete it."""
    return click.argument("image", required=True, shell_complete=completions, **options)


def completions(ctx, param, incomplete):
    """Names that begin so, and ids; whatever does not work completes nothing, and nothing is made or migrated."""
    with suppress(Exception, SystemExit), ctx.ensure_object(ScriptInfo).load_app().app_context():
        url, token = (ctx.params.get(name) or os.environ.get(f"REGISTRY_{name.upper()}") for name in ("url", "token"))
        with open_client(url or None, token or None, is_prepared=True) as client:
            images = client.images(deleted=True if ctx.command.name == "undelete" else None, limit=MOST_COMPLETED)
            return [item for image in images for item in completing(image, incomplete)]
    return []


def completing(image, incomplete):
    """Its name where the shell takes that, else its id, which says the name beside it."""
    name, image_id = image["name"] or "", image["id"]
    is_quoted = os.environ.get("_REGISTRY_COMPLETE", "").startswith(QUOTING_SHELLS)
    if (QUOTED_WORD if is_quoted else SHELL_WORD).fullmatch(name):
        return [CompletionItem(name)] if name.lower().startswith(incomplete.lower()) else []
    is_meant = name.lower().startswith(incomplete.lower()) or image_id.startswith(incomplete)
    return [CompletionItem(image_id, help=cleaned(name) or None)] if is_meant else []


def formats(ctx, param, incomplete):
    """Those that this machine's configuration has."""
    with suppress(Exception, SystemExit):
        known = getattr(ctx.ensure_object(ScriptInfo).load_app().settings.api, f"{param.name}s")
        return [CompletionItem(name) for name in known if name.startswith(incomplete)]
    return []


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
    application.guard = RequestGuard(application.settings)
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


class Nonsense(Failure):
    """A value that the registry refuses; ``errors`` are the API's, by field, where it names them."""

    def __init__(self, message, errors=None):
        super().__init__(message, USAGE)
        self.errors = errors if isinstance(errors, dict) else {}


class Client:
    """The API's calls. Whatever is refused or does not work is a ClickException with its exit code."""

    PARAMETERS: ClassVar = {"changes_since": "changes-since", "search": "q"}

    def __init__(self, http, name, *, is_local=False, prepare=None):
        self.http = http
        self.prepare = prepare  # what is to be done before the first request
        self.name = name
        self.is_local = is_local

    def images(self, *, limit=None, properties=None, **query):
        """Full records over all pages, ``limit`` of them at most; private ones too, unless is_public says otherwise.

        ``query`` has the parameters of GET /images, and search for q; None is left out.
        """
        if query.get("deleted"):
            self.require_admin()
        query |= {"is_public": "none"} if query.get("is_public") is None else {}
        given = {self.PARAMETERS.get(name, name): value for name, value in query.items() if value is not None}
        given |= {f"property-{name}": value for name, value in (properties or {}).items()}
        given |= {} if limit is None else {"limit": limit}
        given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()}
        left = limit
        answer = self.request("GET", LIST, params=given)
        while True:
            found = self.content_of(answer, "images", is_list_of_records)
            yield from found[:left]
            left = None if left is None else left - len(found)
            link = answer.links.get("next", {}).get("url")
            if link is None or (left is not None and left <= 0):
                return
            answer = self.request("GET", self.own_url(answer, link))

    def find(self, text, *, deleted=False):
        """The record of the image with this id, else this name, else the only id that begins so.

        Raises Failure, with the candidates where there are several. ``deleted`` looks among the deleted ones.
        """
        if (image_id := schemas.canonical_uuid(text)) and (image := self.show_or_none(image_id)):
            return image
        shelves = DELETED if deleted else ALIVE
        found = [image for shelf in shelves for image in self.images(name=text, **shelf, limit=MOST_CANDIDATES + 1)]
        prefix = None if found else id_prefix(text)
        if prefix and len(prefix) >= LEAST_DIGITS:
            found = self.having_prefix(prefix, shelves)
        if len(found) == 1:
            return found[0]
        kind = "deleted image" if deleted else "image"
        if not found:
            is_short = prefix and len(prefix) < LEAST_DIGITS
            rest = f"an id's beginning needs {LEAST_DIGITS} digits" if is_short else "no id begins so"
            raise Failure(f"No {kind} is called “{cleaned(text)}”, and {rest}.", NOT_FOUND)
        lines = [f"  {image['id']}  {cleaned(image['name'] or '')}" for image in found[:MOST_CANDIDATES]]
        more = ["  … and more"] if len(found) > MOST_CANDIDATES else []
        raise Failure("\n".join([f"“{cleaned(text)}” may be any of these; give an id:", *lines, *more]), NOT_FOUND)

    def having_prefix(self, prefix, shelves):
        """Those whose id begins so, and not those that a word finds."""
        found = []
        for shelf in shelves:
            for image in self.images(search=prefix, **shelf):
                if image["id"].startswith(prefix):
                    found.append(image)
                if len(found) > MOST_CANDIDATES:
                    return found
        return found

    def show_or_none(self, image_id):
        try:
            return self.show(image_id)
        except Failure as failure:
            if failure.exit_code != NOT_FOUND:
                raise
            return None

    def show(self, image_id):
        return self.image("GET", image_id)

    def show_with_tag(self, image_id):
        """(record, ETag)"""
        answer = self.request("GET", f"/images/{quote(image_id)}")
        return self.content_of(answer, "image", is_record), answer.headers.get("ETag")

    def create(self, values):
        return self.content_of(self.request("POST", "/images", json={"image": values}), "image", is_record)

    def update(self, image_id, values, *, purge=False, if_match=None):
        """``purge`` makes the properties named all there are; ``if_match`` is an ETag."""
        headers = ({PURGE_HEADER: "true"} if purge else {}) | ({"If-Match": if_match} if if_match else {})
        return self.image("PUT", image_id, json={"image": values}, headers=headers)

    def delete(self, image_id):
        return self.image("DELETE", image_id)

    def undelete(self, image_id):
        return self.image("POST", image_id, "/undelete")

    def members(self, image_id):
        """[{member_id, can_share}]"""
        return self.content_of(self.request("GET", f"/images/{quote(image_id)}/members"), "members", is_list_of_members)

    def put_member(self, image_id, member, can_share=None):
        body = {} if can_share is None else {"json": {"member": {"can_share": can_share}}}
        self.request("PUT", member_path(image_id, member), **body)

    def remove_member(self, image_id, member):
        self.request("DELETE", member_path(image_id, member))

    def history(self, image_id):
        return self.content_of(self.request("GET", f"/images/{quote(image_id)}/history"), "history", is_list_of_changes)

    def image(self, method, image_id, below="", **options):
        return self.content_of(self.request(method, f"/images/{quote(image_id)}{below}", **options), "image", is_record)

    def require_admin(self):
        """To others a server shows live images instead: it leaves unread what only admins may ask, nonsense too."""
        if self.is_local:
            return
        with suppress(Nonsense):
            self.request("GET", LIST, params={"deleted": "nonsense", "limit": 0})
            raise Failure(f"Deleted images are shown to admins only, and for {self.name} you are none.", NO_ACCESS)

    def request(self, method, url, **options):
        """The answer, a good one."""
        import httpx2

        if self.prepare:
            self.prepare()
            self.prepare = None
        if "json" in options:  # httpx's own encoder refuses what orjson takes, and the reverse
            options["content"] = encoded(options.pop("json"))
            options["headers"] = {**options.get("headers", {}), "Content-Type": "application/json"}
        try:
            answer = self.http.request(method, url, **options)
        except httpx2.TimeoutException:
            raise Failure(f"{self.name} does not answer in time.", UNREACHABLE) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise Failure(f"{self.name} cannot be reached: {cause_of(error)}.", UNREACHABLE) from None
        if not answer.is_success:
            raise self.failure(answer, is_list=url == LIST)
        return answer

    def failure(self, answer, is_list):
        problem = parsed(answer.content)
        detail = problem.get("detail") if isinstance(problem, dict) else None
        if not isinstance(detail, str) or (is_list and answer.status_code == 404):
            return Failure(f"{self.name} answers {answer.status_code}: is this an image registry?", UNREACHABLE)
        if detail == NO_SUCH_PATH:
            return Failure(f"{self.name} does not know this call: it is of an older version.")
        if answer.status_code == 401:
            detail = f"{detail} Give --token, or REGISTRY_TOKEN."
        if answer.status_code == 400:
            return Nonsense(cleaned(detail), problem.get("errors"))
        return Failure(cleaned(detail), exit_code_of(answer.status_code))

    def content_of(self, answer, name, is_whole):
        content = parsed(answer.content)
        if not isinstance(content, dict) or not is_whole(content.get(name)):
            raise Failure(f"{self.name} answers, but not as an image registry does.", UNREACHABLE)
        return content[name]

    def own_url(self, answer, link):
        """The next page's; the token goes to no other server than the one that was named."""
        url = answer.url.join(link)
        if (url.scheme, url.host, url.port) != (answer.url.scheme, answer.url.host, answer.url.port):
            raise Failure(f"{self.name} leads to another server: {cleaned(str(url))}", UNREACHABLE)
        return url


def encoded(body):
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise Failure("What is to be sent cannot be: text must be UTF-8, such as a file's name.", USAGE) from None


def exit_code_of(status):
    return EXIT_CODES.get(status, UNREACHABLE if status >= 500 or status < 400 else FAILED)


def cause_of(error):
    """In words: without numbers of errors, and what OpenSSL calls the place of them."""
    cause = " ".join(str(error).split()) or type(error).__name__
    return cleaned(ERROR_NUMBER.sub("", cause).rstrip("."))


def parsed(content):
    try:
        return orjson.loads(content)
    except ValueError:
        return None


def id_prefix(text):
    """The beginning of an id as ids are written, or None for a text that none begins with."""
    digits = text.replace("-", "").lower()
    if not re.fullmatch("[0-9a-f]{1,32}", digits):
        return None
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    prefix = "-".join(part for part in parts if part)
    return prefix if text.lower() in (prefix, digits) else None


def member_path(image_id, member):
    return f"/images/{quote(image_id)}/members/{quote(member, safe='')}"


def without_userinfo(url):
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"
