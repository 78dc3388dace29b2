"""Directory walk: the regular files below folders, each once, with symbolic links followed."""

import errno
import os
import stat
from typing import NamedTuple

BROKEN_LINK = "is a broken symbolic link"


class Entry(NamedTuple):
    """Regular file: its absolute path and the result of ``os.stat``."""

    path: str
    status: os.stat_result

    @property
    def identity(self):
        """Return device and inode, which all hard links of a file share."""
        return self.status.st_dev, self.status.st_ino

    @property
    def signature(self):
        """Return (size, mtime, inode).

        They differ when the content does, unless the clock was set back.
        """
        return self.status.st_size, self.status.st_mtime_ns, self.status.st_ino


class Found(NamedTuple):
    """Result of a walk: ``duplicates`` are pairs (path, path in ``entries``)."""

    entries: list[Entry]
    troubles: list[tuple[str, str]]
    duplicates: list[tuple[str, str]]


def walk_files(roots):
    """Return all regular files at and below the paths ``roots``, sorted by path.

    Symbolic links are followed. Each file and folder counts once, files under a path that is no link if they have one.
    """
    links, plain, troubles, seen = [], [], [], set()
    waiting = [(root, True) for root in reversed(roots)]
    while waiting:
        path, is_root = waiting.pop()
        try:
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode):
                (links if os.path.islink(path) and not is_root else plain).append(Entry(path, status))
            elif stat.S_ISDIR(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(path) as children:
                    waiting += [(child.path, False) for child in children]
        except OSError as error:
            troubles.append((path, BROKEN_LINK if is_gone(path) and os.path.islink(path) else describe_error(error)))
    return split_duplicates([*sorted(plain), *sorted(links)], troubles)


def split_duplicates(entries, troubles):
    """Return a Found with the first entry of each file, the others as duplicates."""
    kept, duplicates = {}, []
    for entry in entries:
        first = kept.setdefault(entry.identity, entry)
        if first is not entry and first.path != entry.path:
            duplicates.append((entry.path, first.path))
    return Found(sorted(kept.values()), sorted(troubles), duplicates)


def describe_error(error):
    """Return an OSError's text in lower case, without its number and path."""
    return (error.strerror or str(error) or type(error).__name__).lower()


def is_below(path, roots):
    """Return whether a path is one of ``roots`` or below one."""
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


def is_gone(path):
    """Return whether nothing exists at the path; False if it cannot be examined."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
    return False
