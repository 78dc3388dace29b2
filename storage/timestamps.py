"""Timestamps of records: ISO 8601 in UTC, 26 characters, microseconds."""

from datetime import UTC, datetime, timedelta

MICROSECOND = timedelta(microseconds=1)


def current_time():
    """Return the current time."""
    return time_before(timedelta())


def time_before(ago):
    """Return the time a timedelta ago."""
    return text_of(datetime.now(UTC).replace(tzinfo=None) - ago)


def time_after(previous):
    """Return the current time, but at least ``previous`` plus a microsecond."""
    return max(current_time(), text_of(datetime.fromisoformat(previous) + MICROSECOND))


def text_of(moment):
    """Return a datetime as the text that records contain."""
    return moment.isoformat(timespec="microseconds")
