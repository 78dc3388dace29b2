"""The regular files in folders, each once, whatever links lead to it."""

import errno
import os
import stat
from typing import NamedTuple

NOWHERE = "is a link to nothing"


class Entry(NamedTuple):
    """A regular file: an absolute path, and what ``os.stat`` says of it."""

    path: str
    status: os.stat_result

    @property
    def identity(self):
        return self.status.st_dev, self.status.st_ino

    @property
    def signature(self):
        """What moves whenever the content does, short of a clock set back."""
        return self.status.st_size, self.status.st_mtime_ns, self.status.st_ino


class Found(NamedTuple):
    """``troubles`` are [(path, reason)]; ``doubles`` [(path, the entry's path)] of files that have several names."""

    entries: list[Entry]
    troubles: list[tuple[str, str]]
    doubles: list[tuple[str, str]]


def walk(roots):
    """All regular files at and below the paths ``roots``, in order of their paths.

    Links are followed, to files and folders, each of which counts once: where a file has a name that is no link, under
    that. What is neither file nor folder is passed over.
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
            troubles.append((path, NOWHERE if is_gone(path) and os.path.islink(path) else reason_of(error)))
    return once([*sorted(plain), *sorted(links)], troubles)


def once(entries, troubles):
    kept, doubles = {}, []
    for entry in entries:
        first = kept.setdefault(entry.identity, entry)
        if first is not entry and first.path != entry.path:
            doubles.append((entry.path, first.path))
    return Found(sorted(kept.values()), sorted(troubles), doubles)


def reason_of(error):
    return (error.strerror or str(error) or type(error).__name__).lower()


def is_below(path, roots):
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


def is_gone(path):
    """Whether nothing is there; what cannot be looked at is not gone."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
    return False
