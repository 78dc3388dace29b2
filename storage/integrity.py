"""What must hold in a database file, and in words what does not."""

import os
import re
import sqlite3
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import quote

import orjson

from storage import wal
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

APPLICATION_ID = 0x494D5247  # "IMRG" in the file's header: what tells a registry from other SQLite files
EMPTY = "is empty"
PAGES_AT_ONCE = 2000
MOST_PROBLEMS = 20  # of the file's structure: after the first few they only repeat
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# FTS5 compares its index with the words only by an INSERT: into a copy, that nothing is written to the file.
COLUMNS_OF_INDEX = (
    "fts5(text, content = 'words', content_rowid = 'image_id', detail = none,"
    " columnsize = 0, prefix = '1 2 3 4 5 6 7 8', tokenize = 'ascii')"
)
INDEX = f"CREATE VIRTUAL TABLE search USING {COLUMNS_OF_INDEX}"
INDEX_VERSION = ("version", 4)
COPY_OF_INDEX = (
    "CREATE TEMP VIEW words AS SELECT image_id, text FROM main.words"
    " WHERE image_id <= (SELECT up_to FROM main.indexed)",
    f"CREATE VIRTUAL TABLE temp.search USING {COLUMNS_OF_INDEX}",
    *("DELETE FROM temp.search_data", "INSERT INTO temp.search_data SELECT * FROM main.search_data"),
    *("DELETE FROM temp.search_idx", "INSERT INTO temp.search_idx SELECT * FROM main.search_idx"),
    *("DELETE FROM temp.search_config", "INSERT INTO temp.search_config SELECT * FROM main.search_config"),
    "INSERT INTO temp.search(search, rank) VALUES ('integrity-check', 1)",
)


def is_count(value):
    return value is None or 0 <= value < 2**63


# Kind of a field → what its column must be, and a predicate for it: what neither SQLite's constraints nor the documents
# say.
RULES_OF_KINDS = {
    "image_id": ("a uuid in lower case", UUID.fullmatch),
    "moment": ("a time", TIME.fullmatch),
    "flag": ("0 or 1", lambda value: value in (0, 1)),
    "count": ("a number, 0 or more", is_count),
}
# (column, what it must be, predicate of a row).
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
    """What does not hold. ``pk`` is an image's; ``mends`` says what does: documents, rows, index, or nothing."""

    text: str
    pk: int | None = None
    mends: str = ""


def connect(path):
    """A connection that reads ``path``, and changes it only where an earlier process left its log behind."""
    mode = "rw" if os.access(path, os.W_OK) and os.access(os.path.dirname(path) or ".", os.W_OK) else "ro"
    log = wal.log_of(path)
    if mode == "ro" and not (os.path.exists(log) and os.path.getsize(log)):
        mode = "ro&immutable=1"
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, isolation_level=None)
    connection.execute("PRAGMA query_only = 1")
    return connection


def file_fault(path):
    """What is wrong with the file's beginning and length, or None.

    While a write-ahead log is there it may hold the missing pages; SQLite then sees to it.
    """
    header, size, has_log = before = ends_of(path)
    while before != (after := ends_of(path)):  # another process writes: no reading alone is of one moment
        header, size, has_log = before = after
    if not header:
        return EMPTY
    if not header.startswith(b"SQLite format 3\0"):
        return "is not a SQLite database"
    page_size = int.from_bytes(header[16:18]) if header[16:18] != b"\0\1" else 65536
    pages = int.from_bytes(header[28:32])
    if pages * page_size > size and not has_log:
        return f"is damaged: it has {size} of {pages * page_size} bytes"
    return None


def ends_of(path):
    """(the file's header, its size in bytes, whether a write-ahead log holds something)"""
    with open(path, "rb") as file:
        header = file.read(100)
        size = os.fstat(file.fileno()).st_size
    try:
        return header, size, os.path.getsize(wal.log_of(path)) > 0
    except FileNotFoundError:
        return header, size, False


def file_faults(path, schemas, show=lambda done: None, *, is_brief=False):
    """Fault by Fault, of one snapshot, in bounded memory. ``schemas`` are migrations.Schemas;
    ``show`` is told how many images have been looked at. ``is_brief`` looks only at whose file it is, and its version.
    """
    fault = file_fault(path) or wal.log_fault(path)
    if fault:
        yield Fault(fault)
        return
    connection = None
    try:
        connection = connect(path)
        connection.execute("BEGIN")
        faults = [*owner_faults(connection)] or [
            *(() if is_brief else structure_faults(connection)),
            *version_faults(connection, schemas),
        ]
        yield from faults or (() if is_brief else record_faults(connection, show))
    except sqlite3.DatabaseError as error:
        is_damaged = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        yield Fault(f"{'is damaged' if is_damaged else 'cannot be read'}: {error}")
    except UnicodeDecodeError:  # SQLite's message quotes it, and Python cannot read the message
        yield Fault("is damaged: its schema cannot be read")
    finally:
        if connection is not None:
            connection.close()


def owner_faults(connection):
    if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        yield Fault("is another application's SQLite database")


def structure_faults(connection):
    """What SQLite itself finds, constraints and indexes included."""
    for (problem,) in connection.execute(f"PRAGMA integrity_check({MOST_PROBLEMS})"):
        for line in problem.splitlines():
            if line != "ok" and not line.startswith("*** in database"):
                yield Fault(f"is damaged: {line.strip()}")
    for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchmany(MOST_PROBLEMS):
        yield Fault(f"is damaged: a row of {table} belongs to no row of {parent}")


def version_faults(connection, schemas):
    applied = [name for (name,) in connection.execute("SELECT name FROM schema_migration ORDER BY name")]
    if unknown := sorted({*applied} - {*schemas.versions}):
        yield Fault(f"was written by a newer version ({unknown[-1]}); this one knows up to {schemas.versions[-1]}")
        return
    yield from schema_faults(schema_of(connection), schemas.of(applied[-1]) if applied else {})
    if missing := sorted({*schemas.versions} - {*applied}):
        yield Fault(f"is of an older version, without {missing[0]}: the next start of the server brings it up")


def show_odd_bytes(connection):
    """Bytes that are no UTF-8 are shown as such, not stumbled over."""
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")


def schema_of(connection):
    """{(kind, name): (its table, the statement that makes it)}; the tables of FTS5 are the index of words' matter."""
    show_odd_bytes(connection)
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'search%'"
    return {(kind, name): (table, sql) for kind, name, table, sql in connection.execute(query)}


def schema_faults(found, expected):
    """What is missing or other than the migrations make it; what others have added is theirs."""
    for (kind, name), made in expected.items():
        of = "" if kind == "table" else f" of {made[0]}"
        if (kind, name) not in found:
            yield Fault(f"the {kind} {name}{of} is missing")
        elif found[kind, name] != made:
            yield Fault(f"the {kind} {name}{of} is not what the migrations make")


def record_faults(connection, show=lambda done: None):
    """What does not hold of each image, its properties, locations and members."""
    show_odd_bytes(connection)
    images = connection.execute("SELECT * FROM image ORDER BY pk")
    names = [column[0] for column in images.description]
    followers = [
        Following(connection.execute(f"SELECT {columns} FROM {table} ORDER BY image_id, {order}"))
        for table, columns, order in (
            ("property", "image_id, name, value, created_at", "name"),
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
        yield from faults or words_faults(row, properties, words)
        yield from member_faults(row, members)
        yield from change_faults(row, changes)
        show(done)
    yield from token_faults(connection)
    yield from index_faults(connection)


class Following:
    """Rows that come in the order of the image_id in front: those of one image after the other."""

    def __init__(self, rows):
        self.groups = groupby(rows, itemgetter(0))
        self.key, self.rows = next(self.groups, (None, ()))

    def of(self, pk):
        while self.key is not None and self.key < pk:
            self.key, self.rows = next(self.groups, (None, ()))
        return [row[1:] for row in self.rows] if self.key == pk else []


def image_faults(row, properties, locations):
    broken = [Fault(f"image {row['id']}: {column} must be {rule}", row["pk"]) for column, rule in broken_rules(row)]
    if [position for *_, position in locations] != list(range(len(locations))):
        broken.append(Fault(f"image {row['id']}: its locations must be numbered from 0", row["pk"]))
    try:
        record = with_flags(row)
        texts = {name: value for name, value, _ in properties}
        rendered = documents_of(record, texts, [entry[:-1] for entry in locations])
        for _, metadata, *_ in locations:
            orjson.loads(metadata)
    except (TypeError, ValueError) as error:
        return [
            *broken,
            Fault(f"image {row['id']}: its row, properties or locations cannot be read ({error})", row["pk"]),
        ]
    if any(created_at != row["created_at"] for *_, created_at in properties):
        broken.append(Fault(f"image {row['id']}: created_at differs in its properties", row["pk"], "documents"))
    if all(row[name] == rendered[name] for name in DERIVED):
        return broken
    return [*broken, Fault(f"image {row['id']}: {difference(row, rendered)}", row["pk"], mending(row, rendered))]


def broken_rules(row):
    for column, rule, holds in RULES:
        try:
            is_kept = holds(row)
        except TypeError:
            is_kept = False
        if not is_kept:
            yield column, rule


def mending(row, rendered):
    """Where the digest fits what the rows say, the stored documents are what is wrong; else the rows may be."""
    return "documents" if row["digest"] == rendered["digest"] else "rows"


def difference(row, rendered):
    """Names what differs, and no value: locations can carry credentials."""
    if mending(row, rendered) == "documents":
        names = [name for name in DERIVED if row[name] != rendered[name]]
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not what its row, properties and locations say"
    names = [name for name in ("brief", "document", "location_document") if row[name] != rendered[name]]
    fields = sorted({field for name in names for field in differing_fields(row[name], rendered[name])})
    if not fields:
        return (
            "its digest fits neither its row nor its documents: visibility, revision or nonce has changed, or they have"
        )
    return f"its digest does not fit its row, properties and locations: {', '.join(fields)} differ from its documents"


def differing_fields(stored, rendered):
    try:
        before, after = (orjson.loads(as_object(text)) for text in (stored, rendered))
    except (TypeError, ValueError):
        return ("(all: the document is no JSON)",)
    return [name for name in after if before.get(name) != after[name]]


def as_object(text):
    """The three documents as JSON objects: the parts of the full one lack an end or a beginning."""
    return (
        "{" + text[1:]
        if text.startswith(",")
        else text
        if text.endswith("}") and '"properties"' not in text
        else text + "}"
    )


def words_faults(row, properties, words):
    """Of a row that is what it should be."""
    if words != [(words_of(row, {name: value for name, value, _ in properties}),)]:
        text = f"image {row['id']}: the words that searches find it by are not its name's and properties'"
        yield Fault(text, row["pk"], "documents")


def change_faults(row, changes):
    for number, *values, digest in changes:
        entry = dict(zip(CHANGE_COLUMNS, (row["pk"], number, *values), strict=True))
        if not fits(digest, change_digest, entry):
            yield Fault(f"image {row['id']}: the digest of an entry of its history does not fit it", row["pk"], "rows")


def member_faults(row, members):
    for member, can_share, digest in members:
        if can_share not in (0, 1) or not fits(digest, member_digest, row["pk"], member, can_share):
            text = f"image {row['id']}: a member's digest does not fit its member or can_share"
            yield Fault(text, row["pk"], "rows")


def token_faults(connection):
    """Who may come in must be who was let in."""
    names = ("id", "digest", *TOKEN_COLUMNS)
    for values in connection.execute(f"SELECT {', '.join(names)} FROM token ORDER BY id"):
        row = dict(zip(names, values, strict=True))
        if not fits(row["digest"], token_digest, row):
            yield Fault(f"token {row['id']}: its digest does not fit its row: revoke it and create another")


def index_faults(connection):
    """The index must have the words of all images that it says it has, and no others."""
    is_declared = connection.execute("SELECT sql FROM main.sqlite_master WHERE name = 'search'").fetchone() == (INDEX,)
    is_set = connection.execute("SELECT k, v FROM search_config").fetchall() == [INDEX_VERSION]
    is_marked = connection.execute("SELECT count(*) FROM indexed").fetchone() == (1,)
    (query_only,) = connection.execute("PRAGMA query_only").fetchone()
    connection.execute("PRAGMA query_only = 0")
    try:
        for statement in COPY_OF_INDEX:
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


def count_images(path):
    """How many there are, or None where that cannot be told, or a look would end the log at its damage."""
    if wal.log_fault(path):
        return None
    try:
        with closing(connect(path)) as connection:
            return connection.execute("SELECT count(*) FROM image").fetchone()[0]
    except (sqlite3.DatabaseError, OSError, UnicodeDecodeError):
        return None


def copy(source, target, show=lambda done, pages: None):
    """The database ``source`` as it is at one moment, into the file ``target``; others may write meanwhile.

    Raises OSError for what SQLite cannot read or write.
    """
    try:
        with closing(connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
            # In a read transaction of its own the source stands still: a copy would else begin again at every write.
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
            writing.execute("PRAGMA synchronous = OFF")  # the file is synced once, when it is whole
            writing.execute("PRAGMA journal_mode = OFF")
            reading.backup(writing, pages=PAGES_AT_ONCE, progress=lambda _, left, pages: show(pages - left, pages))
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise OSError(f"cannot be copied: {error}") from None


def settle(path):
    """Put the log's content into the file and remove log and index. Raises OSError where others use the file."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=0)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BlockingIOError("is in use: stop the server, and whatever else has it open") from None
        raise OSError(f"cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise OSError(f"cannot be read: {error}") from None
