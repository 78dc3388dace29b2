"""Aggregate queries over the images that a caller may see: totals, candidates for problems, counts by status.

They read index entries only, as far as they can: with a million images they take seconds.
"""

from typing import NamedTuple

from listing.backend import dialect
from models import VISIBLE
from storage.documents import KILLED, NORMAL, PRIVATE
from storage.engine import execute, reading, translated_errors
from storage.verifications import FAILURES

# The most candidates that each search for a problem reads.
CANDIDATES, FILES, CHECKSUMS, STUCK_COUNTED, FAILED_COUNTED = 20_000, 500, 200, 1000, 1000
MONTHS_COUNTED = 24
TENANT = dialect.placeholder("tenant")
BEFORE = dialect.placeholder("before")
BY_TIME, OF_OWNER = dialect.read_by("image_by_created_at"), dialect.read_by("image_of_owner")
BY_STATUS, WITH_CHECKSUM = dialect.read_by("image_by_status"), dialect.read_by("image_with_checksum")

# Disjoint parts of the images that are not deleted. The index covers all columns that totals read.
# Killed images count by status only, since lists leave them out too.
PARTS = {
    "all": f"{BY_TIME} WHERE list_partition IN ({{partitions}})",
    "public": f"{BY_TIME} WHERE list_partition IN ({{partitions}})",
    "own": f"{OF_OWNER} WHERE owner = {TENANT} AND list_partition IN ({{partitions}})",
    "member": f"""image WHERE pk IN (SELECT image_id FROM member WHERE member = {TENANT})
        AND list_partition IN ({{partitions}}) AND (owner IS NULL OR owner <> {TENANT})""",
}
OFFSETS = {"all": (0, PRIVATE), "public": (0,), "own": (PRIVATE,), "member": (PRIVATE,)}
SIZE = dialect.total("size")
BY_KIND = f"SELECT status, disk_format, count(*), {SIZE} FROM {{part}} GROUP BY status, disk_format"
BY_OWNER = f"SELECT owner, count(*), {SIZE} FROM {{part}} GROUP BY owner ORDER BY 3 DESC, 2 DESC LIMIT 100"
# One index range per month: GROUP BY would sort first, which takes twenty times as long.
BY_MONTH = f"""{dialect.recent_months(MONTHS_COUNTED)}
    SELECT substr(first, 1, 7), (SELECT count(*) FROM {{part}} AND created_at >= first AND created_at < next)
    FROM month"""
LISTED = f"list_partition IN ({NORMAL}, {NORMAL + PRIVATE})"


def source_of(part, *states):
    """Return the FROM clause of a part, over its list partitions."""
    partitions = [str(state + offset) for state in states for offset in OFFSETS[part]]
    return PARTS[part].format(partitions=", ".join(partitions))


KINDS = {part: BY_KIND.format(part=source_of(part, NORMAL, KILLED)) for part in PARTS}
OWNERS = {part: BY_OWNER.format(part=source_of(part, NORMAL)) for part in PARTS}
MONTHS = {part: BY_MONTH.format(part=source_of(part, NORMAL)) for part in PARTS}

STUCK = {
    scope: f"""SELECT id, name, status, updated_at FROM {BY_STATUS} WHERE {LISTED}
        AND status IN ('queued', 'saving') AND created_at < {BEFORE} AND updated_at < {BEFORE} AND {rule}
        ORDER BY updated_at LIMIT {STUCK_COUNTED}"""
    for scope, rule in VISIBLE.items()
}
FAILED = {
    scope: f"""SELECT id, name, state, checked_at FROM verification JOIN image ON pk = verification.image_id
        WHERE state IN ({", ".join(f"'{state}'" for state in FAILURES)}) AND {LISTED} AND {rule}
        ORDER BY checked_at DESC LIMIT {FAILED_COUNTED}"""
    for scope, rule in VISIBLE.items()
}
NEWEST = f"SELECT count(*) FROM (SELECT 1 FROM image WHERE {LISTED} LIMIT {CANDIDATES + 1}) AS newest"
UNPLACED = f"""SELECT id, name FROM (SELECT pk, id, name, status FROM {BY_TIME}
    WHERE {LISTED} ORDER BY created_at DESC LIMIT {CANDIDATES}) AS newest WHERE status = 'active'
    AND NOT EXISTS (SELECT 1 FROM location WHERE image_id = pk AND location.status = 'active')"""
# Images without locations are found above; these are the files of the newest images.
FILE_LOCATIONS = f"""SELECT id, name, url FROM (SELECT pk, id, name FROM {BY_TIME}
    WHERE {LISTED} ORDER BY created_at DESC LIMIT {CANDIDATES}) AS newest
    JOIN location ON image_id = pk WHERE location.status = 'active' AND url LIKE 'file:%' LIMIT {FILES}"""
DOUBLED = {
    "admin": f"SELECT checksum FROM {WITH_CHECKSUM} WHERE checksum > '' GROUP BY 1"
    f" HAVING count(*) > 1 LIMIT {CHECKSUMS}",
    "tenant": f"SELECT DISTINCT checksum FROM {OF_OWNER} WHERE owner = {TENANT} AND {LISTED}"
    " AND checksum > '' LIMIT 2000",
}
DUPLICATES = {
    scope: f"""SELECT doubled.checksum, count(*), min(image.name) FROM ({doubled}) AS doubled
        CROSS JOIN {WITH_CHECKSUM} ON image.checksum = doubled.checksum
        WHERE {LISTED} AND {VISIBLE[scope]} GROUP BY 1 HAVING count(*) > 1
        ORDER BY 2 DESC"""
    for scope, doubled in DOUBLED.items()
}
STATUSES = "SELECT list_partition, status, count(*) FROM image GROUP BY list_partition, status"


class Candidates(NamedTuple):
    """Images that have a problem, or may have one, in one snapshot."""

    stuck: list  # (id, name, status, updated_at), at most STUCK_COUNTED
    failed: list  # (id, name, state, checked_at) of failed verifications, at most FAILED_COUNTED
    duplicates: list  # (checksum, count, a name), at most CHECKSUMS
    unplaced: list  # (id, name) of those without an active location
    files: list  # (id, name, URL) of local files, at most FILES
    is_all: bool  # whether the last two cover all images, not the newest CANDIDATES alone


def count_part(part, tenant):
    """Return the totals of a part of PARTS in one snapshot.

    Returns: [(status, disk_format, count, size)], [(owner, count, size)] of the largest, [(YYYY-MM, count)].
    """
    parameters = {"tenant": tenant}
    with reading():
        return tuple(execute(table[part], parameters).fetchall() for table in (KINDS, OWNERS, MONTHS))


def find_candidates(scope, context, before, looks_for_files):
    """Return the Candidates in a visibility scope.

    Stuck images have not changed since ``before``. Only admins get images without locations. Files are read if the
    caller ``looks_for_files``.
    """
    parameters = {"tenant": context.tenant, "before": before}
    with reading():
        stuck = execute(STUCK[scope], parameters).fetchall()
        failed = execute(FAILED[scope], parameters).fetchall()
        duplicates = execute(DUPLICATES[scope], parameters).fetchall()
        (newest,) = execute(NEWEST, ()).fetchone()
        unplaced = execute(UNPLACED, ()).fetchall() if context.is_admin else []
        files = execute(FILE_LOCATIONS, ()).fetchall() if looks_for_files else []
    return Candidates(stuck, failed, duplicates, unplaced, files, newest <= CANDIDATES)


def count_by_status():
    """Return [(list partition, status, count)] of all images.

    It takes 0.1 s for a million images.
    """
    with translated_errors():
        return execute(STATUSES, ()).fetchall()
