"""Totals and problems of the images that a caller may see, cached in proportion to their cost."""

import os
import threading
import time
from collections import Counter
from datetime import timedelta
from typing import NamedTuple

from errors import DatabaseUnavailable
from formatting import path_of_url
from models import VISIBLE, visibility_scope_of
from storage import engine
from storage.documents import KILLED, NORMAL, PRIVATE
from storage.timestamps import time_before
from storage.ttl_cache import TTLCache

# With a million images the queries take seconds. A result that took one second is cached for 100,
# and one thread at a time reads it.
CACHE_FACTOR, LONGEST_TTL_SECONDS = 100, 900
MOST_CACHED = 64
# A waiting request occupies one of the worker's few threads, so the wait is short.
LOCK_SECONDS = 0.5
BUSY = "Another request is computing the totals. Try again in a few seconds."
# Number of images that a problem names, and the most candidates that each check reads.
NAMED, CANDIDATES, FILES, CHECKSUMS, STUCK_COUNTED = 5, 20_000, 500, 200, 1000
DAY = timedelta(days=1)
MONTHS_SHOWN = 24

# Disjoint parts of the images that are not deleted. The index covers all columns that totals read.
# Killed images count by status only, since lists leave them out too.
PARTS = {
    "all": "image INDEXED BY image_by_created_at WHERE list_partition IN ({partitions})",
    "public": "image INDEXED BY image_by_created_at WHERE list_partition IN ({partitions})",
    "own": "image INDEXED BY image_of_owner WHERE owner = :tenant AND list_partition IN ({partitions})",
    "member": """image WHERE pk IN (SELECT image_id FROM member WHERE member = :tenant)
        AND list_partition IN ({partitions}) AND (owner IS NULL OR owner <> :tenant)""",
}
OFFSETS = {"all": (0, PRIVATE), "public": (0,), "own": (PRIVATE,), "member": (PRIVATE,)}
BY_KIND = "SELECT status, disk_format, count(*), total(size) FROM {part} GROUP BY status, disk_format"
BY_OWNER = "SELECT owner, count(*), total(size) FROM {part} GROUP BY owner ORDER BY 3 DESC, 2 DESC LIMIT 100"
# One index range per month: GROUP BY would sort first, which takes twenty times as long.
BY_MONTH = """WITH RECURSIVE month(first, next) AS (
    SELECT date('now', 'start of month'), date('now', 'start of month', '+1 month')
    UNION ALL SELECT date(first, '-1 month'), first FROM month LIMIT {months})
    SELECT substr(first, 1, 7), (SELECT count(*) FROM {part} AND created_at >= first AND created_at < next)
    FROM month"""
LISTED = f"list_partition IN ({NORMAL}, {NORMAL + PRIVATE})"


def source_of(part, *states):
    """Return the FROM clause of a part, over its list partitions."""
    partitions = [str(state + offset) for state in states for offset in OFFSETS[part]]
    return PARTS[part].format(partitions=", ".join(partitions))


KINDS = {part: BY_KIND.format(part=source_of(part, NORMAL, KILLED)) for part in PARTS}
OWNERS = {part: BY_OWNER.format(part=source_of(part, NORMAL)) for part in PARTS}
MONTHS = {part: BY_MONTH.format(part=source_of(part, NORMAL), months=MONTHS_SHOWN) for part in PARTS}

STUCK = {
    scope: f"""SELECT id, name, status, updated_at FROM image INDEXED BY image_by_status WHERE {LISTED}
        AND status IN ('queued', 'saving') AND created_at < :before AND updated_at < :before AND {rule}
        ORDER BY updated_at LIMIT {STUCK_COUNTED}"""
    for scope, rule in VISIBLE.items()
}
NEWEST = f"SELECT count(*) FROM (SELECT 1 FROM image WHERE {LISTED} LIMIT {CANDIDATES + 1})"
UNPLACED = f"""SELECT id, name FROM (SELECT pk, id, name, status FROM image INDEXED BY image_by_created_at
    WHERE {LISTED} ORDER BY created_at DESC LIMIT {CANDIDATES}) WHERE status = 'active'
    AND NOT EXISTS (SELECT 1 FROM location WHERE image_id = pk AND location.status = 'active')"""
# Images without locations are found above; these are the files of the newest images.
FILE_LOCATIONS = f"""SELECT id, name, url FROM (SELECT pk, id, name FROM image INDEXED BY image_by_created_at
    WHERE {LISTED} ORDER BY created_at DESC LIMIT {CANDIDATES})
    JOIN location ON image_id = pk WHERE location.status = 'active' AND url LIKE 'file:%' LIMIT {FILES}"""
DOUBLED = {
    "admin": "SELECT checksum FROM image INDEXED BY image_with_checksum WHERE checksum > '' GROUP BY 1"
    f" HAVING count(*) > 1 LIMIT {CHECKSUMS}",
    "tenant": f"SELECT DISTINCT checksum FROM image INDEXED BY image_of_owner WHERE owner = :tenant AND {LISTED}"
    " AND checksum > '' LIMIT 2000",
}
DUPLICATES = {
    scope: f"""SELECT doubled.checksum, count(*), min(image.name) FROM ({doubled}) AS doubled
        CROSS JOIN image INDEXED BY image_with_checksum ON image.checksum = doubled.checksum
        WHERE {LISTED} AND {VISIBLE[scope]} GROUP BY 1 HAVING count(*) > 1
        ORDER BY 2 DESC"""
    for scope, doubled in DOUBLED.items()
}

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
    months: dict  # month → count, of the last MONTHS_SHOWN


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
    duplicates: Problem  # (checksum, count, a name)


def totals_of(context):
    """Return (Totals of the images that the caller may see, their age in seconds)."""
    parts = ["all"] if context.is_admin else ["public", *(["own", "member"] if context.tenant is not None else [])]
    read = [
        read_cached(("part", part, tenant_in(part, context)), lambda part=part: read_part(part, context))
        for part in parts
    ]
    return merged([part for part, _ in read]), max(age for _, age in read)


def tenant_in(part, context):
    return context.tenant if part in ("own", "member") else None


def read_part(part, context):
    parameters = {"tenant": context.tenant}
    with engine.reading():
        return tuple(engine.execute(table[part], parameters).fetchall() for table in (KINDS, OWNERS, MONTHS))


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
        return Problems(*[Problem(0, [], True)] * 4)
    key = ("wrong", context.is_admin, context.tenant, looks_for_files)
    return read_cached(key, lambda: read_problems(scope, context, looks_for_files))[0]


def read_problems(scope, context, looks_for_files):
    parameters = {"tenant": context.tenant, "before": time_before(DAY)}
    with engine.reading():
        stuck = engine.execute(STUCK[scope], parameters).fetchall()
        duplicates = engine.execute(DUPLICATES[scope], parameters).fetchall()
        (newest,) = engine.execute(NEWEST, ()).fetchone()
        unplaced = engine.execute(UNPLACED, ()).fetchall() if context.is_admin else []
        places = engine.execute(FILE_LOCATIONS, ()).fetchall() if looks_for_files else []
    lost = [(image_id, name) for image_id, name, url in places if is_lost(url)]
    is_all = newest <= CANDIDATES
    return Problems(
        problem_of(stuck, len(stuck) < STUCK_COUNTED),
        problem_of(unplaced, is_all),
        problem_of(lost, is_all and len(places) < FILES),
        problem_of(duplicates, len(duplicates) < CHECKSUMS),
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
