"""Readiness checks: database, schema version and disk space."""

import os
import time

from storage import engine

# Below this the disk counts as full: the write-ahead log needs room for several writes.
LEAST_FREE_BYTES = 64 * 1024 * 1024
# TTL of a report, because a check briefly takes the write lock.
TTL_SECONDS = 1.0
OK = "ok"


class Health:
    """Cached readiness report of the section [database], without paths or content."""

    def __init__(self, settings):
        self.settings, self.folder = settings, engine.folder(settings)
        self.cached, self.until = None, 0.0

    def report(self):
        """Return {check: "ok" or the problem}."""
        if self.cached is None or time.monotonic() >= self.until:
            self.cached = {**engine.health(self.settings), "disk": self.disk()}
            self.until = time.monotonic() + TTL_SECONDS
        return self.cached

    def disk(self):
        """Return "ok", or the problem of the disk."""
        try:
            free = free_bytes(self.folder)
        except OSError as error:
            return f"cannot be checked: {error.strerror}"
        return OK if free >= LEAST_FREE_BYTES else f"has {free // 1024**2} MiB free, less than 64"


def is_ready(report):
    """Return whether every check of a report is ok."""
    return set(report.values()) == {OK}


def free_bytes(folder):
    """Return the free bytes on the disk that holds ``folder``."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
