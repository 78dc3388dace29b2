"""The database, by functions that do not depend on its engine: statements, transactions and error translation."""

from contextlib import contextmanager

from errors import DatabaseUnavailable
from storage.sqlite import SqliteEngine

# The only engine so far. A second one is chosen here, by the scheme of [database] connection.
engine = SqliteEngine()
database = engine.database
DATABASE_ERRORS = engine.errors
ENGINE_VERSION = engine.version

open_database = engine.open
execute = engine.execute
executemany = engine.executemany
insert = engine.insert
translated_errors = engine.translated_errors
translated = engine.translate
without_waiting = engine.without_waiting
bulk_load = engine.bulk_load
deferred_sync = engine.deferred_sync
malformed_json = engine.malformed_json
health = engine.health
sizes = engine.sizes
exists = engine.exists
is_writable = engine.is_writable
shown_name = engine.shown_name
folder = engine.folder
path_beside = engine.path_beside
owns = engine.owns


@contextmanager
def reading():
    """Read one snapshot in all queries within. Raises DatabaseUnavailable."""
    with engine.translated_errors(), engine.reading():
        yield


@contextmanager
def writing():
    """Write in one transaction that takes the write lock at its start.

    Raises: DatabaseUnavailable, DatabaseFull.
    """
    with engine.translated_errors(), engine.writing():
        yield


def damaged(subject):
    """Return the error for a checksum mismatch."""
    return DatabaseUnavailable(f"{subject} is damaged in the database; nothing was changed.")


def fetch_row(statement, parameters):
    """Return the first row of a statement, or None. Raises DatabaseUnavailable."""
    try:
        return execute(statement, parameters).fetchone()
    except DATABASE_ERRORS as error:
        raise translated(error) from error
