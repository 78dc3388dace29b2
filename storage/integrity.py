"""Record checks: each image's row against its documents, checksums, members, history and search words."""

import re
import sqlite3
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import orjson

from storage import search_index
from storage.documents import (
    CHANGE_COLUMNS,
    DERIVED,
    TOKEN_COLUMNS,
    change_digest,
    documents_of,
    fits,
    is_paired,
    member_digest,
    token_digest,
    words_of,
)
from storage.fields import COLUMN_FIELDS, VISIBILITIES, with_flags
from storage.image_rows import copied_columns

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_count(value):
    """Return whether a value is null or a number of 63 bits."""
    return value is None or 0 <= value < 2**63


# Kind of a field → (rule, predicate of a value): what neither SQLite's constraints nor the documents check.
RULES_OF_KINDS = {
    "image_id": ("a uuid in lower case", UUID.fullmatch),
    "moment": ("a time", TIME.fullmatch),
    "flag": ("0 or 1", lambda value: value in (0, 1)),
    "count": ("a number, 0 or more", is_count),
}
# (column, rule, predicate of a row)
RULES = (
    *(
        (field.name, rule, lambda row, name=field.name, holds=holds: holds(row[name]))
        for field in COLUMN_FIELDS
        if field.kind in RULES_OF_KINDS and field.name != "deleted_at"
        for rule, holds in [RULES_OF_KINDS[field.kind]]
    ),
    (
        "deleted_at",
        "a time where the image is deleted, else null",
        lambda row: TIME.fullmatch(row["deleted_at"]) if row["deleted"] else row["deleted_at"] is None,
    ),
    ("visibility", f"one of {', '.join(VISIBILITIES)}", lambda row: row["visibility"] in VISIBILITIES),
    ("revision", "1 or more", lambda row: row["revision"] >= 1),
    ("disk_format", "the container_format, where either is one of ari, aki, ami", is_paired),
)


class Fault(NamedTuple):
    """Problem of the image ``pk``, or of the file.

    ``repair`` names the repair: documents (rebuilt from the rows), rows (the same, if the rows are trusted), index
    (rebuilt from the words), or "" for none.
    """

    text: str
    pk: int | None = None
    repair: str = ""


def show_odd_bytes(connection):
    """Let a connection return bytes that are not UTF-8 as surrogates."""
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")


def record_faults(connection, show=lambda done: None):
    """Yield the faults of images, their rows in other tables, tokens and index."""
    show_odd_bytes(connection)
    images = connection.execute("SELECT * FROM image ORDER BY pk")
    names = [column[0] for column in images.description]
    followers = [
        Following(connection.execute(f"SELECT {columns} FROM {table} ORDER BY image_id, {order}"))
        for table, columns, order in (
            ("property", "image_id, name, value, beginning, created_at, image_uuid", "name"),
            ("location", "image_id, url, metadata, status, position", "position"),
            ("member", "image_id, member, can_share, digest", "member"),
            ("words", "image_id, text", "image_id"),
            ("change", f"{', '.join(CHANGE_COLUMNS)}, digest", "number"),
        )
    ]
    for done, values in enumerate(images, 1):
        row = dict(zip(names, values, strict=True))
        properties, locations, members, words, changes = (following.of(row["pk"]) for following in followers)
        faults = image_faults(row, properties, locations)
        yield from faults or words_faults(row, properties, locations, words)
        yield from member_faults(row, members)
        yield from change_faults(row, changes)
        show(done)
    yield from token_faults(connection)
    yield from index_faults(connection)


class Following:
    """Rows in the order of their first column, the image_id, read along with the images."""

    def __init__(self, rows):
        self.groups = groupby(rows, itemgetter(0))
        self.key, self.rows = next(self.groups, (None, ()))

    def of(self, pk):
        while self.key is not None and self.key < pk:
            self.key, self.rows = next(self.groups, (None, ()))
        return [row[1:] for row in self.rows] if self.key == pk else []


def image_faults(row, properties, locations):
    """Return the faults of an image's row, properties, locations and documents."""
    broken = [Fault(f"image {row['id']}: {column} must be {rule}", row["pk"]) for column, rule in broken_rules(row)]
    if [position for *_, position in locations] != list(range(len(locations))):
        broken.append(Fault(f"image {row['id']}: its locations must be numbered from 0", row["pk"]))
    try:
        record = with_flags(row)
        texts = {name: value for name, value, *_ in properties}
        rendered = documents_of(record, texts, [entry[:-1] for entry in locations])
        for _, metadata, *_ in locations:
            orjson.loads(metadata)
    except (TypeError, ValueError) as error:
        return [
            *broken,
            Fault(f"image {row['id']}: its row, properties or locations cannot be read ({error})", row["pk"]),
        ]
    if any(tuple(copies) != copied_columns(row, value) for _, value, *copies in properties):
        broken.append(Fault(f"image {row['id']}: its properties have other index columns", row["pk"], "documents"))
    if all(row[name] == rendered[name] for name in DERIVED):
        return broken
    return [*broken, Fault(f"image {row['id']}: {difference(row, rendered)}", row["pk"], repair_of(row, rendered))]


def broken_rules(row):
    """Yield (column, rule) for each rule that a row breaks."""
    for column, rule, holds in RULES:
        try:
            is_kept = holds(row)
        except TypeError:
            is_kept = False
        if not is_kept:
            yield column, rule


def repair_of(row, rendered):
    """Return the repair of an image.

    If the digest fits the rows, the documents are wrong; else the rows may be.
    """
    return "documents" if row["digest"] == rendered["digest"] else "rows"


def difference(row, rendered):
    """Return a text that names the differing fields, without values.

    Locations can contain credentials.
    """
    if repair_of(row, rendered) == "documents":
        names = [name for name in DERIVED if row[name] != rendered[name]]
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not what its row, properties and locations say"
    names = [name for name in ("brief", "document", "location_document") if row[name] != rendered[name]]
    fields = sorted({field for name in names for field in differing_fields(name, row[name], rendered[name])})
    if not fields:
        return (
            "its digest fits neither its row nor its documents: visibility, revision or nonce has changed, or they have"
        )
    return f"its digest does not fit its row, properties and locations: {', '.join(fields)} differ from its documents"


def differing_fields(name, stored, rendered):
    """Return the names of the fields in which a stored document differs."""
    try:
        before, after = (parse_document(name, text) for text in (stored, rendered))
    except (TypeError, ValueError):
        return ["(all: the document is no JSON)"]
    return [field for field in after if before.get(field) != after[field]]


def parse_document(name, text):
    """Return the fields of a document column. Raises: TypeError, ValueError.

    ``document`` and ``location_document`` are the two parts of one JSON object.
    """
    objects = {"brief": text, "document": text + "}", "location_document": "{" + text[1:]}
    return dict(orjson.loads(objects[name]))


def words_faults(row, properties, locations, words):
    """Yield a fault if the words differ from the name, properties and file names.

    For an image without other faults.
    """
    if words != [(words_of(row, {name: value for name, value, *_ in properties}, locations),)]:
        text = f"image {row['id']}: the words that searches find it by are not those of its name, properties and files"
        yield Fault(text, row["pk"], "documents")


def change_faults(row, changes):
    """Yield the entries of an image's history whose checksum does not fit."""
    for number, *values, digest in changes:
        entry = dict(zip(CHANGE_COLUMNS, (row["pk"], number, *values), strict=True))
        if not fits(digest, change_digest, entry):
            yield Fault(f"image {row['id']}: the digest of an entry of its history does not fit it", row["pk"], "rows")


def member_faults(row, members):
    """Yield the members of an image whose checksum does not fit."""
    for member, can_share, digest in members:
        if can_share not in (0, 1) or not fits(digest, member_digest, row["pk"], member, can_share):
            text = f"image {row['id']}: a member's digest does not fit its member or can_share"
            yield Fault(text, row["pk"], "rows")


def token_faults(connection):
    """Yield the tokens whose checksum does not fit.

    A changed token could grant rights that nobody gave.
    """
    names = ("id", "digest", *TOKEN_COLUMNS)
    for values in connection.execute(f"SELECT {', '.join(names)} FROM token ORDER BY id"):
        row = dict(zip(names, values, strict=True))
        if not fits(row["digest"], token_digest, row):
            yield Fault(f"token {row['id']}: its digest does not fit its row: revoke it and create another")


def index_faults(connection):
    """Yield a fault unless the index has the words of all indexed images."""
    is_declared = connection.execute("SELECT sql FROM main.sqlite_master WHERE name = 'search'").fetchone() == (
        search_index.DEFINITION,
    )
    is_set = connection.execute("SELECT k, v FROM search_config").fetchall() == [search_index.VERSION]
    is_marked = connection.execute("SELECT count(*) FROM indexed").fetchone() == (1,)
    (query_only,) = connection.execute("PRAGMA query_only").fetchone()
    connection.execute("PRAGMA query_only = 0")
    try:
        for statement in search_index.COMPARE_WITH_WORDS:
            connection.execute(statement)
        is_true = is_declared and is_set and is_marked
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR):
            raise
        is_true = False
    finally:
        connection.execute("DROP TABLE IF EXISTS temp.search")
        connection.execute("DROP VIEW IF EXISTS temp.words")
        if query_only:
            connection.execute("PRAGMA query_only = 1")
    if not is_true:
        yield Fault("the index of words is not of the images' words: searches can miss some", None, "index")
