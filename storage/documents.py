"""What is derived of a record: its rendered documents, its shelf, its words, and the digests that tell of damage."""

import re
import unicodedata
from zlib import crc32

import orjson

VISIBILITIES = ("public", "private", "shared", "community")
PUBLIC, SHARED = "public", "shared"
# Amazon's formats: an image of one of them is the same in both.
PAIRED_FORMATS = ("ari", "aki", "ami")
NORMAL, KILLED, DELETED = 0, 2, 4
BRIEF_FIELDS = ("id", "name", "size", "disk_format", "container_format", "checksum")
WORD = re.compile(r"[^\W_]+")
# Of an image's name and properties together so many characters are searched.
SEARCHED_CHARACTERS = 4096
DOCUMENT_FIELDS = (
    *("id", "name", "status", "disk_format", "container_format", "size", "virtual_size", "checksum"),
    *("min_disk", "min_ram", "owner", "is_public", "protected", "created_at", "updated_at", "deleted", "deleted_at"),
)


NO_LOCATIONS = ',"location":null,"location_data":[]}'
# What documents_of gives.
DERIVED = ("shelf", "brief", "document", "location_document", "digest")


def documents_of(row, properties, locations):
    """The derived columns. ``document`` and ``location_document`` together are the full record; who may not
    see the locations gets NO_LOCATIONS in their place. ``locations`` are [(url, metadata as JSON text, status)].
    """
    record = {**row, "is_public": row["visibility"] == PUBLIC}
    brief = orjson.dumps({name: record[name] for name in BRIEF_FIELDS})
    document = orjson.dumps({**{name: record[name] for name in DOCUMENT_FIELDS}, "properties": properties})[:-1]
    where = {
        "location": next((url for url, _, status in locations if status == "active"), None),
        "location_data": [
            {"url": url, "metadata": orjson.Fragment(metadata), "status": status} for url, metadata, status in locations
        ],
    }
    location_document = b"," + orjson.dumps(where)[1:]
    return {
        "shelf": shelf_of(row),
        "brief": brief.decode(),
        "document": document.decode(),
        "location_document": location_document.decode(),
        "digest": image_digest(row, brief, document, location_document),
    }


def is_paired(row):
    """Whether the two formats go together; either may be missing."""
    formats = {row.get("disk_format"), row.get("container_format")} - {None}
    return len(formats) < 2 or formats.isdisjoint(PAIRED_FORMATS)


def shelf_of(row):
    """Lists take whole shelves: 0 normal, 2 killed, 4 deleted images, those that are not public one above."""
    state = DELETED if row["deleted"] else KILLED if row["status"] == "killed" else NORMAL
    return state + (row["visibility"] != PUBLIC)


def words_in(text):
    """Runs of letters and digits, without case or accents: what a search compares."""
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text.casefold())
        text = "".join(character for character in parts if not unicodedata.combining(character)).casefold()
    return WORD.findall(text.lower())


def words_of(row, properties):
    """The words of a record's name and its properties' values, each once, with a space before it."""
    text = " ".join([row["name"] or "", *(value for value in properties.values() if value)])
    return "".join(f" {word}" for word in dict.fromkeys(words_in(text[:SEARCHED_CHARACTERS])))


def fits(digest, make, *arguments):
    """Whether a stored ``digest`` is what ``make`` gives of them; of bytes that are no text, or none, it gives none."""
    try:
        return digest == make(*arguments)
    except (TypeError, ValueError):
        return False


def image_digest(row, brief, document, location_document):
    """The documents say all that row, properties and locations do, but for these three columns."""
    rest = f"{row['visibility']} {row['revision']} {row['nonce']} "
    return crc32(location_document, crc32(document, crc32(brief, crc32(rest.encode()))))


def member_digest(image_pk, member, can_share):
    return crc32(f"{image_pk} {can_share:d} {member}".encode())


# What its digest holds of a token; the last use is not among it, and no right depends on that.
TOKEN_COLUMNS = (*("hash", "tenant", "roles", "is_read_only", "description", "created_at", "expires_at", "revoked_at"),)


def token_digest(row):
    return crc32(orjson.dumps([row[name] for name in TOKEN_COLUMNS]))


CHANGE_COLUMNS = ("image_id", "number", "at", "action", "tenant", "is_admin", "changes")


def change_digest(row):
    return crc32(orjson.dumps([row[name] for name in CHANGE_COLUMNS]))
