"""Search index over the words of images, and the change log."""

import re
import unicodedata

TRIGGERS = {
    # An image's words are in the index once ``indexed`` says so; from then on these keep it true.
    "words_added AFTER INSERT": "INSERT INTO search(rowid, text) VALUES (new.image_id, new.text)",
    "words_removed AFTER DELETE": "INSERT INTO search(search, rowid, text) VALUES ('delete', old.image_id, old.text)",
    "words_changed AFTER UPDATE": "INSERT INTO search(search, rowid, text) VALUES ('delete', old.image_id, old.text);"
    " INSERT INTO search(rowid, text) VALUES (new.image_id, new.text)",
}


def up(migrator, db):
    db.execute_sql(
        "CREATE TABLE words (image_id INTEGER NOT NULL PRIMARY KEY REFERENCES image (pk) ON DELETE CASCADE,"
        " text TEXT NOT NULL)"
    )
    # The words are compared as they stand: letters and digits, in lower case, between spaces.
    db.execute_sql(
        "CREATE VIRTUAL TABLE search USING fts5(text, content = 'words', content_rowid = 'image_id', detail = none,"
        " columnsize = 0, prefix = '1 2 3 4 5 6 7 8', tokenize = 'ascii')"
    )
    db.execute_sql("CREATE TABLE indexed (up_to INTEGER NOT NULL)")
    db.connection().create_function("words_of", 1, words_of, deterministic=True)
    # A row value's text is made in the order of names: group_concat follows its subquery's.
    db.execute_sql(
        "INSERT INTO words SELECT pk, words_of(coalesce(name, '') || coalesce((SELECT group_concat(' ' || value, '')"
        " FROM (SELECT value FROM property WHERE image_id = pk AND value <> '' ORDER BY name)), ''))"
        " FROM image ORDER BY pk"
    )
    db.execute_sql("INSERT INTO search(rowid, text) SELECT image_id, text FROM words ORDER BY image_id")
    db.execute_sql("INSERT INTO indexed SELECT coalesce(max(image_id), 0) FROM words")
    for event, actions in TRIGGERS.items():
        row = "new" if "INSERT" in event else "old"
        condition = f"{row}.image_id <= (SELECT up_to FROM indexed)"
        db.execute_sql(f"CREATE TRIGGER {event} ON words WHEN {condition} BEGIN {actions}; END")
    columns = (
        "image_id INTEGER NOT NULL REFERENCES image (pk) ON DELETE CASCADE",
        "number INTEGER NOT NULL",
        "at VARCHAR(26) NOT NULL",
        "action VARCHAR(9) NOT NULL",
        "tenant VARCHAR(255)",
        "is_admin INTEGER NOT NULL",
        "changes TEXT NOT NULL",
        "digest INTEGER NOT NULL",
        "PRIMARY KEY (image_id, number)",
    )
    db.execute_sql(f"CREATE TABLE change ({', '.join(columns)}) WITHOUT ROWID")
    # Other programs delete without foreign keys: the next image with this number must not inherit what was said of it.
    db.execute_sql(
        "CREATE TRIGGER image_removed AFTER DELETE ON image BEGIN"
        " DELETE FROM words WHERE image_id = old.pk; DELETE FROM change WHERE image_id = old.pk; END"
    )


def words_of(text):
    """Return the words of a record; a frozen copy of the code of that version."""
    text = text[:4096]
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text.casefold())
        text = "".join(character for character in parts if not unicodedata.combining(character)).casefold()
    return "".join(f" {word}" for word in dict.fromkeys(re.findall(r"[^\W_]+", text.lower())))
