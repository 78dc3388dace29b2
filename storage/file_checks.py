"""Checks and copies of a whole database file: header, structure, schema version, then its records."""

import os
import sqlite3
from contextlib import closing

from storage import wal
from storage.integrity import Fault, record_faults, show_odd_bytes
from storage.sqlite import connect, file_url, is_damage, is_locked

APPLICATION_ID = 0x494D5247  # "IMRG" in the file's header: distinguishes a registry from other SQLite files
EMPTY = "is empty"
PAGES_AT_ONCE = 2000
MOST_PROBLEMS = 20  # of the file's structure: further ones repeat the first few


def file_fault(path):
    """Return the problem of the file's header or length, or None.

    If there is a write-ahead log it may hold the missing pages, and SQLite applies it.
    """
    header, size, has_log = before = read_header(path)
    while before != (after := read_header(path)):  # another process writes: one read may mix two moments
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


def read_header(path):
    """Return (file header, size in bytes, whether the write-ahead log has content)."""
    with open(path, "rb") as file:
        header = file.read(100)
        size = os.fstat(file.fileno()).st_size
    try:
        return header, size, os.path.getsize(wal.log_of(path)) > 0
    except FileNotFoundError:
        return header, size, False


def file_faults(path, schemas, show=lambda done: None, *, is_brief=False):
    """Yield the faults of one snapshot of a file, in bounded memory.

    ``schemas`` are migrations.Schemas; ``show`` gets the number of images checked so far. ``is_brief`` checks only
    that the file is a registry's, and its schema version.
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
        yield Fault(f"{'is damaged' if is_damage(error) else 'cannot be read'}: {error}")
    except UnicodeDecodeError:  # SQLite's message quotes the schema, whose bytes are not UTF-8
        yield Fault("is damaged: its schema cannot be read")
    finally:
        if connection is not None:
            connection.close()


def owner_faults(connection):
    """Yield a fault if the file belongs to another application."""
    if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        yield Fault("is another application's SQLite database")


def structure_faults(connection):
    """Yield the faults that SQLite finds, in constraints and indexes too."""
    for (problem,) in connection.execute(f"PRAGMA integrity_check({MOST_PROBLEMS})"):
        for line in problem.splitlines():
            if line != "ok" and not line.startswith("*** in database"):
                yield Fault(f"is damaged: {line.strip()}")
    for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchmany(MOST_PROBLEMS):
        yield Fault(f"is damaged: a row of {table} belongs to no row of {parent}")


def version_faults(connection, schemas):
    """Yield the faults of the schema and its version."""
    applied = [name for (name,) in connection.execute("SELECT name FROM schema_migration ORDER BY name")]
    if unknown := sorted({*applied} - {*schemas.versions}):
        yield Fault(f"was written by a newer version ({unknown[-1]}); this one knows up to {schemas.versions[-1]}")
        return
    yield from schema_faults(schema_of(connection), schemas.of(applied[-1]) if applied else {})
    if missing := sorted({*schemas.versions} - {*applied}):
        yield Fault(f"is of an older version, without {missing[0]}: the next start of the server brings it up")


def schema_of(connection):
    """Return {(kind, name): (table, statement)} without the search index."""
    show_odd_bytes(connection)
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'search%'"
    return {(kind, name): (table, sql) for kind, name, table, sql in connection.execute(query)}


def schema_faults(found, expected):
    """Yield what is missing or differs from the migrations.

    Additions of other programs are ignored.
    """
    for (kind, name), made in expected.items():
        of = "" if kind == "table" else f" of {made[0]}"
        if (kind, name) not in found:
            yield Fault(f"the {kind} {name}{of} is missing")
        elif found[kind, name] != made:
            yield Fault(f"the {kind} {name}{of} is not what the migrations make")


def count_images(path):
    """Return the number of images, or None if the file or its log is damaged."""
    if wal.log_fault(path):
        return None
    try:
        with closing(connect(path)) as connection:
            return connection.execute("SELECT count(*) FROM image").fetchone()[0]
    except (sqlite3.DatabaseError, OSError, UnicodeDecodeError):
        return None


def copy(source, target, show=lambda done, pages: None):
    """Copy one snapshot of the database ``source`` to the file ``target``.

    Others may write meanwhile.

    Raises OSError if SQLite cannot read or write.
    """
    try:
        with closing(connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
            # Within a read transaction the source stands still. Otherwise each write would restart the copy.
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
            writing.execute("PRAGMA synchronous = OFF")  # the caller syncs the complete file once
            writing.execute("PRAGMA journal_mode = OFF")
            reading.backup(writing, pages=PAGES_AT_ONCE, progress=lambda _, left, pages: show(pages - left, pages))
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise OSError(f"cannot be copied: {error}") from None


def apply_log(path):
    """Move the log's content into the file, and remove log and index.

    Raises: OSError if others use the file.
    """
    try:
        with closing(sqlite3.connect(file_url(path, "rw"), uri=True, timeout=0)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.DatabaseError as error:
        if is_locked(error):
            raise BlockingIOError("is in use: stop the server, and whatever else has it open") from None
        raise OSError(f"cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise OSError(f"cannot be read: {error}") from None
