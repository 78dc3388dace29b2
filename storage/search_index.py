"""Full-text search index over the words of each image."""

from storage.engine import execute

# Words go into the index so many images at a time: one by one costs a create four times as much. Of those that are not
# in it yet a search reads the words themselves.
INDEXED_TOGETHER = 256
INSERT = "INSERT INTO words (image_id, text) VALUES (?, ?)"
INDEX = """INSERT INTO search(rowid, text)
    SELECT image_id, text FROM words WHERE image_id > (SELECT up_to FROM indexed) ORDER BY image_id"""
MARK = "UPDATE indexed SET up_to = (SELECT coalesce(max(image_id), 0) FROM words)"


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
