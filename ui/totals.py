"""Totals and problems of the images that a caller may see, cached in proportion to their cost."""

import os
import threading
import time
from collections import Counter
from datetime import timedelta
from typing import NamedTuple

from errors import DatabaseUnavailable
from formatting import path_of_url
from listing import aggregates
from models import visibility_scope_of
from storage import engine
from storage.timestamps import time_before
from storage.ttl_cache import TTLCache

# With a million images the queries take seconds. A result that took one second is cached for 100,
# and one thread at a time reads it.
CACHE_FACTOR, LONGEST_TTL_SECONDS = 100, 900
MOST_CACHED = 64
# A waiting request occupies one of the worker's few threads, so the wait is short.
LOCK_SECONDS = 0.5
BUSY = "Another request is computing the totals. Try again in a few seconds."
NAMED = 5  # number of images that a problem names
DAY = timedelta(days=1)

totals_cache = TTLCache(MOST_CACHED)
reading_lock = threading.Lock()


class Totals(NamedTuple):
    """Counts and bytes by status, format, owner and month (YYYY-MM), the largest first.

    Killed images count by status only.
    """

    count: int
    size: float
    statuses: dict  # status → (count, size), killed included
    formats: dict  # disk_format, or None → (count, size)
    owners: dict  # owner, or None → (count, size): the largest
    months: dict  # month → count, of the last aggregates.MONTHS_COUNTED


class Problem(NamedTuple):
    """Images with one kind of problem."""

    count: int
    first: list  # the first NAMED of them
    is_all: bool  # false if candidates beyond the limit were not checked


class Problems(NamedTuple):
    """Problems of each kind."""

    stuck: Problem
    unplaced: Problem
    lost: Problem  # the file of a location is missing
    failed: Problem  # the last verification failed
    duplicates: Problem  # (checksum, count, a name)


def totals_of(context):
    """Return (Totals of the images that the caller may see, their age in seconds)."""
    parts = ["all"] if context.is_admin else ["public", *(["own", "member"] if context.tenant is not None else [])]
    read = [
        read_cached(
            ("part", part, tenant_in(part, context)), lambda part=part: aggregates.count_part(part, context.tenant)
        )
        for part in parts
    ]
    return merged([part for part, _ in read]), max(age for _, age in read)


def tenant_in(part, context):
    return context.tenant if part in ("own", "member") else None


def merged(parts):
    statuses, formats, owners, months = {}, {}, {}, Counter()
    for kinds, by_owner, by_month in parts:
        for status, disk_format, *amounts in kinds:
            add(statuses, status, amounts)
            if status != "killed":
                add(formats, disk_format, amounts)
        for owner, *amounts in by_owner:
            add(owners, owner, amounts)
        months.update(dict(by_month))
    count, size = (sum(amounts[place] for amounts in formats.values()) for place in (0, 1))
    return Totals(count, size, ordered(statuses), ordered(formats), ordered(owners), dict(sorted(months.items())))


def add(table, name, amounts):
    before = table.get(name, (0, 0.0))
    table[name] = (before[0] + amounts[0], before[1] + amounts[1])


def ordered(table):
    return dict(sorted(table.items(), key=lambda entry: (-entry[1][1], -entry[1][0], entry[0] or "")))


def find_problems(context, looks_for_files=False):
    """Return the Problems that the caller may see; callers without a tenant have none."""
    scope = visibility_scope_of(context)
    if scope == "public":
        return Problems(*[Problem(0, [], True)] * len(Problems._fields))
    key = ("wrong", context.is_admin, context.tenant, looks_for_files)
    return read_cached(key, lambda: read_problems(scope, context, looks_for_files))[0]


def read_problems(scope, context, looks_for_files):
    found = aggregates.find_candidates(scope, context, time_before(DAY), looks_for_files)
    known = {image_id for image_id, *_ in found.failed}
    lost = [(image_id, name) for image_id, name, url in found.files if image_id not in known and is_lost(url)]
    return Problems(
        problem_of(found.stuck, len(found.stuck) < aggregates.STUCK_COUNTED),
        problem_of(found.unplaced, found.is_all),
        problem_of(lost, found.is_all and len(found.files) < aggregates.FILES),
        problem_of(found.failed, len(found.failed) < aggregates.FAILED_COUNTED),
        problem_of(found.duplicates, len(found.duplicates) < aggregates.CHECKSUMS),
    )


def problem_of(entries, is_all):
    return Problem(len(entries), entries[:NAMED], is_all)


def is_lost(url):
    """Return whether the local file of a location is missing from its folder.

    The file is never opened. An unreadable folder (container, systemd ProtectHome) proves nothing.
    """
    path = path_of_url(url)
    if path is None:
        return False
    try:
        os.stat(path)
    except FileNotFoundError:
        return os.access(os.path.dirname(path), os.R_OK | os.X_OK)
    except OSError:
        pass
    return False


def read_cached(key, read):
    """Return (cached result of ``read``, its age in seconds).

    While one thread refreshes an entry, others get the old one.

    Raises: DatabaseUnavailable if there is no old entry and another thread reads.
    """
    key = (engine.database.database, *key)
    known = totals_cache.get(key)
    if known is not None and known.is_fresh:
        return known.value, known.age
    if not reading_lock.acquire(timeout=0 if known is not None else LOCK_SECONDS):
        if known is None:
            raise DatabaseUnavailable(BUSY) from TimeoutError("another thread reads totals")
        return known.value, known.age
    try:
        latest = totals_cache.get(key)
        if latest is not known and latest is not None:
            return latest.value, latest.age
        begun = time.monotonic()
        value = read()
        totals_cache.put(key, value, min((time.monotonic() - begun) * CACHE_FACTOR, LONGEST_TTL_SECONDS))
        return value, 0.0
    finally:
        reading_lock.release()
