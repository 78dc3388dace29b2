"""Formatting for people: sizes, times, redacted locations, and ``file:`` URLs."""

import os
import re
from datetime import UTC, datetime
from urllib.parse import quote, unquote_to_bytes, urlsplit

UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
# (up to so many seconds, seconds of the unit, its name)
SPANS = ((3600, 60, "minute"), (86400, 3600, "hour"), (30 * 86400, 86400, "day"), (365 * 86400, 30 * 86400, "month"))
YEAR = 365 * 86400
MASK = "•••"
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:[/\\]+", re.IGNORECASE | re.ASCII)
COLON = re.compile(r":|%3a", re.IGNORECASE)
# Whatever its name: a signed URL carries its key there, and a key can stand there alone.
PARAMETER = re.compile(r"([?&;#])([^=&;#]*)(=?)([^&;#]*)")
PARAMETERS = re.compile(r"[?&;#].*")
PARAMETERS_OF_FILE = re.compile(r"[?#].*")
SAFE = "/-._~!$&'()*+,;=:@"  # what RFC 3986 lets stand in a path


def format_size(count):
    """Return a size such as "20.4 MiB", in bytes below a kibibyte."""
    if count is None:
        return ""
    if count < 1024:
        return format_exact_size(count)
    value = float(count)
    for unit in UNITS:
        value /= 1024
        if value < 999.95 or unit == UNITS[-1]:
            break
    return f"{value:.1f} {unit}"


def format_exact_size(count):
    """Return a size in bytes, such as "1,024 bytes"."""
    return format_count(count, "byte")


def format_age(text, now=None):
    """Return the age of an API time, such as "3 days ago"."""
    if text is None:
        return ""
    then = datetime.fromisoformat(text).replace(tzinfo=UTC)
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    span = abs(seconds)
    if span < 60:
        return "just now"
    unit, name = next(((unit, name) for most, unit, name in SPANS if span < most), (YEAR, "year"))
    told = format_count(int(span // unit), name)
    return f"{told} ago" if seconds > 0 else f"in {told}"


def format_count(count, noun):
    """Return a count with its noun, such as "1 image" or "2,000 images"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def redact_url(url):
    """Return a URL without credentials and values of parameters."""
    if not url:
        return url
    url = " ".join(url.split())
    scheme = SCHEME.match(url)
    start = scheme[0] if scheme else ""
    place, parameters = url.removeprefix(start), PARAMETERS_OF_FILE
    if start.lower() != "file:///":  # no host, so nobody to be: a file's name is all it is
        place, parameters = without_user(place, not start.endswith("//")), PARAMETERS
    return start + parameters.sub(lambda match: PARAMETER.sub(mask_value, match[0]), place)


def without_user(place, is_odd):
    """Return a URL's rest without user and password.

    Keys of stores come unescaped, with "/" and "@": text up to the last "@" is masked if it may be a user. If a
    parameter may begin before that "@", everything is masked.
    """
    user, at, rest = place.rpartition("@")
    if not at or not (is_odd or COLON.search(user) or "@" in re.split(r"[/?#]", place, maxsplit=1)[0]):
        return place
    return MASK if PARAMETERS.search(user) else f"{MASK}@{rest}"


def mask_value(match):
    """Return a parameter with its value masked."""
    mark, name, equals, value = match.groups()
    if equals:
        return f"{mark}{name}={MASK if value else ''}"
    return f"{mark}{MASK if name else ''}"


def redact_record(record):
    """Return the record with redacted locations and masked location metadata."""
    shown = dict(record)
    if record.get("location") is not None:
        shown["location"] = redact_url(record["location"])
    shown["location_data"] = [
        {**entry, "url": redact_url(entry["url"]), "metadata": dict.fromkeys(entry["metadata"], MASK)}
        for entry in record.get("location_data", [])
    ]
    return shown


def file_url(path):
    """Return the file: URL of an absolute path."""
    return f"file://{quote(os.fsencode(path), safe=SAFE)}"


def path_of_url(url):
    """Return the local path that a URL names, or None."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    content = unquote_to_bytes(parts.path)
    return os.fsdecode(content) if content.startswith(b"/") and b"\0" not in content else None


def local_file(image):
    """Return the path of the first location that is a local file, or None."""
    urls = [entry["url"] for entry in image["location_data"]]
    return next((path for path in map(path_of_url, urls) if path is not None), None)
