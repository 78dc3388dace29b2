"""Full-text search index over the words of each image."""

from peewee import SQL, AutoField, IntegerField, Model, TextField

from storage.engine import database, execute

# Words of new images enter the index in batches; until then a search reads the words themselves. Indexing
# at once makes a create 15 % slower: 202 µs more CPU than 1.32 ms (in process, 10,000 to 30,000 images).
INDEXED_TOGETHER = 256
STORE = """INSERT INTO words (image_id, text) VALUES (?, ?)
    ON CONFLICT (image_id) DO UPDATE SET text = excluded.text WHERE text <> excluded.text"""
COLUMNS = (
    "fts5(text, content = 'words', content_rowid = 'image_id', detail = none,"
    " columnsize = 0, prefix = '1 2 3 4 5 6 7 8', tokenize = 'ascii')"
)
DEFINITION = f"CREATE VIRTUAL TABLE search USING {COLUMNS}"  # as in migration 0006
VERSION = ("version", 4)  # of FTS5's format, in search_config
# FTS5 compares an index with its content only by an INSERT, so a copy is compared: nothing is written to the file.
COMPARE_WITH_WORDS = (
    "CREATE TEMP VIEW words AS SELECT image_id, text FROM main.words"
    " WHERE image_id <= (SELECT up_to FROM main.indexed)",
    f"CREATE VIRTUAL TABLE temp.search USING {COLUMNS}",
    "DELETE FROM temp.search_data",
    "INSERT INTO temp.search_data SELECT * FROM main.search_data",
    "DELETE FROM temp.search_idx",
    "INSERT INTO temp.search_idx SELECT * FROM main.search_idx",
    "DELETE FROM temp.search_config",
    "INSERT INTO temp.search_config SELECT * FROM main.search_config",
    "INSERT INTO temp.search(search, rank) VALUES ('integrity-check', 1)",
)
INDEX = """INSERT INTO search(rowid, text)
    SELECT image_id, text FROM words WHERE image_id > (SELECT up_to FROM indexed) ORDER BY image_id"""
MARK = "UPDATE indexed SET up_to = (SELECT coalesce(max(image_id), 0) FROM words)"


class Words(Model):
    """The words of each image, which the virtual table ``search`` indexes."""

    image_id = AutoField(constraints=[SQL("REFERENCES image (pk) ON DELETE CASCADE")])
    text = TextField()  # see ``documents.words_of``

    class Meta:
        database = database


class Indexed(Model):
    """One row: the last image whose words are in the index."""

    up_to = IntegerField()

    class Meta:
        database = database
        primary_key = False


def store_words(pk, text):
    """Store ``text``, of documents.words_of, for an image; within a transaction."""
    execute(STORE, (pk, text))
    if pk % INDEXED_TOGETHER == 0:
        index_words()


def index_words():
    """Put the words of new images into the index; within a transaction."""
    execute(INDEX, ())
    execute(MARK, ())


def rebuild_index():
    """Rebuild the index within a transaction (a million images: ten seconds)."""
    execute("INSERT OR REPLACE INTO search_config VALUES ('version', 4)", ())
    execute("INSERT INTO search(search) VALUES ('rebuild')", ())
    execute("DELETE FROM indexed", ())
    execute("INSERT INTO indexed SELECT coalesce(max(image_id), 0) FROM words", ())
