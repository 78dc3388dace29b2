"""Whether the registry can do its work now: the database, its version, and the room beside it."""

import os
import time
from pathlib import Path

from storage import engine

# Below this the disk counts as full: a write needs room for its log, and the log for more than one write.
LEAST_FREE_BYTES = 64 * 1024 * 1024
# Who asks more often is told what was found before: a check takes the write lock, if for no time.
KEPT_SECONDS = 1.0
OK = "ok"


class Health:
    """Of the file of the section [database]. What it says names no path and no content: anybody may ask."""

    def __init__(self, settings):
        self.settings, self.path = settings, Path(settings.path)
        self.kept, self.until = None, 0.0

    def report(self):
        """{check: "ok", or in words what is wrong}."""
        if self.kept is None or time.monotonic() >= self.until:
            self.kept = {**engine.health(self.settings), "disk": self.disk()}
            self.until = time.monotonic() + KEPT_SECONDS
        return self.kept

    def disk(self):
        try:
            free = free_bytes(self.path)
        except OSError as error:
            return f"cannot be asked: {error.strerror}"
        return OK if free >= LEAST_FREE_BYTES else f"has {free // 1024**2} MiB free, less than 64"


def is_ready(report):
    return set(report.values()) == {OK}


def free_bytes(path):
    """What is left for us on the disk that holds ``path``."""
    disk = os.statvfs(path.parent)
    return disk.f_bavail * disk.f_frsize
