"""Inspection of an image file: format, sizes and checksums."""

import os
import stat
from contextlib import contextmanager
from typing import NamedTuple

from cli.checksums import MD5, SHA512
from cli.file_walk import describe_error
from cli.image_format import IMAGE, Detected, detect_format

UNREADABLE, CHANGED = "unreadable", "changed"


class Inspected(NamedTuple):
    """Result of an inspection: a verdict of image_format, UNREADABLE or CHANGED.

    ``digests`` is empty unless the whole file was read.
    """

    verdict: str
    detected: Detected | None = None
    digests: dict[str, str] = {}
    status: os.stat_result | None = None
    reason: str = ""


def is_image(detected):
    """Return whether a whole image was detected."""
    return detected.verdict == IMAGE


@contextmanager
def open_regular_file(path):
    """Yield (descriptor, status) of a regular file; never block. Raises: OSError."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "is not a regular file")
        yield file, status
    finally:
        os.close(file)


def inspect_file(
    path, disk_formats, hasher=None, algorithms=(MD5, SHA512), advance=lambda count: None, is_hashed=is_image
):
    """Return the Inspected of a file.

    Files are hashed if there is a ``hasher`` and ``is_hashed(detected)``.
    Raises: Stopped.
    """
    try:
        with open_regular_file(path) as (file, status):
            detected = detect_format(file, os.path.basename(path), status.st_size, disk_formats, os.path.dirname(path))
            if hasher is None or not is_hashed(detected):
                return Inspected(detected.verdict, detected, {}, status, detected.reason)
            digests, count = hasher.hash_file(file, status.st_size, algorithms, advance)
            if count != status.st_size or has_changed(path, file, status):
                return Inspected(CHANGED, reason="changed while being read")
            return Inspected(detected.verdict, detected, digests, status, detected.reason)
    except OSError as error:
        return Inspected(UNREADABLE, reason=describe_error(error))


def has_changed(path, file, before):
    """Return whether the open file was written or replaced since ``before``."""
    return any(
        (after.st_dev, after.st_ino, after.st_size, after.st_mtime_ns)
        != (before.st_dev, before.st_ino, before.st_size, before.st_mtime_ns)
        for after in (os.fstat(file), os.stat(path))
    )


__all__ = ["CHANGED", "UNREADABLE", "Inspected", "has_changed", "inspect_file", "open_regular_file"]
