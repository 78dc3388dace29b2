"""The connection to the SQLite file: transactions, and what SQLite's errors mean."""

import sqlite3
from contextlib import contextmanager
from urllib.parse import quote

from peewee import DatabaseError, SqliteDatabase

from errors import DatabaseFull, DatabaseUnavailable
from storage.schema_guard import Fenced

# SQLite's result codes for what passes, or what an operator mends; any other is a mistake of ours.
SQLITE_FULL = 13
SQLITE_TROUBLES = {5: "is locked", 6: "is locked", 8: "cannot be written", 10: "cannot be read or written"}
SQLITE_TROUBLES |= {
    23: "is of another version than this server: restart it",
    11: "is damaged",
    14: "cannot be opened",
    15: "is locked",
    26: "is damaged",
}
DATABASE_ERRORS = (DatabaseError, sqlite3.DatabaseError)

database = SqliteDatabase(None)


def open_database(settings):
    """Say where the database is; each thread connects at its first query, after any fork.

    ``settings`` is the section [database]. Whoever serves has migrated and checked the file before.
    """
    path = quote(settings.path)
    # FULL syncs the log with every commit: an answered write survives a power cut.
    pragmas = {"synchronous": "full", "foreign_keys": 1}
    # rw: a file that has gone is an error, not the beginning of an empty one.
    database.init(f"file:{path}?mode=rw", uri=True, pragmas=pragmas, timeout=settings.busy_timeout, factory=Fenced)


def execute(statement, parameters):
    """Peewee builds a statement anew each time, which costs more than SQLite takes to run it."""
    return database.connection().execute(statement, parameters)


@contextmanager
def reading():
    """One snapshot for all queries within. Raises DatabaseUnavailable."""
    with translated_errors(), database.atomic():
        yield


@contextmanager
def writing():
    """One transaction that takes the write lock at its start. Raises DatabaseUnavailable, DatabaseFull."""
    with translated_errors(), database.atomic("IMMEDIATE"):
        yield


@contextmanager
def translated_errors():
    try:
        yield
    except DATABASE_ERRORS as error:
        raise translated(error) from error


def damaged(what):
    """What to raise where a digest, or a document, tells that ``what`` was changed behind our back."""
    return DatabaseUnavailable(f"{what} is damaged in the database; nothing was changed.")


def translated(error):
    """What to raise for an error of SQLite's: the same, where it is a mistake of ours.

    Peewee wraps SQLite's error, once or twice; and where SQLite has rolled back by itself, Peewee's own
    attempt fails, with the first error as its context.
    """
    cause = error
    while cause is not None:
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code == SQLITE_FULL:
            return DatabaseFull("The disk is full; nothing was changed.")
        if "Could not decode" in str(cause):  # Python's own message, without a code: bytes that are no UTF-8
            code = sqlite3.SQLITE_CORRUPT
        if code in SQLITE_TROUBLES:
            return DatabaseUnavailable(f"The database {SQLITE_TROUBLES[code]}; nothing was changed.")
        cause = getattr(cause, "orig", None) or cause.__context__
    return error


def fetch_row(statement, parameters):
    """Return the first row of a statement, or None. Raises DatabaseUnavailable."""
    try:
        return execute(statement, parameters).fetchone()
    except DATABASE_ERRORS as error:
        raise translated(error) from error
