"""Labels of fields, values, history entries and errors, for the templates."""

import re
import unicodedata

from formatting import format_exact_size, format_size
from schemas import UNCLEAN_NAMES
from storage.fields import FIELDS

LONGEST_TOLD = 120
PROPERTY = "property "
# Labels of the fields in forms, conflicts, errors and the history.
LABELS = {field.name: field.label for field in FIELDS if field.label}
LABELS |= {"locations": "Locations", "properties": "Properties", "member_id": "Tenant"}
SIZES = ("size", "virtual_size")
# Phrases of API errors, and their replacements on a page.
PAGE_PHRASES = (
    (", or null.", ", or left empty."),
    (f", without {UNCLEAN_NAMES}", ", without NUL"),
    ("set protected to false first", "unprotect it first"),
    (
        "Must be a URL with a scheme",
        "Must be a URL with a scheme, such as file:///srv/a.qcow2 or https://example.org/a",
    ),
)
PLACE = re.compile(r"(\d+)(?:\.url)?: ")
# Letters and symbols without ink: fillers of Hangul, and Braille without a dot.
BLANKS = "\u115f\u1160\u3164\uffa0\u2800"


def exact_time(moment):
    """Return a time of the API to the second."""
    return f"{moment[:10]} {moment[11:19]} UTC"


def display_value(value):
    """Return a value as one line of text."""
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shorten(str(value))


def shorten(text):
    return text if len(text) <= LONGEST_TOLD else f"{text[:LONGEST_TOLD]}…"


def label(field):
    """Return the label of a field, or of "property …"."""
    return f"Property {field.removeprefix(PROPERTY)}" if field.startswith(PROPERTY) else LABELS.get(field, field)


def page_message(text, field=""):
    """Return an API error in the words of a page; locations are numbered by line."""
    for phrase, replacement in PAGE_PHRASES:
        text = text.replace(phrase, replacement)
    return PLACE.sub(lambda place: f"Line {int(place[1]) + 1}: ", text) if field == "locations" else text


def describe_change(change):
    """Return the title, name and values of a history entry.

    Returns: (title, name or None, [(value, exact value or None)] before and after); no values for members.
    """
    field, name = change["field"], change.get("name")
    if field == "member":
        return describe_member_change(change), name, []
    title = {"property": "Property", **LABELS}.get(field, field).removesuffix(" in bytes")
    sides = [
        (change_value(field, change[side]), exact_value(field, change[side])) if side in change else ("–", None)
        for side in ("from", "to")
    ]
    return title, name, sides if "from" in change or "to" in change else []


def describe_member_change(change):
    if "to" not in change:
        return "No longer shared with"
    if "from" in change:
        return "May now share it with others:" if change["to"] else "May no longer share it with others:"
    return "Shared, with the right to share it, with" if change["to"] else "Shared with"


def change_value(field, value):
    if field == "visibility":
        return "public" if value == "public" else "private"
    return format_size(value) if field in SIZES and value is not None else display_value(value)


def exact_value(field, value):
    return format_exact_size(value) if field in SIZES and value is not None else None


def is_visible(text):
    """Return whether a text has a visible character: a letter, digit, mark or symbol."""
    return any(unicodedata.category(character)[0] in "LNPS" and character not in BLANKS for character in text or "")
