"""The database's way in: created, checked, and brought to the newest version, before anybody serves it."""

import os
import time
from pathlib import Path

from peewee import OperationalError, PeeweeException, SqliteDatabase
from playhouse.migrations import Runner

from errors import StartupError

SCRIPTS = Path(__file__).parent
APPLICATION_ID = 0x494D5247  # "IMRG" in the file's header: what tells a registry from other SQLite files
# Up to this size the whole file is checked at start; above, header, schema and length are.
CHECKED_BYTES = 64 * 1024 * 1024


def prepare(settings) -> None:
    """Create, check and migrate the file of the section [database], safe beside others that do the same.

    Raises StartupError naming the option, its value and the cause.
    """
    path = Path(settings.connection.removeprefix("sqlite:///"))
    try:
        create(path)
        require_whole(path)
        migrate(path, settings.busy_timeout)
    except Refusal as refusal:
        raise StartupError(f"[database] connection = {settings.connection!r}: {refusal}") from None
    except OSError as error:
        raise StartupError(f"[database] connection = {settings.connection!r}: {error.strerror}") from None
    except PeeweeException as error:
        raise StartupError(f"[database] connection = {settings.connection!r}: {error}") from None


class Refusal(Exception):
    """Why this file is not served."""


def create(path: Path) -> None:
    """Make the file where there is none: for its owner alone, since locations can carry credentials."""
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
    """Raises Refusal for what is no SQLite file, and for one whose end is missing.

    While a write-ahead log is there it may hold the missing pages; SQLite then sees to it.
    """
    with path.open("rb") as file:
        header = file.read(100)
    if not header:
        return
    if not header.startswith(b"SQLite format 3\0"):
        raise Refusal("is not a SQLite database")
    page_size = int.from_bytes(header[16:18]) if header[16:18] != b"\0\1" else 65536
    pages = int.from_bytes(header[28:32])
    log = path.with_name(f"{path.name}-wal")
    if pages * page_size > path.stat().st_size and not (log.exists() and log.stat().st_size):
        raise Refusal(f"is damaged: it has {path.stat().st_size} of {pages * page_size} bytes")


def migrate(path: Path, busy_timeout: int) -> None:
    """Apply what is missing, in one transaction that holds the write lock: who comes second finds it done."""
    # Foreign keys are off, since a migration may rebuild a table that others refer to.
    database = SqliteDatabase(str(path), pragmas={"synchronous": "full", "foreign_keys": 0}, timeout=busy_timeout)
    try:
        require_ours(database)
        if path.stat().st_size <= CHECKED_BYTES:
            require_sound(database)
        begin_log(database, busy_timeout)
        with database.atomic("IMMEDIATE"):
            run(database)
    finally:
        database.close()


def begin_log(database: SqliteDatabase, busy_timeout: int) -> None:
    """Switch to the write-ahead log. SQLite does not wait for another's lock here as it does elsewhere."""
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


def run(database: SqliteDatabase, target: str | None = None) -> list[str]:
    """Apply the scripts up to ``target``, or all. Raises Refusal where the file knows a script that we do not."""
    runner = Runner(database, str(SCRIPTS))
    unknown = [migration.name for migration in runner.status() if migration.path is None]
    if unknown:
        newest = runner.migrations()[-1].name
        raise Refusal(f"was written by a newer version ({unknown[-1]}); this one knows up to {newest}")
    return runner.up(target)


def require_ours(database: SqliteDatabase) -> None:
    if database.get_tables() and database.pragma("application_id") != APPLICATION_ID:
        raise Refusal("is another application's SQLite database")


def require_sound(database: SqliteDatabase) -> None:
    problems = database.execute_sql("PRAGMA quick_check(1)").fetchall()
    if problems != [("ok",)]:
        raise Refusal("is damaged: " + " ".join(problems[0][0].split()))
