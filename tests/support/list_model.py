"""Slow, obvious model of GET /images and /images/detail: filter all records, sort, cut."""

import unicodedata
from datetime import UTC, datetime

BRIEF_FIELDS = ("id", "name", "size", "disk_format", "container_format", "checksum")
ONLY_IN_FILE = ("visibility", "members")
SAME_TEXT = ("name", "status", "disk_format", "container_format", "checksum", "owner")
SAME_NUMBER = ("min_ram", "min_disk")
TRUE_WORDS = ("true", "1", "yes")
DEFAULT_LIMIT = MOST = 1000
SEARCHED_CHARACTERS = 4096
HEXADECIMAL = set("0123456789abcdef-")


class UnknownMarker(Exception):
    """Marker that the caller cannot see."""


class Asker:
    """Caller of conftest: "anonymous", "tenantless", "admin", "admin@tenant", or a tenant."""

    def __init__(self, caller):
        role, _, tenant = caller.partition("@")
        self.is_admin = role == "admin"
        self.tenant = tenant or None if caller in ("anonymous", "tenantless") or self.is_admin else caller

    def has(self, record):
        """Return whether the caller owns the record, or is a member."""
        members = [entry["member_id"] for entry in record["members"]]
        return self.tenant is not None and (record["owner"] == self.tenant or self.tenant in members)

    def sees(self, record):
        return self.is_admin or (not record["deleted"] and (record["is_public"] or self.has(record)))

    def sees_locations(self, record):
        return self.is_admin or (self.tenant is not None and record["owner"] == self.tenant)


def pages(records, query, caller):
    """Return all pages after the query's marker as [[record]]. Raises UnknownMarker."""
    asker, listed = Asker(caller), all_listed(records, query, caller)
    in_order = sorted(listed, key=place_by(query), reverse=query.get("sort_dir", "desc") == "desc")
    if "marker" in query:
        in_order = after(marked(records, query["marker"], asker), in_order, query)
    limit = min(int(query.get("limit", DEFAULT_LIMIT)), MOST)
    if limit == 0:
        return [[]]
    return [in_order[start : start + limit] for start in range(0, len(in_order), limit)] or [[]]


def all_listed(records, query, caller):
    """Return the records of all pages, unordered."""
    return [record for record in records if is_listed(record, query, Asker(caller))]


def shown(record, path, caller):
    """Return a record as a page shows it."""
    if path != "/images/detail":
        return {name: record[name] for name in BRIEF_FIELDS}
    entries = record["location_data"] if Asker(caller).sees_locations(record) else []
    location = next((entry["url"] for entry in entries if entry["status"] == "active"), None)
    kept = {name: value for name, value in record.items() if name not in ONLY_IN_FILE}
    return {**kept, "location": location, "location_data": entries}


def place_by(query):
    """Return the sort key: null below every value, ties by created_at, then id."""
    name = query.get("sort_key", "created_at")
    return lambda record: (record[name] is not None, record[name], record["created_at"], record["id"])


def marked(records, marker, asker):
    digits = marker.replace("-", "").lower()
    found = [record for record in records if record["id"].replace("-", "") == digits and asker.sees(record)]
    if not found:
        raise UnknownMarker
    return found[0]


def after(marker, in_order, query):
    """Return the records after the marker, which need not be listed itself."""
    place = place_by(query)
    if query.get("sort_dir", "desc") == "desc":
        return [record for record in in_order if place(record) < place(marker)]
    return [record for record in in_order if place(record) > place(marker)]


def is_listed(record, query, asker):
    return (
        is_in_state(record, query, asker)
        and is_in_scope(record, query, asker)
        and all(passes(record, name, text, asker) for name, text in query.items())
    )


def is_in_state(record, query, asker):
    """Return whether the record's state is listed; deleted images are for admins only."""
    deleted = is_true(query["deleted"]) if asker.is_admin and "deleted" in query else None
    if deleted is not None:
        return record["deleted"] if deleted else not record["deleted"] and record["status"] != "killed"
    if record["deleted"]:
        return asker.is_admin and "changes-since" in query
    return record["status"] != "killed" or query.get("status") == "killed" or "changes-since" in query


def is_in_scope(record, query, asker):
    if not asker.is_admin or "is_public" not in query:
        return record["is_public"] or asker.has(record)
    if query["is_public"].lower() == "none":
        return True
    return record["is_public"] == is_true(query["is_public"])


def passes(record, name, text, asker):
    """Return whether a record matches a filter; other parameters match all."""
    if name in SAME_TEXT:
        return record[name] == text
    if name in SAME_NUMBER:
        return record[name] == int(text)
    if name == "protected":
        return record["protected"] == is_true(text)
    if name == "size_min":
        return record["size"] is not None and record["size"] >= int(text)
    if name == "size_max":
        return record["size"] is not None and record["size"] <= int(text)
    if name == "changes-since":
        return moment(record["updated_at"]) > moment(text)
    if name == "q":
        return is_found(record, text, asker)
    if name.startswith("property-"):
        return record["properties"].get(name.removeprefix("property-")) == text
    return True


def is_found(record, text, asker):
    """Return whether a record matches a search for words or an id; admins search in the names of files too."""
    asked, beginning = words(text), text.strip().lower()
    if not asked:
        return not beginning
    spellings = (record["id"], record["id"].replace("-", ""))
    if (
        len(beginning) >= 4
        and set(beginning) <= HEXADECIMAL
        and any(spelling.startswith(beginning) for spelling in spellings)
    ):
        return True
    values = [value for _, value in sorted(record["properties"].items()) if value]
    present = words(" ".join([record["name"] or "", *values])[:SEARCHED_CHARACTERS])
    if asker.is_admin:
        names = [entry["url"].rpartition("/")[2] for entry in record["location_data"]]
        present += [word for name in names if name != record["id"] for word in words(name)]
    return all(any(word.startswith(beginning) for word in present) for beginning in asked)


def words(text):
    """Return runs of letters and digits, without case, accents and variants."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(letter for letter in decomposed if not unicodedata.combining(letter)).casefold()
    return "".join(letter if letter.isalnum() else " " for letter in bare).split()


def is_true(word):
    return word.lower() in TRUE_WORDS


def moment(text):
    """Return the time of a text; without an offset it is UTC."""
    parsed = datetime.fromisoformat(text)
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
