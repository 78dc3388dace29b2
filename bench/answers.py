"""Slow, obvious model of the API over a catalogue, and the check of answers against it."""

import json
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from bench.catalogue import Catalogue, Entry

BRIEF_FIELDS = ("id", "name", "size", "disk_format", "container_format", "checksum")
EQUAL = ("name", "status", "disk_format", "container_format", "owner")
ONLY_IN_FILE = ("visibility", "members")


class Ask(NamedTuple):
    """One GET, by a tenant's user or (None) an admin."""

    path: str
    query: dict[str, str] = {}
    tenant: str | None = None
    etag: str | None = None

    @property
    def target(self) -> str:
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    @property
    def headers(self) -> dict[str, str]:
        """Return the identity headers of a proxy for ``flavor = trusted-auth``."""
        identity = {"X-Identity-Status": "Confirmed", "X-User-Id": "someone", "X-Tenant-Id": self.tenant}
        identity = {} if self.tenant is None else identity | {"X-Roles": "member"}
        return identity | ({} if self.etag is None else {"If-None-Match": self.etag})

    def next_page(self, link: str) -> "Ask":
        """Return the request for the page of a Link header."""
        target = urlsplit(link.partition(">")[0].lstrip("<"))
        return self._replace(query=dict(parse_qsl(target.query)))


class WrongAnswer(Exception):
    """Answer that differs from the model's."""


def check(catalogue: Catalogue, ask: Ask, response) -> None:
    """Raise WrongAnswer unless ``response`` (status, headers, body) is right."""
    status, headers, body = response
    if ask.etag is not None:
        require(ask, "status and body", (status, body), (304, b""))
        return
    require(ask, "status", status, 200)
    answer = json.loads(body)
    if "/images/" in ask.path and ask.path != "/images/detail":
        entry = next(entry for entry in catalogue.entries if entry.id == ask.path.rpartition("/")[2])
        require(ask, "record", answer, {"image": visible_record(catalogue, entry, ask.tenant)})
        require(ask, "x-image-meta-id", headers.get("x-image-meta-id"), entry.id)
        return
    page, is_more = expected_page(catalogue, ask)
    require(ask, "ids", [image["id"] for image in answer["images"]], [entry.id for entry in page])
    records = [visible_record(catalogue, entry, ask.tenant) for entry in page]
    if ask.path == "/images":
        records = [{name: record[name] for name in BRIEF_FIELDS} for record in records]
    require(ask, "images", answer["images"], records)
    require(ask, "a next link", "Link" in headers, is_more)


def require(ask, what, found, expected):
    if found != expected:
        raise WrongAnswer(f"GET {ask.target} ({ask.tenant or 'admin'}), {what}: {found!r}, not {expected!r}")


def visible_record(catalogue: Catalogue, entry: Entry, tenant: str | None) -> dict:
    """Return the record as the API shows it: with locations for admins and the owner."""
    record = {name: value for name, value in catalogue.record(entry).items() if name not in ONLY_IN_FILE}
    return record if tenant in (None, entry.owner) else record | {"location": None, "location_data": []}


def expected_page(catalogue: Catalogue, ask: Ask) -> tuple[list[Entry], bool]:
    """Return (the entries of a page in order, whether more follow)."""
    entries = listed(catalogue, ask.query, ask.tenant)
    start = 0
    if "marker" in ask.query:
        start = next(place for place, entry in enumerate(entries, 1) if entry.id == ask.query["marker"])
    end = start + int(ask.query["limit"])
    return entries[start:end], end < len(entries)


def listed(catalogue: Catalogue, query: dict[str, str], tenant: str | None) -> list[Entry]:
    """Return all entries of a list, in order, without limit and marker."""
    kept = {name: text for name, text in query.items() if name not in ("limit", "marker", "position")}
    return in_order(catalogue, tuple(sorted(kept.items())), tenant)


@lru_cache(maxsize=32)
def in_order(catalogue, items, tenant):
    query = dict(items)
    sort_key = query.get("sort_key", "created_at")

    def place(entry):
        value = getattr(entry, sort_key)
        return value is not None, value, entry.created_at, entry.id

    found = [entry for entry in catalogue.entries if is_listed(entry, query, tenant)]
    return sorted(found, key=place, reverse=query.get("sort_dir") != "asc")


def is_listed(entry: Entry, query: dict[str, str], tenant: str | None) -> bool:
    return is_in_state(entry, query, tenant) and is_for(entry, query, tenant) and is_asked_for(entry, query)


def is_in_state(entry, query, tenant):
    """Return whether an entry's state is listed."""
    if query.get("deleted") == "true":
        return entry.deleted
    if entry.deleted and (tenant is not None or "changes-since" not in query):
        return False
    return entry.status != "killed" or query.get("status") == "killed" or "changes-since" in query


def is_for(entry, query, tenant):
    if tenant is not None or "is_public" not in query:
        return entry.is_public or (tenant is not None and (entry.owner == tenant or tenant in entry.members))
    return query["is_public"] == "none" or entry.is_public == (query["is_public"] == "true")


def is_asked_for(entry, query):
    for name, text in query.items():
        if name in EQUAL and getattr(entry, name) != text:
            return False
        if name == "size_min" and (entry.size is None or entry.size < int(text)):
            return False
        if name == "size_max" and (entry.size is None or entry.size > int(text)):
            return False
        if name == "changes-since" and entry.updated_at <= text:
            return False
        if name == "q" and not is_found(entry, text):
            return False
        if name.startswith("property-") and entry.properties.get(name.removeprefix("property-")) != text:
            return False
    return True


def is_found(entry, text):
    """Return whether an entry matches a search; a catalogue's texts are ASCII."""
    # Files of a catalogue are named by the image's id, which no search finds as a name.
    words = words_in(" ".join([entry.name or "", *entry.properties.values()]))
    is_id = re.fullmatch("[0-9a-f-]{4,36}", text) is not None and entry.id.startswith(text)
    return is_id or all(any(word.startswith(asked) for word in words) for asked in words_in(text))


def words_in(text):
    return re.findall("[a-z0-9]+", text.lower())
