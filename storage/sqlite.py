"""SQLite engine: the connection to the database file, its transactions, and the meaning of SQLite's errors."""

import os
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from peewee import DatabaseError, SqliteDatabase, fn

from errors import DatabaseFull, DatabaseUnavailable
from storage import filesystem, wal
from storage.base import Engine
from storage.schema_guard import SCHEMA, GuardedConnection

# SQLite's result codes for conditions that pass or that an operator can remedy; any other is a defect of ours.
PROBLEMS = {
    sqlite3.SQLITE_BUSY: "is locked",
    sqlite3.SQLITE_LOCKED: "is locked",
    sqlite3.SQLITE_PROTOCOL: "is locked",
    sqlite3.SQLITE_READONLY: "cannot be written",
    sqlite3.SQLITE_IOERR: "cannot be read or written",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is damaged",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_AUTH: "is of another version than this server: restart it",
    sqlite3.SQLITE_FULL: "cannot be written: the disk is full",
}
HEALTH_SECONDS = 0.5  # that a health check waits for a lock
# SQLite's page cache during a bulk load: index entries of random ids and names are spread over the whole file.
CACHE_KIBIBYTES = 64 * 1024
OK = "ok"


class SqliteEngine(Engine):
    """One SQLite file in WAL mode, with a connection for each thread."""

    version = sqlite3.sqlite_version
    errors = (DatabaseError, sqlite3.DatabaseError)

    def __init__(self):
        self.database = SqliteDatabase(None)

    def open(self, settings):
        # FULL syncs the log with every commit: an acknowledged write survives a power loss.
        pragmas = {"synchronous": "full", "foreign_keys": 1}
        timeout = settings.busy_timeout
        self.database.init(
            file_url(settings.path, "rw"), uri=True, pragmas=pragmas, timeout=timeout, factory=GuardedConnection
        )

    def writing(self):
        return self.database.atomic("IMMEDIATE")

    def insert(self, statement, parameters):
        # RETURNING would cost a copy of each page that the statement changes: SQLite runs it as a trigger.
        cursor = self.execute(statement, parameters)
        return cursor.lastrowid if cursor.rowcount else None

    @contextmanager
    def without_waiting(self):
        ((patience,),) = self.execute("PRAGMA busy_timeout", ()).fetchall()
        self.execute("PRAGMA busy_timeout = 0", ())
        try:
            yield
        finally:
            self.execute(f"PRAGMA busy_timeout = {patience:d}", ())

    @contextmanager
    def bulk_load(self):
        with self.translated_errors(), self.writing():
            self.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}", ())
            yield
        # Beside a running server the log would stay as large as the load.
        self.execute("PRAGMA wal_checkpoint(TRUNCATE)", ())

    @contextmanager
    def deferred_sync(self, settings):
        log, mark = Path(wal.log_of(settings.path)), Path(wal.unsynced_mark_of(settings.path))
        mark.touch(0o600)
        filesystem.sync_folder(mark)
        self.execute("PRAGMA synchronous = normal", ())
        try:
            yield
        finally:
            self.execute("PRAGMA synchronous = full", ())
            if log.exists():
                filesystem.sync(log)
            mark.unlink(missing_ok=True)

    def malformed_json(self, column):
        return fn.json_valid(column) == 0

    def translate(self, error):
        code = problem_code(error)
        if code == sqlite3.SQLITE_FULL:
            return DatabaseFull("The disk is full; nothing was changed.")
        if code is not None:
            return DatabaseUnavailable(f"The database {PROBLEMS[code]}; nothing was changed.")
        return error

    def health(self, settings):
        # Without SQLite's text, which may quote stored values.
        checks = dict.fromkeys(("read", "version", "write"), "not tried")
        file = file_url(settings.path, "rw")
        try:
            # The connections of the threads may be to a file that was removed.
            with closing(sqlite3.connect(file, uri=True, timeout=HEALTH_SECONDS, isolation_level=None)) as connection:
                ((newest,),) = connection.execute("SELECT max(name) FROM schema_migration").fetchall()
                checks["read"] = OK
                checks["version"] = OK if newest == SCHEMA else f"is {newest}, and this server wants {SCHEMA}"
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
                checks["write"] = OK
        except sqlite3.Error as error:
            checks["write" if checks["read"] == OK else "read"] = health_problem(error)
        return checks

    def sizes(self, settings):
        return tuple(
            os.path.getsize(path) if os.path.exists(path) else 0 for path in (settings.path, wal.log_of(settings.path))
        )

    def exists(self, settings):
        return os.path.exists(settings.path)

    def is_writable(self, settings):
        # Readers write SQLite's log too, so the folder counts.
        path = os.path.abspath(settings.path)
        return not os.path.isfile(path) or (os.access(path, os.W_OK) and os.access(os.path.dirname(path), os.W_OK))

    def shown_name(self, settings):
        return settings.path

    def folder(self, settings):
        return os.path.dirname(settings.path) or "."

    def path_beside(self, settings, suffix):
        return f"{settings.path}{suffix}"

    def owns(self, settings, path):
        return os.path.samefile(path, settings.path)


def file_url(path, mode):
    """Return the URL of a database file.

    Mode rw reports a missing file instead of creating an empty one.
    """
    return f"file:{quote(str(path))}?mode={mode}"


def problem_code(error):
    """Return the result code, a key of PROBLEMS, behind an error, or None.

    Peewee wraps SQLite's error, once or twice. If SQLite has rolled back by itself, Peewee's own rollback fails, with
    the first error as its context.
    """
    while error is not None:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if "Could not decode" in str(error):  # Python's own message, which has no code: bytes that are not UTF-8
            return sqlite3.SQLITE_CORRUPT
        if code in PROBLEMS:
            return code
        error = getattr(error, "orig", None) or error.__context__
    return None


def is_damage(error):
    """Return whether SQLite reports damage to the file."""
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_locked(error):
    """Return whether SQLite reports that others use the file."""
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def health_problem(error):
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_BUSY:
        return f"is locked by another writer for more than {HEALTH_SECONDS} seconds"
    return PROBLEMS.get(code, "does not answer as a registry's database does")


def connect(path):
    """Return a connection that only reads, but may apply an existing log."""
    mode = "rw" if os.access(path, os.W_OK) and os.access(os.path.dirname(path) or ".", os.W_OK) else "ro"
    log = wal.log_of(path)
    if mode == "ro" and not (os.path.exists(log) and os.path.getsize(log)):
        mode = "ro&immutable=1"
    connection = sqlite3.connect(file_url(path, mode), uri=True, isolation_level=None)
    connection.execute("PRAGMA query_only = 1")
    return connection
