"""What time it is, as records have it: ISO 8601 in UTC, 26 characters, microseconds."""

from datetime import UTC, datetime, timedelta

MICROSECOND = timedelta(microseconds=1)


def current_time():
    return time_before(timedelta())


def time_before(ago):
    """The time that was a timedelta ago."""
    return text_of(datetime.now(UTC).replace(tzinfo=None) - ago)


def time_after(previous):
    """The present time, or where the clock has gone back the next that there is after ``previous``."""
    return max(current_time(), text_of(datetime.fromisoformat(previous) + MICROSECOND))


def text_of(moment):
    return moment.isoformat(timespec="microseconds")
