"""Files of records: plain, gzip, zstd, or a standard stream, by the name."""

import gzip
import os
import secrets
import stat
import zlib
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

STREAM = "-"
LONGEST_NAME = 200  # bytes, so that what is added fits
BUFFER_BYTES = 1024 * 1024


@contextmanager
def reading(name):
    """Yield (binary file of lines, underlying file, whose position gives progress).

    Raises ClickException of one line, also for errors while the file is read.
    """
    with ExitStack() as opened, errors_in_one_line(name):
        beneath = click.get_binary_stream("stdin") if name == STREAM else opened.enter_context(open(name, "rb"))
        source = opened.enter_context(opener_of(name)(beneath, "rb")) if opener_of(name) else beneath
        yield source, beneath


@contextmanager
def writing(name, is_database, is_forced):
    """Yield a binary file that takes its place when it is whole.

    No export replaces the database: ``is_database`` returns whether an existing path is its file.

    Only its owner can read it, since locations can carry credentials. Raises ClickException of one line.
    """
    with ExitStack() as opened, errors_in_one_line(name):
        if name == STREAM:
            stream = click.get_binary_stream("stdout")
            yield stream
            stream.flush()
            return
        path = Path(os.path.realpath(name))
        if path.exists() and is_database(path):
            raise click.ClickException(f"{name}: is the database itself.")
        if path.is_file() and not is_forced:
            raise click.ClickException(f"{name}: exists; --force replaces it.")
        beneath = opened.enter_context(replacing(path))
        target = opened.enter_context(opener_of(name)(beneath, "wb")) if opener_of(name) else beneath
        yield target


@contextmanager
def replacing(path, mode=0o600):
    """Yield a new file, and move it to ``path`` if no error occurs."""
    if path.exists() and not path.is_file():
        with path.open("wb") as device:
            yield device
        return
    part = part_of(path)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(handle, "wb", BUFFER_BYTES) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def part_of(path):
    """Return a random name beside ``path`` for the file that replaces it.

    Process ids repeat among containers.
    """
    name = os.fsdecode(os.fsencode(path.name)[:LONGEST_NAME])
    return path.with_name(f".{name}.{secrets.token_hex(4)}.part")


def opener_of(name):
    """Return the function that opens a compressed file by its name, or None."""
    return {".gz": open_gzip, ".zst": open_zstd}.get(Path(name).suffix.lower())


def open_gzip(beneath, mode):
    # Without name and time, so that the same records make the same file.
    return gzip.GzipFile("", mode, 6, beneath, mtime=0)


def open_zstd(beneath, mode):
    return zstd().ZstdFile(beneath, mode)


def zstd():
    """Return the zstd module, Python's own from 3.14 on.

    Imported late, since servers do not need it.
    """
    try:
        from compression import zstd as module
    except ImportError:
        from backports import zstd as module
    return module


def size_of(file):
    """Return a file's size in bytes, or None for a pipe or a terminal."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def position_of(file):
    return file.tell() if file.seekable() else 0


@contextmanager
def errors_in_one_line(name):
    """Turn errors of a file or the database into a ClickException of one line."""
    broken = (OSError, EOFError, zlib.error, *((zstd().ZstdError,) if name.lower().endswith(".zst") else ()))
    try:
        yield
    except BrokenPipeError:
        raise  # the reader has closed the pipe; click exits quietly
    except broken as error:
        cause = getattr(error, "strerror", None) or error
        raise click.ClickException(f"{name}: {cause}.".replace("..", ".")) from None
