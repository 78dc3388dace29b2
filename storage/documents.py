"""Values derived from a record: rendered documents, list partition, search words, and checksums that reveal damage."""

import re
import unicodedata
from urllib.parse import unquote
from zlib import crc32

import orjson

from storage.fields import BRIEF_FIELDS, DOCUMENT_FIELDS, PUBLIC

# Amazon's formats: an image of one of them has the same disk and container format.
PAIRED_FORMATS = ("ari", "aki", "ami")
# List partitions, the column ``list_partition``: of public images; private ones are in the next.
NORMAL, KILLED, DELETED = 0, 2, 4
PRIVATE = 1
WORD = re.compile(r"[^\W_]+")
# Searches cover the first characters of an image's name and property values together.
SEARCHED_CHARACTERS = 4096
# Words of file names begin with a character that no word of a search has, because not everybody sees locations.
FILE_MARK = "§"
LONGEST_FILE_NAME = 255
# The index of properties has the first characters of their values.
INDEXED_CHARACTERS = 64
NO_LOCATIONS = ',"location":null,"location_data":[]}'
# The columns that documents_of returns.
DERIVED = ("list_partition", "brief", "document", "location_document", "digest")


def documents_of(row, properties, locations):
    """Return the derived columns of an image.

    ``document`` and ``location_document`` together are the full record; for callers who may not see the locations,
    NO_LOCATIONS takes the place of the latter. ``locations`` are [(url, metadata as JSON text, status)].
    """
    record = {**row, "is_public": row["visibility"] == PUBLIC}
    brief = orjson.dumps({name: record[name] for name in BRIEF_FIELDS})
    document = orjson.dumps({**{name: record[name] for name in DOCUMENT_FIELDS}, "properties": properties})[:-1]
    located = {
        "location": next((url for url, _, status in locations if status == "active"), None),
        "location_data": [
            {"url": url, "metadata": orjson.Fragment(metadata), "status": status} for url, metadata, status in locations
        ],
    }
    location_document = b"," + orjson.dumps(located)[1:]
    return {
        "list_partition": partition_of(row),
        "brief": brief.decode(),
        "document": document.decode(),
        "location_document": location_document.decode(),
        "digest": image_digest(row, brief, document, location_document),
    }


def is_paired(row):
    """Return whether disk and container format go together; either may be missing."""
    formats = {row.get("disk_format"), row.get("container_format")} - {None}
    return len(formats) < 2 or formats.isdisjoint(PAIRED_FORMATS)


def partition_of(row):
    """Return the list partition of an image: a list reads whole partitions."""
    state = DELETED if row["deleted"] else KILLED if row["status"] == "killed" else NORMAL
    return state if row["visibility"] == PUBLIC else state + PRIVATE


def words_in(text):
    """Return the words of a text as searches compare them.

    Letters and digits without case or accents.
    """
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text.casefold())
        text = "".join(character for character in parts if not unicodedata.combining(character)).casefold()
    return WORD.findall(text.lower())


def words_of(row, properties, locations):
    """Return the words of an image's name, properties and files, after a space each."""
    text = " ".join([row["name"] or "", *(value for value in properties.values() if value)])
    words = words_in(text[:SEARCHED_CHARACTERS])
    for url, *_ in locations:
        if (name := file_name_of(url)) != row["id"]:  # Glance's stores name files by the id
            words += [FILE_MARK + word for word in words_in(name)]
    return "".join(f" {word}" for word in dict.fromkeys(words))


def file_name_of(url):
    """Return the last part of a location's path, "" if it has none.

    A part with "@" may be credentials with a slash in them.
    """
    path = url.partition("://")[2].partition("?")[0].partition("#")[0].partition("/")[2]
    part = path.rstrip("/").rpartition("/")[2]
    return "" if "@" in part else unquote(part[: 3 * LONGEST_FILE_NAME])[:LONGEST_FILE_NAME]


def fits(digest, make, *arguments):
    """Return whether a stored ``digest`` equals ``make(*arguments)``."""
    try:
        return digest == make(*arguments)
    except (TypeError, ValueError):
        return False


def image_digest(row, brief, document, location_document):
    """Return the checksum of a record.

    Its documents, and the three columns that these leave out.
    """
    rest = f"{row['visibility']} {row['revision']} {row['nonce']} "
    return crc32(location_document, crc32(document, crc32(brief, crc32(rest.encode()))))


def member_digest(image_pk, member, can_share):
    """Return the checksum of a membership."""
    return crc32(f"{image_pk} {can_share:d} {member}".encode())


# The digest of a token leaves out its last use, which no right depends on.
TOKEN_COLUMNS = ("hash", "tenant", "roles", "is_read_only", "description", "created_at", "expires_at", "revoked_at")


def token_digest(row):
    """Return the checksum of a token."""
    return crc32(orjson.dumps([row[name] for name in TOKEN_COLUMNS]))


CHANGE_COLUMNS = ("image_id", "number", "at", "action", "tenant", "is_admin", "changes")


def change_digest(row):
    """Return the checksum of an entry of the history."""
    return crc32(orjson.dumps([row[name] for name in CHANGE_COLUMNS]))
