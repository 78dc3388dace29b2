"""One file read for what the registry keeps of it: format, sizes, checksums."""

import os
import stat
from contextlib import contextmanager
from typing import NamedTuple

from cli.checksums import MD5, SHA512
from cli.file_walk import reason_of
from cli.image_format import IMAGE, REFUSED, Detected, detect

UNREADABLE, CHANGED = "unreadable", "changed"


class Reading(NamedTuple):
    """``verdict`` is one of detecting's, UNREADABLE or CHANGED (while it was read); ``digests`` only if hashed."""

    verdict: str
    detected: Detected | None = None
    digests: dict[str, str] = {}
    status: os.stat_result | None = None
    reason: str = ""


@contextmanager
def opened(path):
    """(descriptor, status) of a regular file. Raises OSError; it waits for no pipe and no device."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "is no regular file")
        yield file, status
    finally:
        os.close(file)


def read(path, disk_formats, hasher=None, algorithms=(MD5, SHA512), advance=lambda count: None, hashed=(IMAGE,)):
    """A Reading. Without ``hasher`` only the format is looked at; ``hashed`` are the verdicts whose files are read.

    Raises Stopped.
    """
    try:
        with opened(path) as (file, status):
            detected = detect(file, os.path.basename(path), status.st_size, disk_formats)
            if detected.verdict not in hashed or hasher is None:
                return Reading(detected.verdict, detected, {}, status, detected.reason)
            digests, count = hasher.digests(file, status.st_size, algorithms, advance)
            if count != status.st_size or has_changed(path, file, status):
                return Reading(CHANGED, reason="changed while it was read")
            return Reading(detected.verdict, detected, digests, status, detected.reason)
    except OSError as error:
        return Reading(UNREADABLE, reason=reason_of(error))


def has_changed(path, file, before):
    """Whether it was written to, or another has taken its path."""
    return any(
        (after.st_dev, after.st_ino, after.st_size, after.st_mtime_ns)
        != (before.st_dev, before.st_ino, before.st_size, before.st_mtime_ns)
        for after in (os.fstat(file), os.stat(path))
    )


__all__ = ["CHANGED", "IMAGE", "REFUSED", "UNREADABLE", "Reading", "opened", "read"]
