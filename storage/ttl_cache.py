"""Bounded TTL cache."""

import threading
import time
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """Cached value, with monotonic times in seconds."""

    value: Any
    stored_at: float
    expires_at: float

    @property
    def age(self):
        """Return the seconds since the value was stored."""
        return time.monotonic() - self.stored_at

    @property
    def is_fresh(self):
        """Return whether the time to live has not passed."""
        return time.monotonic() < self.expires_at


class TTLCache:
    """Cache of at most ``max_entries`` values, each with its own time to live (TTL), for several threads."""

    def __init__(self, max_entries):
        self.max_entries = max_entries
        self.entries = {}
        self.lock = threading.Lock()

    def get(self, key):
        """Return the Entry of a key, fresh or expired, or None."""
        return self.entries.get(key)

    def put(self, key, value, ttl):
        """Store a value for ``ttl`` seconds; if full, drop the half that expires first."""
        now = time.monotonic()
        with self.lock:
            if key not in self.entries and len(self.entries) >= self.max_entries:
                first = sorted(self.entries, key=lambda other: self.entries[other].expires_at)
                for other in first[: (self.max_entries + 1) // 2]:
                    del self.entries[other]
            self.entries[key] = Entry(value, now, now + ttl)

    def clear(self):
        """Drop all entries."""
        with self.lock:
            self.entries.clear()
