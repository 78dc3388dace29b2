"""Registry API client: one method per API call, failures with exit codes."""

import os
import re
from contextlib import suppress
from itertools import islice
from typing import ClassVar
from urllib.parse import quote

import orjson

import schemas
from cli.param_types import cleaned
from cli.response_checks import is_list_of_changes, is_list_of_members, is_list_of_records, is_record
from cli.runtime import EXIT_CODES, FAILED, NO_ACCESS, NOT_FOUND, UNREACHABLE, USAGE, Failure
from formatting import path_of_url
from listing.search import MOST_WORDS
from security import PURGE_HEADER
from storage.documents import words_in

ERROR_NUMBER = re.compile(r"\[Errno -?[0-9]+\] |\[SSL: \w+\] | \(_ssl\.c:[0-9]+\)")
NO_SUCH_PATH = "Nothing is at this path."
LIST = "/images/detail"
MIN_PREFIX_DIGITS = 4  # the server's search takes a shorter prefix of an id for a word
MAX_CANDIDATES = 10
# State of an image → parameters of the list that has those images: a list leaves out killed and deleted ones.
LIVE, KILLED, DELETED = "live", "killed", "deleted"
STATES = {LIVE: {}, KILLED: {"status": "killed"}, DELETED: {"deleted": True}}


class BadRequest(Failure):
    """Response 400 of the API; ``errors`` maps field to texts if the API names fields."""

    def __init__(self, message, errors=None):
        super().__init__(message, USAGE)
        self.errors = errors if isinstance(errors, dict) else {}


class Client:
    """Client of the Registry API; every error is a ClickException with its exit code."""

    PARAMETERS: ClassVar = {"changes_since": "changes-since", "search": "q"}

    def __init__(self, http, name, *, is_local=False, prepare=None):
        self.http = http
        self.prepare = prepare  # called once, before the first request
        self.name = name
        self.is_local = is_local

    def images(self, *, limit=None, properties=None, **query):
        """Yield the full records of all pages, private ones too unless is_public is given.

        ``query`` holds the parameters of GET /images, and ``search`` for q; None is omitted.
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

    def every_image(self, *states, **query):
        """Yield the images of each state, also those that lists leave out by default.

        ``states`` are keys of STATES, by default LIVE. ``query`` is as for ``images``; its limit is that of each state.
        """
        for state in states or (LIVE,):
            yield from self.images(**STATES[state], **query)

    def find(self, text, *, deleted=False):
        """Return the image with this id, name, unique id prefix, or path of its file.

        ``deleted`` searches deleted images instead.

        Raises: Failure; it lists the candidates if several images match.
        """
        if "/" in text and not deleted and (found := self.of_file(text)):
            return require_one(text, found)
        if (image_id := schemas.canonical_uuid(text)) and (image := self.show_or_none(image_id)):
            return image
        states = (DELETED,) if deleted else (LIVE, KILLED)
        found = list(self.every_image(*states, name=text, limit=MAX_CANDIDATES + 1))
        prefix = None if found else id_prefix(text)
        if prefix and len(prefix) >= MIN_PREFIX_DIGITS:
            found = self.having_prefix(prefix, states)
        if not found:
            kind = "deleted image" if deleted else "image"
            is_short = prefix and len(prefix) < MIN_PREFIX_DIGITS
            rest = f"an id prefix needs at least {MIN_PREFIX_DIGITS} digits" if is_short else "no id starts with it"
            raise Failure(f"No {kind} is named “{cleaned(text)}”, and {rest}.", NOT_FOUND)
        return require_one(text, found)

    def of_file(self, path):
        """Return the images with a location that is this file, by its real path too."""
        paths = {os.path.abspath(path), os.path.realpath(path)}
        # A file that is named by an image's id is found by that id.
        texts = {os.path.basename(each) for each in paths}
        names = {schemas.canonical_uuid(text) or " ".join(words_in(text)[:MOST_WORDS]) for text in texts}
        found = {}
        for name in names - {""}:
            for image in self.every_image(LIVE, KILLED, search=name):
                if paths & {path_of_url(entry["url"]) for entry in image["location_data"]}:
                    found[image["id"]] = image
        return sorted(found.values(), key=lambda image: image["created_at"])

    def having_prefix(self, prefix, states):
        """Return the images whose id starts with ``prefix``.

        The search also matches words.
        """
        found = (image for image in self.every_image(*states, search=prefix) if image["id"].startswith(prefix))
        return list(islice(found, MAX_CANDIDATES + 1))

    def show_or_none(self, image_id):
        try:
            return self.show(image_id)
        except Failure as failure:
            if failure.exit_code != NOT_FOUND:
                raise
            return None

    def show(self, image_id):
        return self.image("GET", image_id)

    def show_with_etag(self, image_id):
        """Return (record, ETag)."""
        answer = self.request("GET", f"/images/{quote(image_id)}")
        return self.content_of(answer, "image", is_record), answer.headers.get("ETag")

    def create(self, values):
        return self.content_of(self.request("POST", "/images", json={"image": values}), "image", is_record)

    def update(self, image_id, values, *, purge=False, if_match=None):
        """Update an image; ``purge`` replaces all properties; ``if_match`` is an ETag."""
        headers = ({PURGE_HEADER: "true"} if purge else {}) | ({"If-Match": if_match} if if_match else {})
        return self.image("PUT", image_id, json={"image": values}, headers=headers)

    def delete(self, image_id):
        return self.image("DELETE", image_id)

    def undelete(self, image_id):
        return self.image("POST", image_id, "/undelete")

    def members(self, image_id):
        """Return the members: [{member_id, can_share}]."""
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
        """Raise Failure unless the caller is an admin.

        A server ignores ``deleted``, even invalid, from others.
        """
        if self.is_local:
            return
        with suppress(BadRequest):
            self.request("GET", LIST, params={"deleted": "nonsense", "limit": 0})
            raise Failure(
                f"Deleted images are visible to admins only; {self.name} needs an admin's --token.", NO_ACCESS
            )

    def request(self, method, url, **options):
        """Send a request and return its successful response.

        Raises: Failure.
        """
        import httpx2

        if self.prepare:
            self.prepare()
            self.prepare = None
        if "json" in options:  # httpx2's encoder and orjson accept different values
            options["content"] = encoded(options.pop("json"))
            options["headers"] = {**options.get("headers", {}), "Content-Type": "application/json"}
        try:
            answer = self.http.request(method, url, **options)
        except httpx2.TimeoutException:
            raise Failure(f"{self.name} did not answer in time; try again later.", UNREACHABLE) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise Failure(f"{self.name} cannot be reached: {cause_of(error)}.", UNREACHABLE) from None
        if not answer.is_success:
            raise self.failure(answer, is_list=url == LIST)
        return answer

    def failure(self, answer, is_list):
        problem = parsed(answer.content)
        detail = problem.get("detail") if isinstance(problem, dict) else None
        if not isinstance(detail, str) or (is_list and answer.status_code == 404):
            return Failure(
                f"{self.name} answered {answer.status_code}, unlike an image registry; check --url.", UNREACHABLE
            )
        if detail == NO_SUCH_PATH:
            return Failure(f"{self.name} does not support this call; upgrade the server.")
        if answer.status_code == 401:
            detail = f"{detail} Set --token or REGISTRY_TOKEN."
        if answer.status_code == 400:
            return BadRequest(cleaned(detail), problem.get("errors"))
        return Failure(cleaned(detail), exit_code_of(answer.status_code))

    def content_of(self, answer, name, is_whole):
        content = parsed(answer.content)
        if not isinstance(content, dict) or not is_whole(content.get(name)):
            raise Failure(f"{self.name} sent an answer that is not an image registry's; check --url.", UNREACHABLE)
        return content[name]

    def own_url(self, answer, link):
        """Return the next page's URL, or raise Failure if it leads to another server."""
        url = answer.url.join(link)
        if (url.scheme, url.host, url.port) != (answer.url.scheme, answer.url.host, answer.url.port):
            raise Failure(f"{self.name} links to another server: {cleaned(str(url))}", UNREACHABLE)
        return url


def encoded(body):
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise Failure("The request cannot be sent: all texts, file names too, must be UTF-8.", USAGE) from None


def exit_code_of(status):
    return EXIT_CODES.get(status, UNREACHABLE if status >= 500 or status < 400 else FAILED)


def cause_of(error):
    """Return the cause of an error without error numbers and OpenSSL source positions."""
    cause = " ".join(str(error).split()) or type(error).__name__
    return cleaned(ERROR_NUMBER.sub("", cause).rstrip("."))


def parsed(content):
    try:
        return orjson.loads(content)
    except ValueError:
        return None


def require_one(text, found):
    """Return the only image found. Raises Failure, which lists several."""
    if len(found) == 1:
        return found[0]
    lines = [f"  {image['id']}  {cleaned(image['name'] or '')}" for image in found[:MAX_CANDIDATES]]
    more = ["  … and more"] if len(found) > MAX_CANDIDATES else []
    raise Failure(
        "\n".join([f"“{cleaned(text)}” matches several images; give one of these ids:", *lines, *more]), NOT_FOUND
    )


def id_prefix(text):
    """Return the text as an id prefix with dashes, or None if no id can start with it."""
    digits = text.replace("-", "").lower()
    if not re.fullmatch("[0-9a-f]{1,32}", digits):
        return None
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    prefix = "-".join(part for part in parts if part)
    return prefix if text.lower() in (prefix, digits) else None


def member_path(image_id, member):
    return f"/images/{quote(image_id)}/members/{quote(member, safe='')}"
