"""What people read and write: texts that no terminal acts on, sizes, times, names and values."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import click

# Joiners belong to letters and emoji; any other character that does not print could be an order to the terminal.
JOINERS = "\u200c\u200d"
BINARY_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
POWERS = {letter: power for power, letter in enumerate("KMGTPE", 1)}
SIZE = re.compile(r"([0-9]{1,20})(\.[0-9]{1,6})?\s*(?:([KMGTPE])(i?B)?|B)?", re.IGNORECASE | re.ASCII)
AGO = re.compile(r"([0-9]{1,4})([mhdw])", re.ASCII)
AGES = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# (up to so many seconds, seconds of the unit, its name)
SPANS = ((3600, 60, "minute"), (86400, 3600, "hour"), (30 * 86400, 86400, "day"), (365 * 86400, 30 * 86400, "month"))
YEAR = 365 * 86400


def cleaned(text):
    """The text with what does not print written as Python writes it: \\n, \\x1b."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in JOINERS else letter.encode("unicode_escape").decode()
        for letter in text
    )


def human_size(count):
    """Such as 20.4 MiB; what is exact to a byte below a kibibyte."""
    if count is None:
        return ""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in BINARY_UNITS:
        value /= 1024
        if value < 999.95 or unit == BINARY_UNITS[-1]:
            return f"{value:.1f} {unit}"
    return None


def human_time(text, now=None):
    """How long ago the API's time was: 3 days ago."""
    if text is None:
        return ""
    then = datetime.fromisoformat(text).replace(tzinfo=UTC)
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    if abs(seconds) < 60:
        return "just now"
    span = abs(seconds)
    unit, name = next(((unit, name) for most, unit, name in SPANS if span < most), (YEAR, "year"))
    count = int(span // unit)
    words = f"{count} {name}{'s' if count > 1 else ''}"
    return f"{words} ago" if seconds > 0 else f"in {words}"


class Size(click.ParamType):
    """Text such as 2G, 1.5T, 700MB, as a number of ``unit`` bytes; a bare number counts in units already."""

    name = "size"

    def __init__(self, unit=1):
        self.unit = unit

    def convert(self, value, param, ctx):
        match = SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None or (match[2] and not match[3]):
            self.fail(f"{value!r} is no size: write 2G (1024³), 2GB (1000³), 512M, or a plain number.", param, ctx)
        whole, fraction, letter, ending = match.groups()
        if letter is None:
            return int(whole)  # the API says what is too large
        base = 1000 if ending and ending.upper() == "B" else 1024
        count = round(Decimal(whole + (fraction or "")) * base ** POWERS[letter.upper()])
        return -(-count // self.unit)


class Since(click.ParamType):
    """A time as the API takes it, or how long ago: 2d, 12h."""

    name = "time"

    def convert(self, value, param, ctx):
        match = AGO.fullmatch(value)
        if not match:
            return value
        moment = datetime.now(UTC) - timedelta(**{AGES[match[2]]: int(match[1])})
        return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


class Pair(click.ParamType):
    """NAME=VALUE, as a tuple."""

    name = "pair"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not name or not equals:
            self.fail(f"{value!r} must be NAME=VALUE.", param, ctx)
        return name, text
