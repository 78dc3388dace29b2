"""Search parameter of a list: word prefixes and id prefixes."""

import re
from typing import NamedTuple

from storage.documents import FILE_MARK, words_in

ID_PREFIX = re.compile(r"[0-9a-f]{4,32}|(?=.*-)[0-9a-f-]{4,36}")
ID_PARTS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
MOST_WORDS = 16


class Search(NamedTuple):
    """Search for images with all ``words`` (as prefixes), or with an id that starts with ``id_prefix``.

    ``has_files`` if the names of files are searched, for callers who see the locations of all images.
    """

    words: tuple[str, ...]
    id_prefix: str | None
    has_files: bool = False

    @property
    def match(self):
        """Return the words as an FTS5 query, quoted because AND, OR and NOT are operators."""
        if not self.has_files:
            return " ".join(f'"{word}" *' for word in self.words)
        return " AND ".join(f'("{word}" * OR "{FILE_MARK}{word}" *)' for word in self.words)


def parse_search(text):
    """Return the Search for a text, or None if it is blank.

    A search without words matches nothing. Raises: ValueError for too many words.
    """
    if not text.strip():
        return None
    words = tuple(dict.fromkeys(words_in(text)))
    if len(words) > MOST_WORDS:
        raise ValueError
    return Search(words, parse_id_prefix(text.strip().lower()))


def parse_id_prefix(text):
    """Return an id's prefix with hyphens, which the text may omit, or None."""
    if not ID_PREFIX.fullmatch(text):
        return None
    return text if "-" in text else "-".join(filter(None, (text[start:end] for start, end in ID_PARTS)))
