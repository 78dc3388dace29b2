"""Parameter types of options (sizes, times, pairs), and escaping for terminals."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import click
from marshmallow import ValidationError

from schemas import moment
from storage.fields import LARGEST_INTEGER, LARGEST_SMALL_INTEGER

# Joiners belong to letters and emoji; other unprintable characters can control a terminal.
JOINERS = "\u200c\u200d"
POWERS = {letter: power for power, letter in enumerate("KMGTPE", 1)}
SIZE = re.compile(r"([0-9]{1,20})(\.[0-9]{1,6})?\s*(?:([KMGTPE])(i?B)?|B)?", re.IGNORECASE | re.ASCII)
UNITS_NAMED = {1: "bytes", 1024**2: "MB (1024²)", 1024**3: "GB (1024³)"}
DURATION = re.compile(r"([0-9]{1,4})([mhdw])", re.ASCII)
DURATION_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MOMENT = moment()


def cleaned(text):
    """Return the text with control characters escaped as in Python: \\n, \\x1b."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in JOINERS else letter.encode("unicode_escape").decode()
        for letter in text
    )


class Size(click.ParamType):
    """Size such as 2G, 1.5T, 700MB, converted to units of ``unit`` bytes; a plain number is in units."""

    name = "size"

    def __init__(self, unit=1):
        self.unit = unit
        self.most = LARGEST_INTEGER if unit == 1 else LARGEST_SMALL_INTEGER

    def convert(self, value, param, ctx):
        match = SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None or (match[2] and not match[3]):
            self.fail(f"{value!r} is not a size; write 2G (1024³), 2GB (1000³), 512M, or a plain number.", param, ctx)
        whole, fraction, letter, ending = match.groups()
        if letter is None:
            count = int(whole)
        else:
            base = 1000 if ending and ending.upper() == "B" else 1024
            count, rest = divmod(round(Decimal(whole + (fraction or "")) * base ** POWERS[letter.upper()]), self.unit)
            if rest:
                self.fail(f"{value!r} is not a whole number of {UNITS_NAMED[self.unit]}.", param, ctx)
        if count > self.most:
            self.fail(f"{value!r} is too large; the maximum is {self.most:,}.", param, ctx)
        return count


class Duration(click.ParamType):
    """Duration such as 30d, converted to a timedelta."""

    name = "duration"

    def convert(self, value, param, ctx):
        match = DURATION.fullmatch(value)
        if not match:
            self.fail(f"{value!r} is not a duration; write a number and one of m, h, d, w: 30d, 12h, 2w.", param, ctx)
        return timedelta(**{DURATION_UNITS[match[2]]: int(match[1])})


class Since(click.ParamType):
    """Time in the API's format, or an age: 2d, 12h."""

    name = "time"

    def convert(self, value, param, ctx):
        if DURATION.fullmatch(value):
            moment = datetime.now(UTC) - Duration().convert(value, param, ctx)
            return moment.replace(tzinfo=None).isoformat(timespec="microseconds")
        try:
            return MOMENT.deserialize(value)
        except ValidationError:
            self.fail(
                f"{value!r} is not a time; write 2026-11-24, 2026-11-24T10:00Z, or an age such as 2d.", param, ctx
            )


class Pair(click.ParamType):
    """NAME=VALUE pair, converted to a tuple."""

    name = "pair"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is not of the form NAME=VALUE.", param, ctx)
        return name, text


def plain_option(field):
    """Return the option of an image field, as the table of fields describes it."""
    name = field.name.replace("_", "-")
    if field.kind == "flag":
        return click.option(f"--{name}/--no-{name}", default=None, help=f"{field.label}.")
    return click.option(f"--{name}", type=Size() if field.kind == "count" else None, help=f"{field.label}.")
