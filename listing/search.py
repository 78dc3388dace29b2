"""Search parameter of a list: words and beginnings of ids."""

import re
from typing import NamedTuple

from storage.documents import words_in

BEGINNING_OF_AN_ID = re.compile(r"[0-9a-f]{4,32}|(?=.*-)[0-9a-f-]{4,36}")
ID_PARTS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
MOST_WORDS = 16


class Search(NamedTuple):
    """What is looked for: images that have each of ``words``, or longer ones that begin so, or an id that begins so."""

    words: tuple[str, ...]
    id_prefix: str | None

    @property
    def match(self):
        """The words in the language of FTS5, quoted since AND, OR and NOT are words of it."""
        return " ".join(f'"{word}" *' for word in self.words)


def parse_search(text):
    """The Search that ``text`` asks for, or None where it is blank; one without words finds nothing.

    Raises ValueError for too many words.
    """
    if not text.strip():
        return None
    words = tuple(dict.fromkeys(words_in(text)))
    if len(words) > MOST_WORDS:
        raise ValueError
    return Search(words, id_beginning(text.strip().lower()))


def id_beginning(text):
    """What ids begin with, as they are written, or None: hyphens may be left out, all or none."""
    if not BEGINNING_OF_AN_ID.fullmatch(text):
        return None
    return text if "-" in text else "-".join(filter(None, (text[start:end] for start, end in ID_PARTS)))
