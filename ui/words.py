"""Sizes, times and values in the words of people, for the templates."""

import unicodedata

from words import ago as relative_time
from words import counted, exact_size
from words import size as human_size

__all__ = ("counted", "exact_size", "exact_time", "human_size", "relative_time", "told")
LONGEST_TOLD = 120
# Letters and symbols that are drawn as nothing: fillers of Hangul, and Braille without a dot.
BLANKS = "\u115f\u1160\u3164\uffa0\u2800"


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


def is_visible(text):
    """Whether anything of it is to be seen: a letter, digit, sign or symbol, beside spaces, controls and joiners."""
    return any(unicodedata.category(character)[0] in "LNPS" and character not in BLANKS for character in text or "")
