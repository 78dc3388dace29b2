"""What a search finds images by: the words of each, and the index of their beginnings."""

import re
from typing import NamedTuple

from database import execute
from documents import words_in

# Words go into the index so many images at a time: one by one costs a create four times as much. Of those that are not
# in it yet a search reads the words themselves.
INDEXED_TOGETHER = 256
INSERT = "INSERT INTO words (image_id, text) VALUES (?, ?)"
INDEX = """INSERT INTO search(rowid, text)
    SELECT image_id, text FROM words WHERE image_id > (SELECT up_to FROM indexed) ORDER BY image_id"""
MARK = "UPDATE indexed SET up_to = (SELECT coalesce(max(image_id), 0) FROM words)"
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


def store_words(pk, text):
    """``text`` is words_of documents; within a transaction."""
    execute(INSERT, (pk, text))
    if pk % INDEXED_TOGETHER == 0:
        index_words()


def change_words(pk, text):
    execute("UPDATE words SET text = ? WHERE image_id = ?", (text, pk))


def index_words():
    """Put the words of new images into the index; within a transaction."""
    execute(INDEX, ())
    execute(MARK, ())


def rebuild_index():
    """Make it anew of all words; within a transaction, that holds up other writers (a million images: ten seconds)."""
    execute("INSERT OR REPLACE INTO search_config VALUES ('version', 4)", ())
    execute("INSERT INTO search(search) VALUES ('rebuild')", ())
    execute("DELETE FROM indexed", ())
    execute("INSERT INTO indexed SELECT coalesce(max(image_id), 0) FROM words", ())
