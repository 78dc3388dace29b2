"""Edit conflicts: both versions of an image side by side, with a choice for each field."""

from zlib import crc32

from ui import forms, labels
from ui.rendering import render

CHOICE = "choice "


def conflict_page(seen, fields):
    """Return the page (412) of a record that changed while its form was open."""
    theirs, mine = forms.values_of_record(seen.record), forms.values_of_fields(fields, seen.record)
    before = read_base(forms.first(fields, "base"))
    rows = [
        {
            "field": field,
            "title": labels.label(field),
            "mine": display_value(field, mine.get(field)),
            "theirs": display_value(field, theirs.get(field)),
            # An untouched field takes the stored value.
            "is_touched": before is None or before.get(sum_of(field)) != sum_of(mine.get(field)),
        }
        for field in dict.fromkeys([*theirs, *mine])
        if mine.get(field) != theirs.get(field)
    ]
    kept = {"scalars": {name: mine[name] for name in (*forms.TEXTS, *forms.FLAGS, "locations")}}
    return render(
        "conflict.html",
        412,
        seen=seen,
        image=seen.record,
        rows=rows,
        kept=kept,
        properties=forms.rows_of_values(mine),
        etag=seen.etag,
        base=base_of(theirs),
    )


def base_of(values):
    """Return checksums of fields and first values, to detect edited fields."""
    return " ".join(sum_of(field) + sum_of(value) for field, value in values.items())


def read_base(text):
    """Return {field checksum: value checksum}, or None if the form sent none."""
    return {part[:8]: part[8:] for part in text.split()} or None


def sum_of(text):
    """Return the CRC-32 of a text in hexadecimal, or None for None."""
    return None if text is None else f"{crc32(text.encode()):08x}"


def display_value(field, value):
    return ("yes" if value else "no") if field in forms.FLAGS else value


def resolve(fields, mine, theirs):
    """Return the form's values, with the stored ones where they were chosen."""
    values = dict(mine)
    for field in {*mine, *theirs}:
        if forms.first(fields, CHOICE + field) == "theirs":
            values.pop(field, None)
            if field in theirs:
                values[field] = theirs[field]
    return values
