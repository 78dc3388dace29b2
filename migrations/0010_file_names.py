"""Searches find images by the names of their files too."""

import re
import unicodedata
from urllib.parse import unquote


def up(migrator, db):
    db.connection().create_function("file_words", 2, file_words, deterministic=True)
    # Without indexed images the triggers do nothing; the index is then built at once.
    db.execute_sql("UPDATE indexed SET up_to = 0")
    db.execute_sql(
        "UPDATE words SET text = text || found.added FROM (SELECT image_id,"
        " group_concat(file_words(url, (SELECT id FROM image WHERE pk = image_id)), '') AS added"
        " FROM (SELECT image_id, url FROM location ORDER BY image_id, position) GROUP BY image_id) AS found"
        " WHERE words.image_id = found.image_id AND found.added <> ''"
    )
    db.connection().create_function("distinct_words", 1, distinct_words, deterministic=True)
    db.execute_sql("UPDATE words SET text = distinct_words(text) WHERE image_id IN (SELECT image_id FROM location)")
    db.execute_sql("INSERT INTO search(search) VALUES ('rebuild')")
    db.execute_sql("UPDATE indexed SET up_to = (SELECT coalesce(max(image_id), 0) FROM words)")


def file_words(url, image_id):
    """Return the words of a location's last part; frozen code of that version."""
    path = url.partition("://")[2].partition("?")[0].partition("#")[0].partition("/")[2]
    part = path.rstrip("/").rpartition("/")[2]
    text = unquote(part[: 3 * 255])[:255]
    if text == image_id or "@" in part:
        return ""
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text.casefold())
        text = "".join(character for character in parts if not unicodedata.combining(character)).casefold()
    return "".join(f" §{word}" for word in re.findall(r"[^\W_]+", text.lower()))


def distinct_words(text):
    """Return each word once."""
    return "".join(f" {word}" for word in dict.fromkeys(text.split()))
