"""Two who edit the same image: both versions side by side, and a choice for each field."""

import json

from ui import forms, sessions
from ui.pages import render

CHOICE = "choice "


def clash_page(seen, mine, base):
    """412: the record has changed since the form was filled in; ``base`` is what stood in it then, as JSON."""
    theirs, before = forms.values_of_record(seen.record), read_base(base)
    rows = [
        {
            "field": field,
            "title": title_of(field),
            "mine": mine.get(field),
            "theirs": theirs.get(field),
            # Who has not touched a field wants it as it is now.
            "choice": "theirs" if before is not None and mine.get(field) == before.get(field) else "mine",
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
        base=json.dumps(theirs),
        form_token=sessions.form_token,
    )


def read_base(text):
    try:
        base = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return base if isinstance(base, dict) else None


def title_of(field):
    if field.startswith(forms.PROPERTY):
        return f"Property {field.removeprefix(forms.PROPERTY)}"
    return {"is_public": "Public", "virtual_size": "Virtual size"}.get(field, field.replace("_", " ").capitalize())


def chosen(fields, mine, theirs):
    """The form's values, but where a clash was decided for what is stored."""
    values = dict(mine)
    for field in {*mine, *theirs}:
        if forms.first(fields, CHOICE + field) == "theirs":
            values.pop(field, None)
            if field in theirs:
                values[field] = theirs[field]
    return values
