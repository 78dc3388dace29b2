"""Export query: all records in the order of their creation, deleted ones included."""

from listing.backend import dialect
from storage.documents import DELETED, KILLED, NORMAL, PRIVATE
from storage.engine import execute

PARTITIONS = [state + offset for state in (NORMAL, KILLED, DELETED) for offset in (0, PRIVATE)]
SELECT_PARTITION = f"""SELECT document, location_document, visibility, {dialect.shares()} AS members, created_at, id
    FROM image WHERE list_partition = {{}}"""
# The index yields each list partition in order, and SQLite merges them without a sort.
SELECT = " UNION ALL ".join(SELECT_PARTITION.format(partition) for partition in PARTITIONS)
COUNT = "SELECT count(*) FROM image"


def read_records():
    """Return a cursor over all records, within a transaction.

    Its rows: (document, location document, visibility, [[member, can_share]] as JSON, created_at, id).
    """
    return execute(f"{SELECT} ORDER BY created_at, id", ())


def count_records():
    """Return the number of all images."""
    return execute(COUNT, ()).fetchone()[0]
