"""Sizes, times and addresses in the words of people."""

import re
from datetime import UTC, datetime

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
SPANS = (("year", 31_557_600), ("month", 2_629_800), ("day", 86_400), ("hour", 3_600), ("minute", 60))
HIDDEN = "•••"
LONGEST_TOLD = 120
# scheme://user:password@host
USERINFO = re.compile(r"^([a-z][a-z0-9+.-]*:(?://)?)([^/?#]*)@", re.IGNORECASE | re.ASCII)
# Of what is asked for, all that can be a key, a signature or a password.
SECRET = re.compile(r"key|sig|token|secret|pass|pwd|cred|auth|policy|session", re.IGNORECASE)
PARAMETER = re.compile(r"([?&;#])([^=&;#]{1,200})=([^&;#]*)")


def human_size(count):
    """1,536 → 1.5 KiB, such that no more than four digits are to be read."""
    amount, unit = float(count), 0
    while amount >= 1023.95 and unit < len(UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    if unit == 0:
        return "1 byte" if count == 1 else f"{count:,} bytes"
    return f"{amount:.1f} {UNITS[unit]}"


def exact_size(count):
    return "1 byte" if count == 1 else f"{count:,} bytes"


def exact_time(moment):
    """The API's time, to the second."""
    return f"{moment[:10]} {moment[11:19]} UTC"


def relative_time(moment, now=None):
    """3 days ago."""
    now = now or datetime.now(UTC).replace(tzinfo=None)
    seconds = (now - datetime.fromisoformat(moment)).total_seconds()
    ending = "ago" if seconds >= 0 else "from now"
    for name, length in SPANS:
        count = int(abs(seconds) // length)
        if count:
            return f"{count} {name}{'s' if count > 1 else ''} {ending}"
    return "just now" if seconds >= 0 else "in a moment"


def masked(url):
    """A location without what opens it: neither user and password, nor keys and signatures among its parameters."""
    url = USERINFO.sub(lambda match: f"{match[1]}{HIDDEN}@", " ".join(url.split()))
    return PARAMETER.sub(hide_secret, url)


def hide_secret(match):
    mark, name, value = match.groups()
    return f"{mark}{name}={HIDDEN if value and SECRET.search(name) else value}"


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


def counted(count, noun):
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def told(value):
    """A value of the history, in one line."""
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text if len(text) <= LONGEST_TOLD else f"{text[:LONGEST_TOLD]}…"
