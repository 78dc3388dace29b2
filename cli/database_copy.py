"""Database copies: checked, synced, and renamed into place."""

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path

import click

from cli.check import look
from cli.progress import progress_bar
from cli.record_files import part_of
from storage import file_checks, wal
from storage.filesystem import sync, sync_folder

# SQLite's lock bytes (sqlite.org, fileformat2.html): one pending, one reserved, 510 shared.
LOCK_BYTE, LOCK_BYTES = 0x40000000, 512
REPLACED = b"replaced by flask restore\0"


def companions(path):
    """Return the paths of the log files that SQLite keeps beside a database."""
    return [path.with_name(f"{path.name}{ending}") for ending in ("-wal", "-shm", "-journal")]


def require_other(one, other):
    """Raise ClickException if two paths are the same file."""
    if os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other):
        raise click.ClickException(f"{one}: is the database itself.")


def require_free(name, database_path, force):
    """Return the path for a copy. Raises ClickException if it is taken."""
    path = Path(os.path.realpath(name))
    require_other(path, database_path)
    if path.exists() and not path.is_file():
        raise click.ClickException(f"{name}: is not a file.")
    if path.exists() and not force:
        raise click.ClickException(f"{name}: exists; --force replaces it.")
    beside = [companion.name for companion in companions(path) if companion.exists()]
    if beside:
        raise click.ClickException(f"{name}: {beside[0]} is beside it, and would be taken for the copy's.")
    return path


@contextmanager
def copied(source, target):
    """Copy ``source`` to a private file beside ``target``, and sync it.

    At the end the copy is removed, unless it was renamed.

    Raises OSError, and ClickException if the source's log is damaged.
    """
    if fault := wal.log_fault(source):
        raise click.ClickException(f"{source}: {fault}.")
    part = part_of(target)
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with progress_bar("copy", os.path.getsize(source), "bytes") as show:
            file_checks.copy(
                source, part, lambda done, pages: show(os.path.getsize(source) * done // max(pages, 1), None)
            )
        sync(part)
        yield part
    finally:
        for path in (part, *companions(part)):
            path.unlink(missing_ok=True)


def require_whole(part, name):
    """Print a copy's faults and return its number of images.

    Raises: ClickException if it has faults.
    """
    found = look(part, called=name)
    if found.count:
        raise click.ClickException(f"{name}: {found.count} faults; nothing was written.")
    sync(part)
    return found.images


@contextmanager
def unused(path):
    """Hold the database at ``path``, which may be damaged or missing.

    Raises: ClickException if it is in use.
    """
    held = Held(path)
    try:
        held.require_unused()
        yield held
    finally:
        held.release()


class Held:
    """An exclusive lock on a database file: SQLite's own, also on a file that SQLite cannot read."""

    def __init__(self, path):
        self.path = path
        self.handle = None

    def require_unused(self):
        """Take the lock.

        A server holds a shared one while it has the file open; a later one waits for ours.
        """
        if not self.path.exists():
            return
        try:
            self.handle = os.open(self.path, os.O_RDWR)
            fcntl.lockf(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB, LOCK_BYTES, LOCK_BYTE)
        except (BlockingIOError, PermissionError) as error:
            cause = "is in use: stop the server, and whatever else has it open" if self.handle else error.strerror
            raise click.ClickException(f"{self.path}: {cause}.") from None

    def replace_with(self, part):
        """Replace the file; at every step it is the whole old or new database."""
        if self.handle is not None:
            # SQLite takes the lock itself while it applies the log, so we release ours.
            self.release()
            try:
                file_checks.apply_log(self.path)
            except BlockingIOError as error:
                raise click.ClickException(f"{self.path}: {error}.") from None
            except OSError:
                pass  # so damaged that its log fits nothing
            self.require_unused()
        for companion in companions(self.path):
            companion.unlink(missing_ok=True)
        sync_folder(self.path)  # else a power loss could bring the old log back beside the new file
        part.replace(self.path)
        sync_folder(self.path)
        self.spoil()

    def spoil(self):
        """Overwrite the old file's header.

        A process that opened it would write a log beside the new file.
        """
        if self.handle is not None and os.fstat(self.handle).st_nlink == 0:
            os.pwrite(self.handle, REPLACED, 0)

    def release(self):
        """Release the lock."""
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None
