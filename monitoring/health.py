"""Whether the registry can do its work now: the database, its version, and the room beside it."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from storage.schema_guard import SCHEMA

# Below this the disk counts as full: a write needs room for its log, and the log for more than one write.
LEAST_FREE_BYTES = 64 * 1024 * 1024
PATIENCE_SECONDS = 0.5
# Who asks more often is told what was found before: a check takes the write lock, if for no time.
KEPT_SECONDS = 1.0
TROUBLES = {
    sqlite3.SQLITE_BUSY: f"is locked by another writer for more than {PATIENCE_SECONDS} seconds",
    sqlite3.SQLITE_READONLY: "is read-only",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk reports an error",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is damaged",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_FULL: "cannot be written: the disk is full",
}
OK = "ok"


class Health:
    """Of the file of the section [database]. What it says names no path and no content: anybody may ask."""

    def __init__(self, settings):
        self.path = Path(settings.path)
        self.kept, self.until = None, 0.0

    def report(self):
        """{check: "ok", or in words what is wrong}."""
        if self.kept is None or time.monotonic() >= self.until:
            self.kept = {**self.database(), "disk": self.disk()}
            self.until = time.monotonic() + KEPT_SECONDS
        return self.kept

    def database(self):
        """A connection of its own: those of the threads may be to a file that has gone."""
        checks = dict.fromkeys(("read", "version", "write"), "not tried")
        try:
            with closing(self.connect()) as connection:
                ((newest,),) = connection.execute("SELECT max(name) FROM schema_migration").fetchall()
                is_ours = newest == SCHEMA
                checks |= {"read": OK, "version": OK if is_ours else f"is {newest}, and this server wants {SCHEMA}"}
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
                checks["write"] = OK
        except sqlite3.Error as error:
            checks["write" if checks["read"] == OK else "read"] = told(error)
        return checks

    def connect(self):
        file = f"file:{quote(str(self.path))}?mode=rw"
        return sqlite3.connect(file, uri=True, timeout=PATIENCE_SECONDS, isolation_level=None)

    def disk(self):
        try:
            free = free_bytes(self.path)
        except OSError as error:
            return f"cannot be asked: {error.strerror}"
        return OK if free >= LEAST_FREE_BYTES else f"has {free // 1024**2} MiB free, less than 64"


def told(error):
    """SQLite's own words could quote the schema."""
    return TROUBLES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "does not answer as a registry's database does")


def is_ready(report):
    return set(report.values()) == {OK}


def free_bytes(path):
    """What is left for us on the disk that holds ``path``."""
    disk = os.statvfs(path.parent)
    return disk.f_bavail * disk.f_frsize


def sizes(path):
    """(bytes of the database, of its write-ahead log), as far as they are there."""
    return tuple(file.stat().st_size if file.exists() else 0 for file in (path, path.with_name(f"{path.name}-wal")))
