"""Sizes and times, fields, changes and refusals in the words of people, for the templates."""

import re
import unicodedata

from formatting import format_exact_size, format_size
from schemas import UNCLEAN_NAMES

LONGEST_TOLD = 120
PROPERTY = "property "
# Fields as forms, clashes, refusals and the history call them.
LABELS = {
    "name": "Name",
    "status": "Status",
    "disk_format": "Disk format",
    "container_format": "Container format",
    "size": "Size in bytes",
    "virtual_size": "Virtual size in bytes",
    "checksum": "Checksum",
    "min_disk": "Disk needed, in GiB",
    "min_ram": "Memory needed, in MiB",
    "owner": "Owner",
    "visibility": "Visibility",
    "is_public": "Public",
    "protected": "Protected from deletion",
    "locations": "Locations",
    "properties": "Properties",
    "member_id": "Tenant",
}
SIZES = ("size", "virtual_size")
# What the API says to programs, and what a page says instead.
SAID = (
    (", or null.", ", or left empty."),
    (f", without {UNCLEAN_NAMES}", ", without NUL"),
    ("set protected to false first", "unprotect it first"),
    (
        "Must be a URL with a scheme",
        "Must be a URL with a scheme, such as file:///srv/a.qcow2 or https://example.org/a",
    ),
)
PLACE = re.compile(r"(\d+)(?:\.url)?: ")
# Letters and symbols that are drawn as nothing: fillers of Hangul, and Braille without a dot.
BLANKS = "\u115f\u1160\u3164\uffa0\u2800"


def exact_time(moment):
    """The API's time, to the second."""
    return f"{moment[:10]} {moment[11:19]} UTC"


def told(value):
    """A value in one line."""
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shortened(str(value))


def shortened(text):
    return text if len(text) <= LONGEST_TOLD else f"{text[:LONGEST_TOLD]}…"


def label(field):
    """Of a field, or of "property …"."""
    return f"Property {field.removeprefix(PROPERTY)}" if field.startswith(PROPERTY) else LABELS.get(field, field)


def reason(text, field=""):
    """A refusal's text as a page says it; a list of locations has a line for each."""
    for said, told_instead in SAID:
        text = text.replace(said, told_instead)
    return PLACE.sub(lambda place: f"Line {int(place[1]) + 1}: ", text) if field == "locations" else text


def change_told(change):
    """An entry of the history: (what was changed, its name or None, [(value, exact value or None) before and after]).

    The values are none where all is said.
    """
    field, name = change["field"], change.get("name")
    if field == "member":
        return member_told(change), name, []
    title = {"property": "Property", **LABELS}.get(field, field).removesuffix(" in bytes")
    sides = [
        (side_told(field, change[side]), exact_told(field, change[side])) if side in change else ("–", None)
        for side in ("from", "to")
    ]
    return title, name, sides if "from" in change or "to" in change else []


def member_told(change):
    if "to" not in change:
        return "No longer shared with"
    if "from" in change:
        return "May share it on now:" if change["to"] else "May no longer share it on:"
    return "Shared, to be shared on, with" if change["to"] else "Shared with"


def side_told(field, value):
    if field == "visibility":
        return "public" if value == "public" else "private"
    return format_size(value) if field in SIZES and value is not None else told(value)


def exact_told(field, value):
    return format_exact_size(value) if field in SIZES and value is not None else None


def is_visible(text):
    """Whether anything of it is to be seen: a letter, digit, sign or symbol, beside spaces, controls and joiners."""
    return any(unicodedata.category(character)[0] in "LNPS" and character not in BLANKS for character in text or "")
