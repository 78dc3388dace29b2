"""Results of the last verification of each image's file.

A result belongs to the file that was compared: it is removed when location, size or checksums of the record change.
"""

from typing import NamedTuple

from peewee import SQL, AutoField, CharField, Model, TextField

from storage.engine import database, execute, reading, writing
from storage.timestamps import current_time

OK, CHANGED, MISSING, UNREADABLE, INCOMPLETE = "ok", "changed", "missing", "unreadable", "incomplete"
UNKNOWN = "unknown"
STATES = (OK, CHANGED, MISSING, UNREADABLE, INCOMPLETE, UNKNOWN)
FAILURES = (CHANGED, MISSING, UNREADABLE, INCOMPLETE)
# What the file of a record is compared with: columns, and properties.
COMPARED_COLUMNS, COMPARED_PROPERTIES = ("size", "checksum"), ("os_hash_algo", "os_hash_value")
# A record that was changed while its file was read keeps no result.
STORE = """INSERT INTO verification (image_id, state, reason, checked_at)
    SELECT pk, :state, :reason, :now FROM image WHERE id = :id AND updated_at = :updated_at
    ON CONFLICT (image_id) DO UPDATE
    SET state = excluded.state, reason = excluded.reason, checked_at = excluded.checked_at"""
READ = "SELECT state, reason, checked_at FROM image JOIN verification ON image_id = pk WHERE id = ?"


class Verification(Model):
    """Result of the last verification of an image's file."""

    image_id = AutoField(constraints=[SQL("REFERENCES image (pk) ON DELETE CASCADE")])
    state = CharField(10)  # one of STATES
    reason = TextField()
    checked_at = CharField(26)

    class Meta:
        database = database


class Verified(NamedTuple):
    """Result of a verification; ``checked_at`` is a time of the API."""

    state: str
    reason: str
    checked_at: str

    @property
    def is_failure(self):
        """Return whether the file is not what the record says."""
        return self.state in FAILURES


def store(results):
    """Store results [(record as the API shows it, state, reason)].

    Raises: DatabaseUnavailable, DatabaseFull.
    """
    with writing():
        now = current_time()
        for image, state, reason in results:
            key = {"id": image["id"], "updated_at": image["updated_at"]}
            execute(STORE, key | {"state": state, "reason": reason, "now": now})


def read(image_ids):
    """Return {image id: Verified} of those that were verified.

    Raises: DatabaseUnavailable.
    """
    with reading():
        found = {image_id: execute(READ, (image_id,)).fetchone() for image_id in image_ids}
    return {image_id: Verified(*values) for image_id, values in found.items() if values}


def count_by_state():
    """Return {state: number of images that are not deleted}.

    Raises: DatabaseUnavailable.
    """
    with reading():
        found = dict(execute("SELECT state, count(*) FROM verification GROUP BY state", ()).fetchall())
    return dict.fromkeys(STATES, 0) | found


def forget_changed(before, after):
    """Remove the result of an image that is deleted, or whose file is another one.

    Within a transaction.
    """
    if (
        after.row["deleted"]
        or before.locations != after.locations
        or any(before.row[name] != after.row[name] for name in COMPARED_COLUMNS)
        or any(before.properties.get(name) != after.properties.get(name) for name in COMPARED_PROPERTIES)
    ):
        execute("DELETE FROM verification WHERE image_id = ?", (after.row["pk"],))
