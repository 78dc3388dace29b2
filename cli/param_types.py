"""What people read and write: texts that no terminal acts on, and what options take: sizes, times, pairs."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import click
from marshmallow import ValidationError

from schemas import moment
from storage.fields import LARGEST_INTEGER, LARGEST_SMALL_INTEGER

# Joiners belong to letters and emoji; any other character that does not print could be an order to the terminal.
JOINERS = "\u200c\u200d"
POWERS = {letter: power for power, letter in enumerate("KMGTPE", 1)}
SIZE = re.compile(r"([0-9]{1,20})(\.[0-9]{1,6})?\s*(?:([KMGTPE])(i?B)?|B)?", re.IGNORECASE | re.ASCII)
UNITS_NAMED = {1: "bytes", 1024**2: "MB (1024²)", 1024**3: "GB (1024³)"}
DURATION = re.compile(r"([0-9]{1,4})([mhdw])", re.ASCII)
DURATION_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MOMENT = moment()


def cleaned(text):
    """The text with what does not print written as Python writes it: \\n, \\x1b."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in JOINERS else letter.encode("unicode_escape").decode()
        for letter in text
    )


class Size(click.ParamType):
    """Text such as 2G, 1.5T, 700MB, as a number of ``unit`` bytes; a bare number counts in units already."""

    name = "size"

    def __init__(self, unit=1):
        self.unit = unit
        self.most = LARGEST_INTEGER if unit == 1 else LARGEST_SMALL_INTEGER

    def convert(self, value, param, ctx):
        match = SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None or (match[2] and not match[3]):
            self.fail(f"{value!r} is no size: write 2G (1024³), 2GB (1000³), 512M, or a plain number.", param, ctx)
        whole, fraction, letter, ending = match.groups()
        if letter is None:
            count = int(whole)
        else:
            base = 1000 if ending and ending.upper() == "B" else 1024
            count, rest = divmod(round(Decimal(whole + (fraction or "")) * base ** POWERS[letter.upper()]), self.unit)
            if rest:
                self.fail(f"{value!r} is no whole number of {UNITS_NAMED[self.unit]}.", param, ctx)
        if count > self.most:
            self.fail(f"{value!r} is too large: {self.most:,} is the most.", param, ctx)
        return count


class Duration(click.ParamType):
    """Text such as 30d, as a timedelta."""

    name = "duration"

    def convert(self, value, param, ctx):
        match = DURATION.fullmatch(value)
        if not match:
            self.fail("Must be a number and one of m, h, d, w: 30d, 12h, 2w.", param, ctx)
        return timedelta(**{DURATION_UNITS[match[2]]: int(match[1])})


class Since(click.ParamType):
    """A time as the API takes it, or how long ago: 2d, 12h."""

    name = "time"

    def convert(self, value, param, ctx):
        if DURATION.fullmatch(value):
            moment = datetime.now(UTC) - Duration().convert(value, param, ctx)
            return moment.replace(tzinfo=None).isoformat(timespec="microseconds")
        try:
            return MOMENT.deserialize(value)
        except ValidationError:
            self.fail(f"{value!r} is no time: write 2026-11-24, 2026-11-24T10:00Z, or how long ago: 2d.", param, ctx)


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


def plain_option(field):
    """Return the option of an image field, as the table of fields describes it."""
    name = field.name.replace("_", "-")
    if field.kind == "flag":
        return click.option(f"--{name}/--no-{name}", default=None, help=f"{field.label}.")
    return click.option(f"--{name}", type=Size() if field.kind == "count" else None, help=f"{field.label}.")
