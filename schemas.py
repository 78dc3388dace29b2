"""What goes over the wire: vocabularies, value rules, bodies and query parameters."""

import base64
import json
import math
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from marshmallow import EXCLUDE, Schema, ValidationError, fields

from errors import Invalid

CREATE_STATUSES = ("active", "saving", "queued", "killed")
# glance-api sends the others on update: delayed delete, the end of it, deactivation.
UPDATE_STATUSES = (*CREATE_STATUSES, "pending_delete", "deleted", "deactivated")
LOCATION_STATUSES = ("active", "pending_delete", "deleted")
BOOLEAN_WORDS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
SORT_KEYS = ("id", "name", "status", "disk_format", "container_format", "size", "created_at", "updated_at")
LARGEST_INTEGER = 2**63 - 1
LARGEST_SMALL_INTEGER = 2**31 - 1
LONGEST_TEXT = 255
LONGEST_URL = 4096
FIRST_YEAR, LAST_YEAR = 1970, 9998

UUID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
URL = re.compile(r"[a-z][a-z0-9+.-]*:.+", re.IGNORECASE | re.ASCII | re.DOTALL)
ISO_8601 = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)([T ]\d\d(:?\d\d){0,2}([.,]\d+)?(Z|[+-]\d\d(:?\d\d)?)?)?", re.ASCII)

# The plus of an offset that was not escaped in a query arrives as a space.
UNESCAPED_OFFSET = re.compile(r"(T\d{2,6}|:\d\d|[.,]\d+) (\d\d(?::?\d\d)?)$", re.ASCII)
UNCLEAN = re.compile("[\0\ud800-\udfff]")


class JSONFloat(float):
    """A number with a fraction or an exponent that remembers how it was written: 22.10 is a version."""

    def __new__(cls, text):
        number = super().__new__(cls, text)
        if not math.isfinite(number):
            raise ValueError("no JSON number, or out of range")
        number.text = text
        return number


class Value(fields.Field):
    """A field that says in every refusal what it takes; its ``parse`` raises ValueError to refuse."""

    def __init__(self, parse, expected, **options):
        self.parse = parse
        self.refusal = expected
        template = expected.replace("{", "{{").replace("}", "}}")  # marshmallow fills messages in
        super().__init__(error_messages={"required": template, "null": template}, **options)

    def _deserialize(self, value, attr, data, **kwargs):
        try:
            return self.parse(value)
        except ValidationError:
            raise
        except (ValueError, OverflowError, RecursionError):
            raise ValidationError(self.refusal) from None


def text(longest=LONGEST_TEXT, shortest=0, **options):
    def parse(value):
        if not isinstance(value, str) or not shortest <= len(value) <= longest or not is_clean(value):
            raise ValueError
        return value

    return Value(parse, f"Must be text of {shortest} to {longest} characters, without NUL.", **options)


def word(vocabulary, prefix="Must be", **options):
    def parse(value):
        if not isinstance(value, str) or value not in vocabulary:
            raise ValueError
        return value

    return Value(parse, f"{prefix} one of {', '.join(vocabulary)}.", **options)


def count(largest=LARGEST_INTEGER, **options):
    def parse(value):
        if isinstance(value, str) and re.fullmatch("[0-9]{1,40}", value):
            value = int(value)
        if type(value) is not int or not 0 <= value <= largest:
            raise ValueError
        return value

    return Value(parse, f"Must be an integer from 0 to {largest}.", **options)


def flag(words=BOOLEAN_WORDS, **options):
    def parse(value):
        if isinstance(value, bool):
            return value
        if not isinstance(value, str) or value.lower() not in words:
            raise ValueError
        return words[value.lower()]

    return Value(parse, f"Must be a boolean, or one of the words {', '.join(words)} in any case.", **options)


def image_id(**options):
    def parse(value):
        canonical = canonical_uuid(value)
        if canonical is None:
            raise ValueError
        return canonical

    return Value(parse, "Must be a uuid in hexadecimal notation: 71c675ab-d94f-49cd-a114-e12490b328d9.", **options)


def moment(**options):
    """Loads into the API's own notation: UTC, six decimals, no offset."""

    def parse(value):
        value = UNESCAPED_OFFSET.sub(r"\1+\2", value.upper()) if isinstance(value, str) else ""
        notation = ISO_8601.fullmatch(value)
        if notation is None:
            raise ValueError
        year, month, day, time = notation.groups("")[:4]
        parsed = datetime.fromisoformat(f"{year}-{month}-{day}{time}")
        if parsed.tzinfo:
            parsed = parsed.astimezone(UTC).replace(tzinfo=None)
        if not FIRST_YEAR <= parsed.year <= LAST_YEAR:
            raise ValueError
        return parsed.isoformat(timespec="microseconds")

    return Value(parse, f"Must be an ISO 8601 date or time of the years {FIRST_YEAR} to {LAST_YEAR}.", **options)


def properties(**options):
    """Loads into a dict of name → text or None."""
    return Value(parse_properties, "Must be an object of name → value, or a list of {name, value}.", **options)


def parse_properties(value):
    if isinstance(value, list):
        if not all(isinstance(pair, dict) and isinstance(pair.get("name"), str) for pair in value):
            raise ValueError
        pairs, value = value, {pair["name"]: pair.get("value") for pair in value}
        if len(value) < len(pairs):
            raise ValidationError("A name must not stand in the list twice.")
    if not isinstance(value, dict):
        raise ValueError
    if not all(1 <= len(name) <= LONGEST_TEXT and is_clean(name) for name in value):
        raise ValidationError(f"A name must be text of 1 to {LONGEST_TEXT} characters, without NUL.")
    refused = [name for name, entry in value.items() if not is_property_value(entry)]
    if refused:
        raise ValidationError({name: ["Must be text without NUL, a number, a boolean or null."] for name in refused})
    return {name: property_text(entry) for name, entry in value.items()}


def is_property_value(entry):
    return is_clean(entry) if isinstance(entry, str) else entry is None or isinstance(entry, bool | int | float)


def property_text(entry):
    if entry is None or isinstance(entry, str):
        return entry
    return entry.text if isinstance(entry, JSONFloat) else json.dumps(entry)


# The ways to write an image's locations; of those in a body, the first counts.
LOCATION_SHAPES = {
    "location_data": "a list of {url, metadata, status}",
    "locations": "a list of URLs",
    "location": "a URL",
}


def locations(shape):
    """Loads into [(url, metadata as JSON text, status)], whatever its shape."""

    def parse(value):
        entries = [value] if shape == "location" else value
        if not isinstance(entries, list):
            raise ValueError
        return [parse_location(entry if shape == "location_data" else {"url": entry}) for entry in entries]

    rules = f"a URL has a scheme and at most {LONGEST_URL} characters, metadata is an object"
    expected = f"Must be {LOCATION_SHAPES[shape]}; {rules}, status one of {', '.join(LOCATION_STATUSES)}."
    return Value(parse, expected, allow_none=True)


def parse_location(entry):
    if not isinstance(entry, dict):
        raise ValueError
    url, metadata, status = entry.get("url"), entry.get("metadata"), entry.get("status")
    metadata = {} if metadata is None else metadata
    status = "active" if status is None else status
    if not isinstance(url, str) or len(url) > LONGEST_URL or not URL.fullmatch(url) or not is_clean(url):
        raise ValueError
    if not isinstance(metadata, dict) or status not in LOCATION_STATUSES:
        raise ValueError
    return url, json_text(metadata), status


def is_clean(value):
    """Whether a text can be stored and sent: no NUL, no half of a surrogate pair."""
    return not UNCLEAN.search(value)


def json_text(value):
    """Compact JSON; raises ValueError where a text within, or the nesting, cannot be kept."""
    try:
        if not all(map(is_clean, texts_within(value))):
            raise ValueError
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise ValueError from None


def texts_within(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from texts_within(part)


def canonical_uuid(value):
    """The lower-case hyphenated form of a uuid in any spelling, or None."""
    if not isinstance(value, str) or not UUID.fullmatch(value):
        return None
    digits = value.replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class ImageBodies:
    """The bodies of POST and PUT /images, by the vocabularies of ``[api]``."""

    def __init__(self, api):
        required = {"required": api.strict_create}
        nullable = {"allow_none": not api.strict_create}
        self.on_create = image_schema(api, CREATE_STATUSES, required, required | nullable)
        self.on_update = image_schema(api, UPDATE_STATUSES, {}, nullable)

    def parse_create(self, body, context):
        """Values of a new image by column, with ``properties`` and ``locations``. Raises Invalid.

        What is null counts as missing, but for a status: the reference refuses that too.
        """
        image = {name: value for name, value in require_object(body, "image").items() if value is not None}
        image |= {"status": body["image"]["status"]} if "status" in body["image"] else {}
        ignored = () if context.is_admin else ("owner", "created_at", "updated_at")
        return {"status": "active"} | load_image(self.on_create, image, ignored)

    def parse_update(self, body, context):
        """(the values that change, by column; from_state or None). Raises Invalid."""
        image = require_object(body, "image")
        from_state = body.get("from_state")
        if from_state is not None and not isinstance(from_state, str):
            raise Invalid({"from_state": [f"Must be one of {', '.join(UPDATE_STATUSES)}."]})
        ignored = ["created_at", "updated_at"]
        ignored += [] if context.is_admin else ["owner"]
        ignored += ["id"] if image.get("id") is None else []
        return load_image(self.on_update, image, ignored), from_state


def image_schema(api, statuses, status_options, format_options):
    schema = Schema.from_dict(
        {
            "id": image_id(),
            "name": text(allow_none=True),
            "status": word(statuses, "Invalid image status: must be", **status_options),
            "disk_format": word(api.disk_formats, **format_options),
            "container_format": word(api.container_formats, **format_options),
            "size": count(allow_none=True),
            "virtual_size": count(allow_none=True),
            "checksum": text(32, allow_none=True),
            "min_disk": count(LARGEST_SMALL_INTEGER),
            "min_ram": count(LARGEST_SMALL_INTEGER),
            "owner": text(allow_none=True),
            "is_public": flag(),
            "protected": flag(),
            "properties": properties(),
            **{shape: locations(shape) for shape in LOCATION_SHAPES},
            "created_at": moment(),
            "updated_at": moment(),
        }
    )
    return schema(unknown=EXCLUDE)


def load_image(schema, image, ignored):
    counting = next((shape for shape in LOCATION_SHAPES if shape in image), None)
    ignored = {*ignored, *LOCATION_SHAPES} - {counting}
    values = load(schema, {name: value for name, value in image.items() if name not in ignored})
    if counting in values:
        values["locations"] = values.pop(counting) or []
    if values.get("owner") == "":
        values["owner"] = None
    return values


MEMBER = Schema.from_dict({"member_id": text(shortest=1, required=True), "can_share": flag()})(unknown=EXCLUDE)


def parse_memberships(body):
    """{member_id: can_share, None where it is omitted}. Raises Invalid."""
    if not isinstance(body.get("memberships"), list):
        raise Invalid({"memberships": ["Must be a list of {member_id, can_share}."]})
    memberships = {}
    for number, entry in enumerate(body["memberships"]):
        if not isinstance(entry, dict):
            raise Invalid({f"memberships.{number}": ["Must be an object {member_id, can_share}."]})
        member = load(MEMBER, entry, f"memberships.{number}")
        if member["member_id"] in memberships:
            raise Invalid({f"memberships.{number}.member_id": ["Must not be named twice."]})
        memberships[member["member_id"]] = member.get("can_share")
    return memberships


def parse_member(member_id, body):
    """(member_id, can_share or None); ``body`` is None where there was none. Raises Invalid."""
    entry = {} if body is None else require_object(body, "member")
    return member_id, load(MEMBER, {**entry, "member_id": member_id}).get("can_share")


def require_object(body, key):
    if not isinstance(body.get(key), dict):
        raise Invalid({key: [f'Must be an object: {{"{key}": {{…}}}}.']})
    return body[key]


def load(schema, values, *place):
    try:
        return schema.load(values)
    except ValidationError as error:
        raise Invalid(flatten(error.messages, place)) from None


def flatten(messages, place):
    """{"properties": {"kernel": […]}} → {"properties.kernel": […]}; _schema is marshmallow's name for the whole."""
    if isinstance(messages, list):
        return {".".join(name for name in place if name != "_schema"): messages}
    return {key: texts for name, part in messages.items() for key, texts in flatten(part, (*place, name)).items()}


class ListQuery(NamedTuple):
    """What a list asks for; None where it does not ask."""

    equal: dict[str, Any]  # column → value
    properties: dict[str, str]
    limit: int
    size_min: int | None
    size_max: int | None
    changes_since: str | None
    is_public: bool | str | None  # True, False or "all"; from admins only
    deleted: bool | None  # from admins only
    sort_key: str
    sort_dir: str
    marker: str | None
    position: list | None  # what the marker had in sort_columns, where it came with that

    @property
    def sort_columns(self):
        """The order, ties included, all in one direction."""
        return ("id",) if self.sort_key == "id" else tuple(dict.fromkeys((self.sort_key, "created_at", "id")))


def parse_limit(value):
    """What is above ``api_limit_max`` will be capped, however large."""
    if not re.fullmatch("[0-9]+", value):
        raise ValueError
    return min(int(value[-40:]), LARGEST_INTEGER) if len(value.lstrip("0")) <= 40 else LARGEST_INTEGER


def parse_position(value):
    """[sort_key, the marker's value of each sort column], as ``position_text`` wrote it."""
    position = json.loads(base64.b64decode(value + "=" * (-len(value) % 4), altchars="-_", validate=True))
    if not isinstance(position, list) or not all(map(is_column_value, position)):
        raise ValueError
    return position


def is_column_value(value):
    if isinstance(value, str):
        return is_clean(value)
    return value is None or (type(value) is int and abs(value) <= LARGEST_INTEGER)


def position_text(sort_key, values):
    """The position of an image in a list, opaque to clients."""
    return base64.urlsafe_b64encode(json.dumps([sort_key, *values], ensure_ascii=False).encode()).decode().rstrip("=")


# Unlike in a body, a text that no image can have is no error: it matches none.
EQUAL_PARAMETERS = {
    **{name: fields.Raw() for name in ("name", "status", "container_format", "disk_format", "checksum", "owner")},
    "min_ram": count(),
    "min_disk": count(),
    "protected": flag(),
}
ADMIN_PARAMETERS = {
    "is_public": flag(BOOLEAN_WORDS | {"none": "all"}),
    "deleted": flag(),
}
LIST_PARAMETERS = Schema.from_dict(
    {
        **EQUAL_PARAMETERS,
        **ADMIN_PARAMETERS,
        "size_min": count(),
        "size_max": count(),
        "changes_since": moment(data_key="changes-since"),
        "sort_key": word(SORT_KEYS, load_default="created_at"),
        "sort_dir": word(("asc", "desc"), load_default="desc"),
        "limit": Value(parse_limit, "Must be an integer from 0."),
        "marker": image_id(),
        "position": Value(parse_position, "Must be the one of a next link, with its marker and sort_key."),
    }
)(unknown=EXCLUDE)
PROPERTY_PREFIX = "property-"
MOST_PROPERTIES = 500  # SQLite takes expressions of up to 1,000


def parse_parameters(query_string):
    """[(name, value)] of a query in bytes, repetitions dropped; what is not UTF-8 becomes surrogates."""
    query = query_string.decode("utf-8", "surrogateescape")
    return list(dict.fromkeys(parse_qsl(query, keep_blank_values=True, errors="surrogateescape")))


def parse_list_query(query_string, context, api):
    """The ListQuery of a request for a list; parameters that it does not know are ignored. Raises Invalid."""
    known = {field.data_key or name for name, field in LIST_PARAMETERS.fields.items()}
    known -= set() if context.is_admin else set(ADMIN_PARAMETERS)
    given, refused = {}, {}
    for name, value in parse_parameters(query_string):
        if name in known or name.startswith(PROPERTY_PREFIX):
            if not is_clean(name + value):
                refused[name if is_clean(name) else PROPERTY_PREFIX] = ["Must be UTF-8, without NUL."]
            elif given.setdefault(name, value) != value:
                refused[name] = ["Must not be given twice with different values."]
    if len(given.keys() - known) > MOST_PROPERTIES:
        refused[PROPERTY_PREFIX] = [f"Must not be more than {MOST_PROPERTIES} filters."]
    if refused:
        raise Invalid(refused)
    values = load(LIST_PARAMETERS, {name: value for name, value in given.items() if name in known})
    query = ListQuery(
        equal={name: values[name] for name in EQUAL_PARAMETERS if name in values},
        properties={name.removeprefix(PROPERTY_PREFIX): given[name] for name in given if name not in known},
        limit=min(values.get("limit", api.limit_param_default), api.api_limit_max),
        **{name: values.get(name) for name in ListQuery._fields[3:]},
    )
    return query._replace(position=fitting_position(query))


def fitting_position(query):
    """The position's values, where it belongs to this marker and order. Raises Invalid."""
    if query.position is None:
        return None
    sort_key, *values = query.position or [None]
    is_whole = query.marker is not None and len(values) == len(query.sort_columns)
    if not is_whole or sort_key != query.sort_key or values[-1] != query.marker:
        raise Invalid({"position": [LIST_PARAMETERS.fields["position"].refusal]})
    return values
