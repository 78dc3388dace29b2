"""HTML forms: submitted fields, and conversion between image records and form texts."""

from typing import Any
from urllib.parse import parse_qsl

from flask import g, request

from errors import Invalid, TooLarge, UnsupportedMediaType
from formatting import MASK, redact_url
from storage.fields import WRITABLE_FIELDS, names_of
from ui import sessions
from ui.labels import PROPERTY, shorten
from web import read_chunks

FORM_TYPE = "application/x-www-form-urlencoded"
# A conflict page sends three fields for each property.
MOST_PROPERTIES = 9_000
MOST_FIELDS = 3 * MOST_PROPERTIES + 1_000
# Percent-encoding triples a byte (%C3); the overhead is for the names of the fields.
FORM_GROWTH, FORM_OVERHEAD = 3, 1 << 20
TEXTS = names_of(field for field in WRITABLE_FIELDS if field.kind != "flag")
FLAGS = names_of(field for field in WRITABLE_FIELDS if field.kind == "flag")
WRITTEN = (*TEXTS, "locations", "property_name", "property_value")
# An empty field is null, except for fields that are never null.
NOT_NULL = {field.name: field.default for field in WRITABLE_FIELDS if field.kind == "count" and not field.is_nullable}


def read_form():
    """Return the submitted fields {name: [value, …]}, after CSRF and size checks.

    Raises: UnsupportedMediaType, TooLarge, Invalid; Forbidden for a wrong CSRF token.
    """
    fields = read_fields()
    sessions.require_form_token(first(fields, "form_token"))
    require_room([text for name in WRITTEN for text in fields.get(name, ())])
    return fields


def require_room(texts):
    """Raise TooLarge for texts larger than a request body of the API."""
    limit = request.settings.api.max_body_bytes
    if sum(len(text.encode()) for text in texts) > limit:
        raise TooLarge(f"The form is larger than the {limit:,} bytes that [api] max_body_bytes allows.")


def require_sendable(values, rows):
    """Raise TooLarge for an image whose form would be too large to submit."""
    scalars = [values[name] for name in (*TEXTS, "locations")]
    require_room([*scalars, *[part for row in rows for part in row]])
    if len(rows) > MOST_PROPERTIES:
        raise TooLarge(f"A form has room for {MOST_PROPERTIES:,} properties.")


def read_fields():
    """Return the submitted fields without the CSRF check, cached in ``g.fields``."""
    if "fields" in g:
        return g.fields
    if request.mimetype != FORM_TYPE:
        raise UnsupportedMediaType(f"A form must be sent as {FORM_TYPE}.")
    limit = request.settings.api.max_body_bytes * FORM_GROWTH + FORM_OVERHEAD
    content = b"".join(read_chunks(limit + 1))
    if len(content) > limit:
        raise TooLarge(f"The form is larger than the {limit:,} bytes that [api] max_body_bytes allows it.")
    try:
        pairs = parse_qsl(content.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise Invalid({"form": [f"Must be UTF-8, of at most {MOST_FIELDS} fields."]}) from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value.replace("\r\n", "\n"))
    g.fields = fields
    return fields


def first(fields, name):
    return fields.get(name, [""])[0]


def values_of_record(record) -> dict[str, str]:
    """Return the form texts of a record; ``locations`` has one per line."""
    values = {name: "" if record[name] is None else one_line(str(record[name])) for name in TEXTS}
    values |= {name: "true" if record[name] else "" for name in FLAGS}
    values["locations"] = "\n".join(redact_url(entry["url"]) for entry in record["location_data"])
    for name, value in record["properties"].items():
        values[PROPERTY + plain(name)] = plain(value or "")
    return values


def values_of_fields(fields, record=None) -> dict[str, str]:
    """Return the form texts of submitted fields; missing ones come from ``record``."""
    values = scalars_of_fields(fields, values_of_record(record) if record else {})
    for name, value in rows_of_fields(fields):
        if name:
            values.setdefault(PROPERTY + name, value)
    return values


def faults_of_fields(fields, record=None) -> dict[str, list[str]]:
    """Return {field: [error]} of errors that a request body cannot have."""
    locations = locations_of(scalars_of_fields(fields)["locations"], record)
    masked_text = f"Must be complete if it is new or changed; {MASK} stands for a stored secret."
    faults = {
        "properties": property_faults(rows_of_fields(fields)),
        "locations": [masked_text] if any(MASK in location["url"] for location in locations) else [],
    }
    return {name: texts for name, texts in faults.items() if texts}


def property_faults(rows):
    named: dict[str, set] = {}
    for name, value in rows:
        named.setdefault(name, set()).add(value)
    nameless = [value for value in sorted(named.pop("", ())) if value]
    return [
        *(f"The value {shorten(value)} has no name: enter a name, or clear the value." for value in nameless),
        *(f"{name}: Must not occur twice." for name, values in named.items() if len(values) > 1),
    ]


def scalars_of_fields(fields, before=None) -> dict[str, str]:
    values = {name: one_line(fields.get(name, [(before or {}).get(name, "")])[0]) for name in TEXTS}
    values |= {name: "true" if first(fields, name) else "" for name in FLAGS}
    lines = (line.strip() for part in fields.get("locations", ()) for line in part.split("\n"))
    return values | {"locations": "\n".join(filter(None, lines))}


def rows_of_fields(fields) -> list[tuple[str, str]]:
    """Return [(name, value)] of the property rows of the form, empty ones included."""
    return list(zip(fields.get("property_name", ()), fields.get("property_value", ()), strict=False))


def rows_of_values(values) -> list[tuple[str, str]]:
    return [(name.removeprefix(PROPERTY), value) for name, value in values.items() if name.startswith(PROPERTY)]


def one_line(text):
    """Return the text as a single-line input submits it."""
    return text.replace("\r", "").replace("\n", "").strip()


def plain(text):
    """Return the text with line ends as a browser submits them, normalised to LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def defaults(api) -> dict[str, str]:
    """Return the form texts of a new image."""
    values = dict.fromkeys((*TEXTS, *FLAGS, "locations"), "")
    disk_format = "qcow2" if "qcow2" in api.disk_formats else api.disk_formats[0]
    container_format = "bare" if "bare" in api.container_formats else api.container_formats[0]
    given = {"status": "active", "disk_format": disk_format, "container_format": container_format}
    return values | given | {name: str(number) for name, number in NOT_NULL.items()}


def body_of(values, record=None) -> dict[str, Any]:
    """Return the request body of the changes to ``record``, or of a new image."""
    before = values_of_record(record) if record else {}
    image: dict[str, Any] = {}
    for name in TEXTS:
        if values[name] != before.get(name, ""):
            image[name] = values[name] or NOT_NULL.get(name)
    for name in FLAGS:
        if values[name] != before.get(name, ""):
            image[name] = bool(values[name])
    if values["locations"] != before.get("locations", ""):
        image["location_data"] = locations_of(values["locations"], record)
    properties = properties_of(values, record)
    if properties != (record["properties"] if record else {}):
        image["properties"] = properties
    return image


def locations_of(text, record):
    """Return location_data of the lines; stored ones keep secrets and metadata."""
    stored: dict[str, list] = {}
    for entry in record["location_data"] if record else ():
        stored.setdefault(redact_url(entry["url"]), []).append(entry)
    return [stored[line].pop(0) if stored.get(line) else {"url": line} for line in text.split("\n") if line]


def properties_of(values, record):
    """Return all properties; unedited ones keep their stored value (null, line ends)."""
    stored = {plain(name): (name, value) for name, value in (record["properties"] if record else {}).items()}
    properties = {}
    for field, value in values.items():
        if field.startswith(PROPERTY):
            name, before = stored.get(field.removeprefix(PROPERTY), (field.removeprefix(PROPERTY), value))
            properties[name] = before if plain(before or "") == value else value
    return properties
