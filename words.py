"""Sizes, times and counts in the words of people: the same in the commands and on the pages."""

from datetime import UTC, datetime

UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
# (up to so many seconds, seconds of the unit, its name)
SPANS = ((3600, 60, "minute"), (86400, 3600, "hour"), (30 * 86400, 86400, "day"), (365 * 86400, 30 * 86400, "month"))
YEAR = 365 * 86400


def size(count):
    """Such as 20.4 MiB, of at most four digits; what is exact to a byte below a kibibyte."""
    if count is None:
        return ""
    if count < 1024:
        return exact_size(count)
    value = float(count)
    for unit in UNITS:
        value /= 1024
        if value < 999.95 or unit == UNITS[-1]:
            break
    return f"{value:.1f} {unit}"


def exact_size(count):
    return counted(count, "byte")


def ago(text, now=None):
    """How long ago the API's time was: 3 days ago."""
    if text is None:
        return ""
    then = datetime.fromisoformat(text).replace(tzinfo=UTC)
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    span = abs(seconds)
    if span < 60:
        return "just now"
    unit, name = next(((unit, name) for most, unit, name in SPANS if span < most), (YEAR, "year"))
    told = counted(int(span // unit), name)
    return f"{told} ago" if seconds > 0 else f"in {told}"


def counted(count, noun):
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
