"""Sizes and times in the words of people."""

import unicodedata
from datetime import UTC, datetime

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
SPANS = (("year", 31_557_600), ("month", 2_629_800), ("day", 86_400), ("hour", 3_600), ("minute", 60))
LONGEST_TOLD = 120
# Letters and symbols that are drawn as nothing: fillers of Hangul, and Braille without a dot.
BLANKS = "\u115f\u1160\u3164\uffa0\u2800"


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


def is_visible(text):
    """Whether anything of it is to be seen: a letter, digit, sign or symbol, beside spaces, controls and joiners."""
    return any(unicodedata.category(character)[0] in "LNPS" and character not in BLANKS for character in text or "")
