"""Totals over what a caller may see, and what is wrong with it: read by index, remembered in proportion to cost."""

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
from storage.timestamps import time_before

# A million images take seconds. What took one second is shown for the next hundred, and read by one thread at a time.
REMEMBERED_FACTOR, LONGEST_SECONDS = 100, 900
MOST_REMEMBERED = 64
# Who waits holds one of the worker's few threads, which the API needs.
PATIENCE_SECONDS = 0.5
BUSY = "The totals are being read for somebody else just now, which takes a while."
# A list of what is wrong names so many, and is made of so many candidates at most.
NAMED, CANDIDATES, FILES, CHECKSUMS, STUCK_COUNTED = 5, 20_000, 500, 200, 1000
DAY = timedelta(days=1)
MONTHS_SHOWN = 24

# What is not deleted, in parts that do not overlap; the first index has all that totals ask for. Of killed
# images, which lists leave out too, only their status is told.
PARTS = {
    "all": "image INDEXED BY image_by_created_at WHERE shelf IN (0, 1{killed})",
    "public": "image INDEXED BY image_by_created_at WHERE shelf IN (0{killed})",
    "own": "image INDEXED BY image_of_owner WHERE owner = :tenant AND shelf IN (1{killed})",
    "member": """image WHERE pk IN (SELECT image_id FROM member WHERE member = :tenant) AND shelf IN (1{killed})
        AND (owner IS NULL OR owner <> :tenant)""",
}
KILLED_TOO = {"all": ", 2, 3", "public": ", 2", "own": ", 3", "member": ", 3"}
BY_KIND = "SELECT status, disk_format, count(*), total(size) FROM {part} GROUP BY status, disk_format"
BY_OWNER = "SELECT owner, count(*), total(size) FROM {part} GROUP BY owner ORDER BY 3 DESC, 2 DESC LIMIT 100"
# Each a range of the index: groups would be sorted first, which takes twenty times as long.
BY_MONTH = """WITH RECURSIVE month(first, next) AS (
    SELECT date('now', 'start of month'), date('now', 'start of month', '+1 month')
    UNION ALL SELECT date(first, '-1 month'), first FROM month LIMIT {months})
    SELECT substr(first, 1, 7), (SELECT count(*) FROM {part} AND created_at >= first AND created_at < next)
    FROM month"""
KINDS = {name: BY_KIND.format(part=part.format(killed=KILLED_TOO[name])) for name, part in PARTS.items()}
OWNERS = {name: BY_OWNER.format(part=part.format(killed="")) for name, part in PARTS.items()}
MONTHS = {name: BY_MONTH.format(part=part.format(killed=""), months=MONTHS_SHOWN) for name, part in PARTS.items()}

STUCK = {
    scope: f"""SELECT id, name, status, updated_at FROM image INDEXED BY image_by_status WHERE shelf IN (0, 1)
        AND status IN ('queued', 'saving') AND created_at < :before AND updated_at < :before AND {rule}
        ORDER BY updated_at LIMIT {STUCK_COUNTED}"""
    for scope, rule in VISIBLE.items()
}
NEWEST = f"SELECT count(*) FROM (SELECT 1 FROM image WHERE shelf IN (0, 1) LIMIT {CANDIDATES + 1})"
UNPLACED = f"""SELECT id, name FROM (SELECT pk, id, name, status FROM image INDEXED BY image_by_created_at
    WHERE shelf IN (0, 1) ORDER BY created_at DESC LIMIT {CANDIDATES}) WHERE status = 'active'
    AND NOT EXISTS (SELECT 1 FROM location WHERE image_id = pk AND location.status = 'active')"""
# Those without locations are found above; files are looked for where the newest images say they are.
FILE_LOCATIONS = f"""SELECT id, name, url FROM (SELECT pk, id, name FROM image INDEXED BY image_by_created_at
    WHERE shelf IN (0, 1) ORDER BY created_at DESC LIMIT {CANDIDATES})
    JOIN location ON image_id = pk WHERE location.status = 'active' AND url LIKE 'file:%' LIMIT {FILES}"""
DOUBLED = {
    "admin": "SELECT checksum FROM image INDEXED BY image_with_checksum WHERE checksum > '' GROUP BY 1"
    f" HAVING count(*) > 1 LIMIT {CHECKSUMS}",
    "tenant": "SELECT DISTINCT checksum FROM image INDEXED BY image_of_owner WHERE owner = :tenant AND shelf IN (0, 1)"
    " AND checksum > '' LIMIT 2000",
}
DUPLICATES = {
    scope: f"""SELECT doubled.checksum, count(*), min(image.name) FROM ({doubled}) AS doubled
        CROSS JOIN image INDEXED BY image_with_checksum ON image.checksum = doubled.checksum
        WHERE shelf IN (0, 1) AND {VISIBLE[scope]} GROUP BY 1 HAVING count(*) > 1
        ORDER BY 2 DESC"""
    for scope, doubled in DOUBLED.items()
}

remembered = {}
reading_lock = threading.Lock()


class Totals(NamedTuple):
    """Counts and bytes, by what, the largest first, of all but killed images; months are YYYY-MM."""

    count: int
    size: float
    statuses: dict  # status → (count, size), killed too
    formats: dict  # disk_format, or None → (count, size)
    owners: dict  # owner, or None → (count, size): the largest
    months: dict  # month → count, of the last MONTHS_SHOWN


class Found(NamedTuple):
    """What is wrong in one way."""

    count: int
    first: list  # NAMED of them
    is_all: bool  # else there may be more among those that were not looked at


class Wrong(NamedTuple):
    """What is wrong."""

    stuck: Found
    unplaced: Found
    lost: Found  # files that are not where their location says
    duplicates: Found  # (checksum, how many, a name)


def totals_of(context):
    """(Totals of what the caller may see, the seconds since they were read)"""
    parts = ["all"] if context.is_admin else ["public", *(["own", "member"] if context.tenant is not None else [])]
    read = [
        remember(("part", part, tenant_in(part, context)), lambda part=part: read_part(part, context)) for part in parts
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


def wrong_of(context, looks_for_files=False):
    """The Wrong that the caller may see; who is nobody's tenant has nothing to mend."""
    scope = visibility_scope_of(context)
    if scope == "public":
        return Wrong(*[Found(0, [], True)] * 4)
    key = ("wrong", context.is_admin, context.tenant, looks_for_files)
    return remember(key, lambda: read_wrong(scope, context, looks_for_files))[0]


def read_wrong(scope, context, looks_for_files):
    parameters = {"tenant": context.tenant, "before": time_before(DAY)}
    with engine.reading():
        stuck = engine.execute(STUCK[scope], parameters).fetchall()
        duplicates = engine.execute(DUPLICATES[scope], parameters).fetchall()
        (newest,) = engine.execute(NEWEST, ()).fetchone()
        unplaced = engine.execute(UNPLACED, ()).fetchall() if context.is_admin else []
        places = engine.execute(FILE_LOCATIONS, ()).fetchall() if looks_for_files else []
    lost = [(image_id, name) for image_id, name, url in places if is_lost(url)]
    is_all = newest <= CANDIDATES
    return Wrong(
        found_of(stuck, len(stuck) < STUCK_COUNTED),
        found_of(unplaced, is_all),
        found_of(lost, is_all and len(places) < FILES),
        found_of(duplicates, len(duplicates) < CHECKSUMS),
    )


def found_of(entries, is_all):
    return Found(len(entries), entries[:NAMED], is_all)


def is_lost(url):
    """Whether a file of this machine's is not in its folder; it is looked for, never opened.

    Where the folder is not here, or not for us to look into (a container, ProtectHome of systemd), nobody knows.
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


def remember(key, read):
    """(what ``read`` gives or gave, the seconds since then); while one reads it anew, others have the old one.

    Raises DatabaseUnavailable where there is no old one, and another thread reads.
    """
    key = (engine.database.database, *key)
    known = remembered.get(key)
    if known is not None and time.monotonic() < known[2]:
        return known[0], time.monotonic() - known[1]
    if not reading_lock.acquire(timeout=0 if known is not None else PATIENCE_SECONDS):
        if known is None:
            raise DatabaseUnavailable(BUSY) from TimeoutError("another thread reads totals")
        return known[0], time.monotonic() - known[1]
    try:
        latest = remembered.get(key)
        if latest is not known and latest is not None:
            return latest[0], time.monotonic() - latest[1]
        begun = time.monotonic()
        value, now = read(), time.monotonic()
        if len(remembered) >= MOST_REMEMBERED:
            del remembered[min(remembered, key=lambda other: remembered[other][2])]
        remembered[key] = value, now, now + min((now - begun) * REMEMBERED_FACTOR, LONGEST_SECONDS)
        return value, 0.0
    finally:
        reading_lock.release()
