"""Forms: read as browsers send them, and an image's fields as the texts that stand in them."""

from typing import Any
from urllib.parse import parse_qsl

from flask import g, request

from errors import Invalid, TooLarge, UnsupportedMediaType
from formatting import HIDDEN, redact_url
from ui import sessions
from ui.labels import PROPERTY, shortened
from web import read_chunks

FORM_TYPE = "application/x-www-form-urlencoded"
# A clash sends three fields for each property.
MOST_PROPERTIES = 9_000
MOST_FIELDS = 3 * MOST_PROPERTIES + 1_000
# Of a text each byte can come as three (%C3), and there are the fields' names.
FORM_GROWTH, FORM_OVERHEAD = 3, 1 << 20
TEXTS = ("name", "status", "disk_format", "container_format", "size", "virtual_size", "checksum")
TEXTS += ("min_disk", "min_ram", "owner")
FLAGS = ("is_public", "protected")
WRITTEN = (*TEXTS, "locations", "property_name", "property_value")
# An emptied field is null, but where nothing may be null.
NOT_NULL = {"min_disk": 0, "min_ram": 0}


def read_form():
    """{field: [value, …]} of the request, after it was found ours, and no larger than what the API takes.

    Raises UnsupportedMediaType, TooLarge, Invalid, and Forbidden for a form that is not ours.
    """
    fields = read_fields()
    sessions.require_form_token(first(fields, "form_token"))
    require_room([text for name in WRITTEN for text in fields.get(name, ())])
    return fields


def require_room(texts):
    """Raises TooLarge for more than a body of the API could say."""
    limit = request.settings.api.max_body_bytes
    if sum(len(text.encode()) for text in texts) > limit:
        raise TooLarge(f"All together is larger than the {limit:,} bytes that [api] max_body_bytes allows.")


def require_sendable(values, rows):
    """Raises TooLarge for an image whose form could not come back."""
    scalars = [values[name] for name in (*TEXTS, "locations")]
    require_room([*scalars, *[part for row in rows for part in row]])
    if len(rows) > MOST_PROPERTIES:
        raise TooLarge(f"A form has room for {MOST_PROPERTIES:,} properties.")


def read_fields():
    """What was sent, whoever has sent it: g.fields keeps it for the page that says why it is refused."""
    if "fields" in g:
        return g.fields
    if request.mimetype != FORM_TYPE:
        raise UnsupportedMediaType(f"A form is sent as {FORM_TYPE}.")
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
    """What stands in the form of a record: scalars, ``locations`` one a line, and each property."""
    values = {name: "" if record[name] is None else one_line(str(record[name])) for name in TEXTS}
    values |= {name: "true" if record[name] else "" for name in FLAGS}
    values["locations"] = "\n".join(redact_url(entry["url"]) for entry in record["location_data"])
    for name, value in record["properties"].items():
        values[PROPERTY + plain(name)] = plain(value or "")
    return values


def values_of_fields(fields, record=None) -> dict[str, str]:
    """The same, of a form that was sent; what it has no field for is as in the ``record``."""
    values = scalars_of_fields(fields, values_of_record(record) if record else {})
    for name, value in rows_of_fields(fields):
        if name:
            values.setdefault(PROPERTY + name, value)
    return values


def faults_of_fields(fields, record=None) -> dict[str, list[str]]:
    """{field: [what is wrong]} of what is no body's business, as a body has no place for it."""
    locations = locations_of(scalars_of_fields(fields)["locations"], record)
    masked_text = f"Must be whole where it is new or changed: {HIDDEN} stands for what is stored."
    faults = {
        "properties": property_faults(rows_of_fields(fields)),
        "locations": [masked_text] if any(HIDDEN in location["url"] for location in locations) else [],
    }
    return {name: texts for name, texts in faults.items() if texts}


def property_faults(rows):
    named: dict[str, set] = {}
    for name, value in rows:
        named.setdefault(name, set()).add(value)
    nameless = [value for value in sorted(named.pop("", ())) if value]
    return [
        *(f"The value {shortened(value)} has no name: give it one, or empty it too." for value in nameless),
        *(f"{name}: A property must not be named twice." for name, values in named.items() if len(values) > 1),
    ]


def scalars_of_fields(fields, before=None) -> dict[str, str]:
    values = {name: one_line(fields.get(name, [(before or {}).get(name, "")])[0]) for name in TEXTS}
    values |= {name: "true" if first(fields, name) else "" for name in FLAGS}
    lines = (line.strip() for part in fields.get("locations", ()) for line in part.split("\n"))
    return values | {"locations": "\n".join(filter(None, lines))}


def rows_of_fields(fields) -> list[tuple[str, str]]:
    """[(name, value)] of the properties as they stand in the form, empty ones too."""
    return list(zip(fields.get("property_name", ()), fields.get("property_value", ()), strict=False))


def rows_of_values(values) -> list[tuple[str, str]]:
    return [(name.removeprefix(PROPERTY), value) for name, value in values.items() if name.startswith(PROPERTY)]


def one_line(text):
    """As a field of one line gives it back: what it cannot hold is no change that somebody has made."""
    return text.replace("\r", "").replace("\n", "").strip()


def plain(text):
    """As a browser gives it back."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def defaults(api) -> dict[str, str]:
    """What stands in the form of a new image."""
    values = dict.fromkeys((*TEXTS, *FLAGS, "locations"), "")
    disk_format = "qcow2" if "qcow2" in api.disk_formats else api.disk_formats[0]
    container_format = "bare" if "bare" in api.container_formats else api.container_formats[0]
    given = {"status": "active", "disk_format": disk_format, "container_format": container_format}
    return values | given | {"min_disk": "0", "min_ram": "0"}


def body_of(values, record=None) -> dict[str, Any]:
    """The API's body that says what the form changes of ``record``; all that is given, where there is none yet."""
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
    """Those that are there stay as they are, with what the page has masked and their metadata."""
    stored: dict[str, list] = {}
    for entry in record["location_data"] if record else ():
        stored.setdefault(redact_url(entry["url"]), []).append(entry)
    return [stored[line].pop(0) if stored.get(line) else {"url": line} for line in text.split("\n") if line]


def properties_of(values, record):
    """All of them; one that the form has left as it showed it stays as it was, null or with its line ends."""
    stored = {plain(name): (name, value) for name, value in (record["properties"] if record else {}).items()}
    properties = {}
    for field, value in values.items():
        if field.startswith(PROPERTY):
            name, before = stored.get(field.removeprefix(PROPERTY), (field.removeprefix(PROPERTY), value))
            properties[name] = before if plain(before or "") == value else value
    return properties
