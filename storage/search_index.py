"""Full-text search index over the words of each image."""

from peewee import SQL, AutoField, IntegerField, Model, TextField

from storage.engine import database, execute

# Words go into the index so many images at a time: one by one costs a create four times as much. Of those that are not
# in it yet a search reads the words themselves.
INDEXED_TOGETHER = 256
STORE = """INSERT INTO words (image_id, text) VALUES (?, ?)
    ON CONFLICT (image_id) DO UPDATE SET text = excluded.text WHERE text <> excluded.text"""
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
    """Make it anew of all words; within a transaction, that holds up other writers (a million images: ten seconds)."""
    execute("INSERT OR REPLACE INTO search_config VALUES ('version', 4)", ())
    execute("INSERT INTO search(search) VALUES ('rebuild')", ())
    execute("DELETE FROM indexed", ())
    execute("INSERT INTO indexed SELECT coalesce(max(image_id), 0) FROM words", ())
