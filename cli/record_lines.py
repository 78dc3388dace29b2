"""One line of an import or export: a full record, with visibility and members."""

from datetime import datetime

import orjson
from marshmallow import Schema, ValidationError

import models
import schemas
import web
from auth import ADMIN
from errors import Invalid
from storage.documents import PUBLIC, VISIBILITIES

# What parse_usual raises for a record that is not a usual one.
UNUSUAL = (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError, ValidationError)
LENGTH_OF_TIME = len("2026-11-24T04:08:17.767932")
# The fields that the fast path hands to their parser as they are; the others it reads itself.
READ_BY_ITSELF = {"status", "properties", "created_at", "updated_at", *schemas.LOCATION_SHAPES}


def parse_members(value):
    """{member_id: can_share}"""
    try:
        memberships = schemas.parse_memberships({"memberships": value})
    except Invalid as error:
        raise ValidationError(error.errors["memberships"]) from None
    return {member_id: bool(can_share) for member_id, can_share in memberships.items()}


# What only exports have.
EXTRAS = Schema.from_dict(
    {
        "deleted": schemas.flag(),
        "deleted_at": schemas.moment(),
        "visibility": schemas.word(VISIBILITIES),
        "members": schemas.Value(parse_members, "Must be a list of {member_id, can_share}."),
    }
)()


class RecordParser:
    """Records as POST /images takes them from an admin, by the vocabularies of ``[api]``, with what exports add."""

    def __init__(self, api):
        self.bodies = schemas.ImageBodies(api, schemas.UPDATE_STATUSES)
        fields = self.bodies.on_create.fields
        self.known = {*fields, *EXTRAS.fields}
        self.required = {name for name, field in fields.items() if field.required} | {"status"}
        self.parsers = {name: field.parse for name, field in fields.items()}
        self.plain = [(name, parse) for name, parse in self.parsers.items() if name not in READ_BY_ITSELF]

    def parse(self, line):
        """Values by column, with ``properties``, ``locations`` and ``members``, of a line in bytes. Raises Invalid."""
        try:
            values = self.parse_usual(line)
        except UNUSUAL:
            values = self.parse_any(line)
        require_agreement(values)
        models.require_pair(values)
        return values

    def parse_any(self, line):
        """The rule: whatever create takes. Raises Invalid."""
        record = parse_object(line)
        values = self.bodies.parse_create({"image": record}, ADMIN)
        extras = {name: record[name] for name in EXTRAS.fields if record.get(name) is not None}
        return values | schemas.load(EXTRAS, extras)

    def parse_usual(self, line):
        """The same of a record as exports have it, in a seventh of the time; any other raises one of UNUSUAL.

        It calls each field's parser itself, takes times that are written as we write them after a look, and parses
        with orjson, which cannot tell how a number was written: numbers in properties and metadata are not usual.
        """
        record = orjson.loads(line)
        if b"\\u0000" in line or not record.keys() <= self.known:
            raise ValueError
        values = {name: parse(record[name]) for name, parse in self.plain if record.get(name) is not None}
        values["status"] = self.parsers["status"](record["status"])
        for name in ("created_at", "updated_at", "deleted_at"):
            if record.get(name) is not None:
                values[name] = usual_time(record[name])
        if not self.required <= values.keys():
            raise ValueError
        values["owner"] = values.get("owner") or None
        values["properties"] = usual_properties(record.get("properties"))
        values["locations"] = usual_locations(record)
        return values | usual_extras(record)


def parse_object(line):
    try:
        return web.parse_json(line.rstrip())
    except Invalid as error:
        # The place in a body has lines; a record is one.
        texts = [text.replace(", line 1 column ", ", column ") for text in error.errors["body"]]
        raise Invalid({"record": texts}) from None


def usual_time(value):
    moment = datetime.fromisoformat(value)
    if len(value) != LENGTH_OF_TIME or moment.isoformat(timespec="microseconds") != value:
        raise ValueError
    if not schemas.FIRST_YEAR <= moment.year <= schemas.LAST_YEAR:
        raise ValueError
    return value


def usual_properties(texts):
    """The line has no NUL, and orjson takes no half of a surrogate pair."""
    texts = {} if texts is None else texts
    for name, value in texts.items():
        if not 1 <= len(name) <= schemas.LONGEST_TEXT or not (value is None or type(value) is str):
            raise ValueError
    return texts


def usual_locations(record):
    entries = record.get("location_data")
    if type(entries) is not list and (entries, record.get("locations"), record.get("location")) != (None, None, None):
        raise ValueError
    return [usual_location(**entry) for entry in entries or ()]


def usual_location(url, metadata, status):
    if status not in schemas.LOCATION_STATUSES or not all(type(value) is str for value in metadata.values()):
        raise ValueError
    return schemas.location_url(url), schemas.metadata_text(metadata) if metadata else "{}", status


def usual_extras(record):
    deleted, visibility, entries = record.get("deleted"), record.get("visibility"), record.get("members")
    if not (deleted is None or type(deleted) is bool) or visibility not in (None, *VISIBILITIES):
        raise ValueError
    extras = {"deleted": bool(deleted)} | ({"visibility": visibility} if visibility else {})
    return extras | {"members": usual_members([] if entries is None else entries)}


def usual_members(entries):
    members = dict(usual_member(**entry) for entry in entries)
    if type(entries) is not list or len(members) < len(entries):
        raise ValueError
    return members


def usual_member(member_id, can_share):
    if type(member_id) is not str or not 1 <= len(member_id) <= schemas.LONGEST_TEXT or type(can_share) is not bool:
        raise ValueError
    return member_id, can_share


def require_agreement(values):
    """Raises Invalid where two fields contradict each other."""
    visibility = values.get("visibility")
    if visibility and values.get("is_public", visibility == PUBLIC) != (visibility == PUBLIC):
        raise Invalid({"visibility": ["Must be public where is_public is true, and another where it is false."]})
    if values.get("deleted_at") and not values.get("deleted"):
        raise Invalid({"deleted_at": ["Must be null, or left out, unless deleted is true."]})


def row_of(values, pk, now, nonce):
    """The image's row, its documents included."""
    row = {**models.DEFAULTS, "created_at": now, "updated_at": now, **models.columns_of(values)}
    row |= {"pk": pk, "id": values["id"], "nonce": nonce}
    if row["deleted"] and row["deleted_at"] is None:
        row["deleted_at"] = row["updated_at"]
    texts = sorted_by_name(values.get("properties", {}))
    return row | models.documents_of(row, texts, values.get("locations", []))


def sorted_by_name(properties):
    """As the table has them."""
    return {name: properties[name] for name in sorted(properties)}


def line_of(document, location_document, visibility, members):
    """The one way to write a record: the API's document, visibility, members ([[member_id, can_share]] as JSON)."""
    if members != "[]":
        entries = [{"member_id": member, "can_share": bool(can_share)} for member, can_share in orjson.loads(members)]
        members = orjson.dumps(entries).decode()
    return f'{document}{location_document[:-1]},"visibility":"{visibility}","members":{members}}}\n'.encode()
