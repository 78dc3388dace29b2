"""Locations without what opens them, as people are shown them: in pages and at the terminal."""

import re

HIDDEN = "•••"
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:[/\\]+", re.IGNORECASE | re.ASCII)
COLON = re.compile(r":|%3a", re.IGNORECASE)
# Whatever its name: a signed URL carries its key there, and a key can stand there alone.
PARAMETER = re.compile(r"([?&;#])([^=&;#]*)(=?)([^&;#]*)")
PARAMETERS = re.compile(r"[?&;#].*")
PARAMETERS_OF_FILE = re.compile(r"[?#].*")


def masked(url):
    """Neither user and password, nor the values of its parameters. What is None or empty stays so."""
    if not url:
        return url
    url = " ".join(url.split())
    scheme = SCHEME.match(url)
    start = scheme[0] if scheme else ""
    place, parameters = url.removeprefix(start), PARAMETERS_OF_FILE
    if start.lower() != "file:///":  # no host, so nobody to be: a file's name is all it is
        place, parameters = without_user(place, not start.endswith("//")), PARAMETERS
    return start + parameters.sub(lambda match: PARAMETER.sub(hide_value, match[0]), place)


def without_user(place, is_odd):
    """Stores' keys come unescaped, with ``/`` and ``@``: what ends in the last ``@`` is hidden where it may be a user.

    Where a parameter could begin before that, nothing tells which ``@`` it is: all is hidden.
    """
    user, at, rest = place.rpartition("@")
    if not at or not (is_odd or COLON.search(user) or "@" in re.split(r"[/?#]", place, maxsplit=1)[0]):
        return place
    return HIDDEN if PARAMETERS.search(user) else f"{HIDDEN}@{rest}"


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
