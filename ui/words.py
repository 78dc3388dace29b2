"""Sizes, times and values in the words of people, for the templates."""

from words import ago as relative_time
from words import counted, exact_size
from words import size as human_size

__all__ = ("counted", "exact_size", "exact_time", "human_size", "relative_time", "told")
LONGEST_TOLD = 120


def exact_time(moment):
    """The API's time, to the second."""
    return f"{moment[:10]} {moment[11:19]} UTC"


def told(value):
    """A value of the history, in one line."""
    if value is None or value == "":
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text if len(text) <= LONGEST_TOLD else f"{text[:LONGEST_TOLD]}…"
