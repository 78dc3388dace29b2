"""Copies of a database on their way into place."""

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path

import click

from cli.check import look
from cli.progress import progress_bar
from cli.record_files import part_of
from storage import integrity, wal

# Where SQLite locks a file, its documentation of the file format says: a pending byte, a reserved, 510 shared ones.
LOCK_BYTE, LOCK_BYTES = 0x40000000, 512
REPLACED = b"replaced by flask restore\0"


def companions(path):
    """The files that SQLite keeps beside a database, and would apply to any that bears its name."""
    return [path.with_name(f"{path.name}{ending}") for ending in ("-wal", "-shm", "-journal")]


def require_other(one, other):
    if os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other):
        raise click.ClickException(f"{one}: is the database itself.")


def require_free(name, database_path, force):
    """The path of a copy to be. Raises ClickException."""
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
    """A copy of ``source`` beside ``target``, for its owner only, synced at the end of copying, removed if still there.

    Raises OSError, and ClickException for a source whose log is damaged.
    """
    if fault := wal.log_fault(source):
        raise click.ClickException(f"{source}: {fault}.")
    part = part_of(target)
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with progress_bar("copy", os.path.getsize(source), "bytes") as show:
            integrity.copy(
                source, part, lambda done, pages: show(os.path.getsize(source) * done // max(pages, 1), None)
            )
        sync(part)
        yield part
    finally:
        for path in (part, *companions(part)):
            path.unlink(missing_ok=True)


def require_whole(part, name):
    """How many images it has. Raises ClickException where anything is wrong with it, after saying what."""
    found = look(part, called=name)
    if found.count:
        raise click.ClickException(f"{name}: {found.count} faults; nothing was written.")
    sync(part)
    return found.images


def sync(path):
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path):
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def unused(path):
    """A Held of the database at ``path``, which may be damaged or absent. Raises ClickException where it is in use."""
    held = Held(path)
    try:
        held.require_unused()
        yield held
    finally:
        held.release()


class Held:
    """A database file that nobody else may open: the lock that SQLite would take, also on a file it cannot read."""

    def __init__(self, path):
        self.path = path
        self.handle = None

    def require_unused(self):
        """A server that has it open holds a shared lock (in WAL mode always); one that starts later waits for ours."""
        if not self.path.exists():
            return
        try:
            self.handle = os.open(self.path, os.O_RDWR)
            fcntl.lockf(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB, LOCK_BYTES, LOCK_BYTE)
        except (BlockingIOError, PermissionError) as error:
            cause = "is in use: stop the server, and whatever else has it open" if self.handle else error.strerror
            raise click.ClickException(f"{self.path}: {cause}.") from None

    def replace_with(self, part):
        """At every step there is one whole database at the path: the old one, its log in it, or the new one."""
        if self.handle is not None:
            # SQLite takes the locks itself while it puts the log's content into the file; that closes ours.
            self.release()
            try:
                integrity.settle(self.path)
            except BlockingIOError as error:
                raise click.ClickException(f"{self.path}: {error}.") from None
            except OSError:
                pass  # so damaged that its log fits nothing
            self.require_unused()
        for companion in companions(self.path):
            companion.unlink(missing_ok=True)
        sync_folder(self.path)  # else, after a loss of power, an old log could be back beside the new file
        part.replace(self.path)
        sync_folder(self.path)
        self.spoil()

    def spoil(self):
        """Who opened the old file while we held it would write a log beside the new one: let it see no database."""
        if self.handle is not None and os.fstat(self.handle).st_nlink == 0:
            os.pwrite(self.handle, REPLACED, 0)

    def release(self):
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None
