"""Locations without what opens them, as people are shown them: in pages and at the terminal."""

import re

HIDDEN = "•••"
# scheme://user:password@host
USERINFO = re.compile(r"^([a-z][a-z0-9+.-]*:(?://)?)([^/?#]*)@", re.IGNORECASE | re.ASCII)
# Whatever its name: a signed URL carries its key there, and a key can stand there alone.
PARAMETER = re.compile(r"([?&;#])([^=&;#]*)(=?)([^&;#]*)")


def masked(url):
    """Neither user and password, nor the values of its parameters. What is None or empty stays so."""
    if not url:
        return url
    url = USERINFO.sub(lambda match: f"{match[1]}{HIDDEN}@", " ".join(url.split()))
    end = min((place for place in (url.find("?"), url.find("#")) if place >= 0), default=len(url))
    return url[:end] + PARAMETER.sub(hide_value, url[end:])


def hide_value(match):
    mark, name, equals, value = match.groups()
    if equals:
        return f"{mark}{name}={HIDDEN if value else ''}"
    return f"{mark}{HIDDEN if name else ''}"


def masked_record(record):
    """The record with its locations masked; their metadata is the store's own, and shown to nobody here."""
    shown = dict(record)
    if record.get("location") is not None:
        shown["location"] = masked(record["location"])
    shown["location_data"] = [
        {**entry, "url": masked(entry["url"]), "metadata": dict.fromkeys(entry["metadata"], HIDDEN)}
        for entry in record.get("location_data", [])
    ]
    return shown
