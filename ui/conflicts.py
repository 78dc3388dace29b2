"""Two who edit the same image: both versions side by side, and a choice for each field."""

from zlib import crc32

from ui import forms, labels
from ui.rendering import render

CHOICE = "choice "


def clash_page(seen, fields):
    """412: the record has changed since the form was filled in."""
    theirs, mine = forms.values_of_record(seen.record), forms.values_of_fields(fields, seen.record)
    before = read_base(forms.first(fields, "base"))
    rows = [
        {
            "field": field,
            "title": labels.label(field),
            "mine": value_told(field, mine.get(field)),
            "theirs": value_told(field, theirs.get(field)),
            # Who has not touched a field wants it as it is now.
            "is_touched": before is None or before.get(sum_of(field)) != sum_of(mine.get(field)),
        }
        for field in dict.fromkeys([*theirs, *mine])
        if mine.get(field) != theirs.get(field)
    ]
    kept = {"scalars": {name: mine[name] for name in (*forms.TEXTS, *forms.FLAGS, "locations")}}
    return render(
        "clash.html",
        412,
        seen=seen,
        image=seen.record,
        rows=rows,
        kept=kept,
        properties=forms.rows_of_values(mine),
        tag=seen.tag,
        base=base_of(theirs),
    )


def base_of(values):
    """What stood in a form at first, as checksums of each field and its value: enough to tell who has touched it."""
    return " ".join(sum_of(field) + sum_of(value) for field, value in values.items())


def read_base(text):
    """{checksum of a field: checksum of its value}, or None where the form did not bring it along."""
    return {part[:8]: part[8:] for part in text.split()} or None


def sum_of(text):
    """None for what is not there."""
    return None if text is None else f"{crc32(text.encode()):08x}"


def value_told(field, value):
    return ("yes" if value else "no") if field in forms.FLAGS else value


def chosen(fields, mine, theirs):
    """The form's values, but where a clash was decided for what is stored."""
    values = dict(mine)
    for field in {*mine, *theirs}:
        if forms.first(fields, CHOICE + field) == "theirs":
            values.pop(field, None)
            if field in theirs:
                values[field] = theirs[field]
    return values
