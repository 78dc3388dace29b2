"""Schema versions: create, check and migrate the database file before it is served."""

import os
import sqlite3
import sys
import time
from pathlib import Path

from peewee import OperationalError, PeeweeException, SqliteDatabase
from playhouse.migrations import Runner

from errors import StartupError
from storage import file_checks, filesystem, integrity, wal
from storage.file_checks import APPLICATION_ID

SCRIPTS = Path(__file__).parent
# Up to this size the start checks all of the file and its log, in about a second each. Of a larger file it checks
# header, length and schema version.
CHECKED_BYTES = 64 * 1024 * 1024
# UnicodeDecodeError: SQLite's message quotes a damaged schema, whose bytes are not UTF-8.
DATABASE_ERRORS = (PeeweeException, sqlite3.Error, UnicodeDecodeError)


def prepare(settings, *, is_brief=False) -> None:
    """Create, check and migrate the file of the section [database].

    Several processes may do so at the same time. ``is_brief`` does not check the records, for short commands.
    Raises StartupError with the option, its value and the cause.
    """
    path = Path(settings.path)
    try:
        create(path)
        require_whole(path)
        warn_of_network(path)
        migrate(path, settings.busy_timeout, is_brief=is_brief)
    except Refusal as refusal:
        raise StartupError(f"[database] connection = {settings.connection!r}: {refusal}") from None
    except OSError as error:
        raise StartupError(f"[database] connection = {settings.connection!r}: {error.strerror}") from None
    except DATABASE_ERRORS as error:
        cause = "its schema is damaged" if isinstance(error, UnicodeDecodeError) else " ".join(str(error).split())
        cause += ": its disk is full" if filesystem.is_full(path) else ""
        raise StartupError(f"[database] connection = {settings.connection!r}: {cause}") from None


class Refusal(Exception):
    """The reason why a file cannot be served."""


def create(path: Path) -> None:
    """Create the file if it is missing, readable by its owner only."""
    if not path.parent.is_dir():
        raise Refusal("its folder does not exist")
    if path.exists() and not path.is_file():
        raise Refusal("is not a file")
    if path.exists() and not os.access(path, os.R_OK):
        raise Refusal("cannot be read: permission denied")
    if path.exists() and not os.access(path, os.W_OK):
        raise Refusal("cannot be written: permission denied, or read-only")
    if not os.access(path.parent, os.W_OK):
        raise Refusal("its folder cannot be written: permission denied, or read-only")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def require_whole(path: Path) -> None:
    """Raise Refusal if the file or its write-ahead log is damaged."""
    fault = file_checks.file_fault(path)
    if fault and fault != file_checks.EMPTY:  # a new one
        raise Refusal(fault)
    log = Path(wal.log_of(path))
    is_checked = log.exists() and log.stat().st_size <= CHECKED_BYTES
    if is_checked and (fault := wal.log_fault(path)):
        raise Refusal(f"{fault}; docs/operations.md says how to go on without it")


def migrate(path: Path, busy_timeout: int, *, is_brief: bool = False) -> None:
    """Apply the missing migrations in one transaction under the write lock.

    A concurrent start then finds them done.
    """
    # Foreign keys are off: a migration may rebuild a table that others reference.
    database = SqliteDatabase(str(path), pragmas={"synchronous": "full", "foreign_keys": 0}, timeout=busy_timeout)
    try:
        require_ours(database)
        is_checked = path.stat().st_size <= CHECKED_BYTES and not is_brief
        if is_checked:
            require_sound(database)
        begin_log(database, busy_timeout)
        with database.atomic("IMMEDIATE"):
            run(database)
        if is_checked:
            require_true(database)
    finally:
        database.close()


def begin_log(database: SqliteDatabase, busy_timeout: int) -> None:
    """Switch to the write-ahead log.

    For this SQLite does not wait for a lock by itself.
    """
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            mode = database.pragma("journal_mode", "wal")
        except OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            break
    if mode != "wal":
        raise Refusal("this file system cannot hold a write-ahead log")


def versions() -> list[str]:
    """Return the names of all migrations, oldest first."""
    return sorted(path.stem for path in SCRIPTS.glob("[0-9]*.py"))


class Schemas:
    """Schemas that the migrations create: the names of all ``versions``, and the schema of one of them."""

    def __init__(self):
        self.versions = versions()

    def of(self, version: str) -> dict:
        """Return the schema of a version, in the form of file_checks.schema_of."""
        with SqliteDatabase(":memory:") as database:
            run(database, version)
            return file_checks.schema_of(database.connection())


def run(database: SqliteDatabase, target: str | None = None) -> list[str]:
    """Apply the migrations up to ``target``, or all.

    Raises: Refusal if the file has one that we do not know.
    """
    runner = Runner(database, str(SCRIPTS))
    unknown = [migration.name for migration in runner.status() if migration.path is None]
    if unknown:
        newest = runner.migrations()[-1].name
        raise Refusal(f"was written by a newer version ({unknown[-1]}); this one knows up to {newest}")
    applied = runner.up(target)
    if applied:
        # A changed schema makes running servers prepare their statements again, so that the schema guard runs.
        database.execute_sql("CREATE TABLE schema_has_changed (x)")
        database.execute_sql("DROP TABLE schema_has_changed")
    return applied


def require_ours(database: SqliteDatabase) -> None:
    """Raise Refusal if the file belongs to another application."""
    if database.get_tables() and database.pragma("application_id") != APPLICATION_ID:
        raise Refusal("is another application's SQLite database")


def require_sound(database: SqliteDatabase) -> None:
    """Raise Refusal if SQLite finds damage."""
    problems = database.execute_sql("PRAGMA integrity_check(1)").fetchall()
    if problems != [("ok",)]:
        raise Refusal("is damaged: " + " ".join(problems[0][0].split()))


def require_true(database: SqliteDatabase) -> None:
    """Raise Refusal if a checksum shows that another program changed a record."""
    with database.atomic():
        fault = next(integrity.record_faults(database.connection()), None)
    if fault:
        raise Refusal(f"{fault.text}; flask --app registry check says more")


def warn_of_network(path: Path, table: str = filesystem.MOUNTS) -> None:
    """Print a warning if the file is on a network file system."""
    kind = filesystem.network_file_system(path, table)
    if kind:
        warning = f"{path} is on a network file system ({kind}), where SQLite's locks and log are not safe"
        sys.stderr.write(f"registry: warning: {warning}; move it to a local disk\n")
