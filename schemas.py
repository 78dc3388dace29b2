"""Request bodies: marshmallow schemas, vocabularies and value rules."""

import json
import math
import re
from datetime import UTC, datetime

import orjson
from marshmallow import EXCLUDE, Schema, ValidationError, fields

from errors import Invalid
from storage.fields import BODY_FIELDS, LARGEST_INTEGER

CREATE_STATUSES = ("active", "saving", "queued", "killed")
# Glance sends the other statuses on update: delayed delete, its end, deactivation.
UPDATE_STATUSES = (*CREATE_STATUSES, "pending_delete", "deleted", "deactivated")
LOCATION_STATUSES = ("active", "pending_delete", "deleted")
BOOLEAN_WORDS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
LONGEST_TEXT = 255
LONGEST_URL = 4096
FIRST_YEAR, LAST_YEAR = 1970, 9998

UUID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
URL = re.compile(r"[a-z][a-z0-9+.-]*:.+", re.IGNORECASE | re.ASCII | re.DOTALL)
ISO_8601 = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)([T ]\d\d(:?\d\d){0,2}([.,]\d+)?(Z|[+-]\d\d(:?\d\d)?)?)?", re.ASCII)

# The plus of an offset that was not escaped in a query arrives as a space.
UNESCAPED_OFFSET = re.compile(r"(T\d{2,6}|:\d\d|[.,]\d+) (\d\d(?::?\d\d)?)$", re.ASCII)
UNCLEAN = re.compile("[\0\ud800-\udfff]")
UNCLEAN_NAMES = "NUL and halves of surrogate pairs"


class JSONFloat(float):
    """A number with a fraction or an exponent that keeps its text: 22.10 is a version."""

    def __new__(cls, text):
        number = super().__new__(cls, text)
        if not math.isfinite(number):
            raise ValueError("no JSON number, or out of range")
        number.text = text
        return number


class Value(fields.Field):
    """A field whose error messages name the accepted values; ``parse`` raises ValueError for others."""

    def __init__(self, parse, expected, **options):
        self.parse = parse
        self.refusal = expected = f"{expected[:-1]}, or null." if options.get("allow_none") else expected
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

    lengths = f"{shortest} to {longest}" if shortest else f"up to {longest}"
    return Value(parse, f"Must be text of {lengths} characters, without {UNCLEAN_NAMES}.", **options)


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

    return Value(
        parse, "Must be a uuid in hexadecimal notation, such as 71c675ab-d94f-49cd-a114-e12490b328d9.", **options
    )


def moment(**options):
    """Return a rule for times, which loads them as the API writes them.

    UTC, six decimals, no offset.
    """

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
    """Return the rule for properties, which loads {name: text or None}."""
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
        raise ValidationError(f"Each name must be text of 1 to {LONGEST_TEXT} characters, without {UNCLEAN_NAMES}.")
    refused = [name for name, entry in value.items() if not is_property_value(entry)]
    if refused:
        raise ValidationError(
            {name: [f"Must be text without {UNCLEAN_NAMES}, a number, a boolean or null."] for name in refused}
        )
    return {name: property_text(entry) for name, entry in value.items()}


def is_property_value(entry):
    return is_clean(entry) if isinstance(entry, str) else entry is None or isinstance(entry, bool | int | float)


def property_text(entry):
    if entry is None or isinstance(entry, str):
        return entry
    return entry.text if isinstance(entry, JSONFloat) else json.dumps(entry)


# The shapes of locations in a body; the first one present counts.
URL_RULE = f"a URL with a scheme, of at most {LONGEST_URL} characters"
LOCATION_SHAPES = {
    "location_data": "Must be a list of {url, metadata, status}.",
    "locations": "Must be a list of URLs.",
    "location": f"Must be {URL_RULE}.",
}


def locations(shape):
    """Return the rule for locations, which loads [(url, metadata JSON, status)]."""

    def parse(value):
        if shape == "location":
            return [(location_url(value), "{}", "active")]
        if not isinstance(value, list):
            raise ValueError
        parse_entry = parse_location if shape == "location_data" else parse_url
        return [parse_entry(entry, str(number)) for number, entry in enumerate(value)]

    return Value(parse, LOCATION_SHAPES[shape], allow_none=True)


def parse_url(entry, number):
    try:
        return location_url(entry), "{}", "active"
    except ValueError:
        raise ValidationError({number: [f"Must be {URL_RULE}."]}) from None


def parse_location(entry, number):
    if not isinstance(entry, dict):
        raise ValidationError({number: ["Must be an object {url, metadata, status}."]})
    try:
        location = LOCATION.load({name: value for name, value in entry.items() if value is not None})
    except ValidationError as error:
        raise ValidationError({number: error.messages}) from None
    return location["url"], location["metadata"], location["status"]


def location_url(value):
    if not isinstance(value, str) or len(value) > LONGEST_URL or not URL.fullmatch(value) or not is_clean(value):
        raise ValueError
    return value


def is_clean(value):
    """Return whether a text has no NUL and no half of a surrogate pair."""
    return not UNCLEAN.search(value)


def metadata_text(value):
    """Return the compact JSON of an object.

    Raises: ValueError for values that cannot be stored or read again.
    """
    if not isinstance(value, dict) or not all(map(is_clean, texts_within(value))):
        raise ValueError
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    orjson.loads(text)  # raises for integers beyond the range of a double, which json accepts
    return text


def texts_within(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from texts_within(part)


def canonical_uuid(value):
    """Return the lower-case hyphenated form of a uuid in any spelling, or None."""
    if not isinstance(value, str) or not UUID.fullmatch(value):
        return None
    digits = value.replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class ImageBodies:
    """Parser of the bodies of POST and PUT /images, with the vocabularies of ``[api]``."""

    def __init__(self, api):
        required = {"required": api.strict_create}
        nullable = {"allow_none": not api.strict_create}
        self.on_create = image_schema(api, CREATE_STATUSES, required, required | nullable)
        self.on_update = image_schema(api, UPDATE_STATUSES, {}, nullable)

    def parse_create(self, body, context):
        """Return the values of a new image. Raises Invalid."""
        ignored = () if context.is_admin else ("owner", "created_at", "updated_at")
        return load_new_image(self.on_create, require_object(body, "image"), ignored)

    def parse_update(self, body, context):
        """Return (changed values, from_state or None). Raises Invalid."""
        image = require_object(body, "image")
        from_state = body.get("from_state")
        if from_state is not None and not isinstance(from_state, str):
            raise Invalid({"from_state": [f"Must be one of {', '.join(UPDATE_STATUSES)}."]})
        ignored = ["created_at", "updated_at"]
        ignored += [] if context.is_admin else ["owner"]
        ignored += ["id"] if image.get("id") is None else []
        return load_image(self.on_update, image, ignored), from_state


def image_schema(api, statuses, status_options, format_options, extras=()):
    """Return the schema of an image with further fields ``extras`` {name: field}."""
    words = {
        "status": word(statuses, "Invalid image status: must be", **status_options),
        "disk_format": word(api.disk_formats, **format_options),
        "container_format": word(api.container_formats, **format_options),
    }
    values = {field.name: words.get(field.name) or value_of(field) for field in BODY_FIELDS}
    others = {"properties": properties(), **{shape: locations(shape) for shape in LOCATION_SHAPES}}
    return Schema.from_dict(values | others | dict(extras))(unknown=EXCLUDE)


def value_of(field):
    """Return the rule for values of an image field."""
    options = {"allow_none": field.is_nullable}
    if field.kind == "text":
        return text(field.length, **options)
    if field.kind == "count":
        return count(field.largest, **options)
    return {"image_id": image_id, "flag": flag, "moment": moment}[field.kind](**options)


def load_new_image(schema, image, ignored=()):
    """Return the values of a new image.

    A null value counts as missing, except for a status: the reference refuses that too.
    """
    given = {name: value for name, value in image.items() if value is not None or name == "status"}
    return {"status": "active"} | load_image(schema, given, ignored)


def load_image(schema, image, ignored):
    counting = next((shape for shape in LOCATION_SHAPES if shape in image), None)
    ignored = {*ignored, *LOCATION_SHAPES} - {counting}
    values = load(schema, {name: value for name, value in image.items() if name not in ignored})
    if counting in values:
        values["locations"] = values.pop(counting) or []
    if values.get("owner") == "":
        values["owner"] = None
    return values


LOCATION = Schema.from_dict(
    {
        "url": Value(location_url, f"Must be {URL_RULE}.", required=True),
        "metadata": Value(metadata_text, "Must be an object.", load_default="{}"),
        "status": word(LOCATION_STATUSES, load_default="active"),
    }
)(unknown=EXCLUDE)


def require_object(body, key):
    if not isinstance(body.get(key), dict):
        raise Invalid({key: [f'Must be an object: {{"{key}": {{…}}}}.']})
    return body[key]


def load(schema, values):
    try:
        return schema.load(values)
    except ValidationError as error:
        raise Invalid({field: list(sentences(part)) for field, part in error.messages.items()}) from None


def sentences(messages, place=""):
    """Yield the sentences of nested messages, each after its place.

    ``{"0": {"url": ["Must be a URL."]}}`` gives ``0.url: Must be a URL.``
    """
    if isinstance(messages, list):
        yield from (f"{place}: {text}" if place else text for text in messages)
        return
    for name, part in messages.items():
        yield from sentences(part, f"{place}.{name}" if place else name)
