"""Tables, queries, and the rules over a stored record."""

import secrets
import sqlite3
import uuid
from typing import NamedTuple

from peewee import (
    AutoField,
    BigIntegerField,
    BooleanField,
    CharField,
    CompositeKey,
    ForeignKeyField,
    IntegerField,
    Model,
    SmallIntegerField,
    TextField,
)

import history
from errors import Conflict, Forbidden, Invalid, NotFound, PreconditionFailed
from quotas import UNLIMITED, quota_of, require_locations, require_room
from storage import search_index
from storage.documents import (
    DELETED,
    DERIVED,
    KILLED,
    NORMAL,
    PAIRED_FORMATS,
    PUBLIC,
    SHARED,
    documents_of,
    fits,
    is_paired,
    words_of,
)
from storage.engine import damaged, database, execute, reading, writing
from storage.timestamps import current_time, time_after

GONE = ("deleted", "pending_delete")


class Table(Model):
    class Meta:
        database = database
        legacy_table_names = False


class Image(Table):
    """One image's record. Times are text as the API writes them, so that they sort and need no conversion."""

    pk = AutoField()
    id = CharField(36, unique=True)
    name = CharField(255, null=True)
    status = CharField(30)
    disk_format = CharField(20, null=True)
    container_format = CharField(20, null=True)
    size = BigIntegerField(null=True)
    virtual_size = BigIntegerField(null=True)
    checksum = CharField(32, null=True)
    min_disk = IntegerField(default=0)
    min_ram = IntegerField(default=0)
    owner = CharField(255, null=True)
    visibility = CharField(9, default=SHARED)
    protected = BooleanField(default=False)
    created_at = CharField(26)
    updated_at = CharField(26)
    deleted = BooleanField(default=False)
    deleted_at = CharField(26, null=True)
    revision = IntegerField(default=1)  # incremented by every write
    nonce = CharField(16)  # drawn anew by every write, so that no ETag comes back
    # Derived from all of the above, its properties and locations, by ``documents_of``, with every write:
    shelf = SmallIntegerField(default=0)  # which lists it can be in, see ``documents.shelf_of``
    brief = TextField(default="")  # JSON of six fields
    document = TextField(default="")  # JSON of the full record, up to its locations
    location_document = TextField(default="")  # the rest of it
    digest = IntegerField(default=0)  # by which ``check`` finds damage that SQLite cannot see

    @classmethod
    def find(cls, image_id, context):
        """The row as a dict. Raises NotFound, for a hidden image as for none."""
        statement = f"SELECT {', '.join(COLUMNS)} FROM image WHERE id = :id AND {VISIBLE[audience_of(context)]}"
        values = execute(statement, {"id": image_id, "tenant": context.tenant}).fetchone()
        if values is None:
            raise NotFound("Image not found.")
        row = dict(zip(COLUMNS, values, strict=True))
        return row | {name: bool(row[name]) for name in ("protected", "deleted")}

    @classmethod
    def find_changeable(cls, image_id, context):
        """Like ``find``. Raises Unauthorized or Forbidden where the caller may see but not change it."""
        row = cls.find(image_id, context)
        context.require_may_write()
        context.require_owner(row["owner"])
        return row

    @classmethod
    def require_changeable(cls, image_id, context):
        """Before the body is read: raises as ``find_changeable`` does."""
        with reading():
            cls.find_changeable(image_id, context)

    @classmethod
    def register(cls, values, context, api):
        """Create the record that ``values`` of ImageBodies.parse_create describe, and return it.

        Raises Invalid, QuotaExceeded, and Conflict for an id in use.
        """
        require_pair(values)
        with writing():
            # The time is taken under the lock: who polls changes-since must not find a later one before it.
            now = current_time()
            row = {**DEFAULTS, "created_at": now, "updated_at": now, **columns_of(values), "nonce": new_nonce()}
            row |= {"id": values.get("id") or str(uuid.uuid4()), "owner": values.get("owner") or context.tenant}
            properties, locations = dict(sorted(values.get("properties", {}).items())), values.get("locations", [])
            require_room(api, context, "image_property_quota", attempted=len(properties))
            require_locations(api, context, locations)
            cls.require_room_for_one(api, context)
            row |= documents_of(row, properties, locations)
            try:
                row["pk"] = execute(INSERT, row).lastrowid
            except sqlite3.IntegrityError:
                raise Conflict("An image with this id exists, or existed, already.") from None
            Property.store(row["pk"], row["created_at"], properties)
            Location.store(row["pk"], locations)
            search_index.store_words(row["pk"], words_of(row, properties))
            history.note(row["pk"], now, "created", context, [], api.image_history_limit)
            return row

    @classmethod
    def require_room_for_one(cls, api, context):
        """Raises QuotaExceeded where the caller's tenant has all the images that it may have."""
        if (quota := quota_of(api, context, "user_image_quota")) != UNLIMITED:
            owned = f"SELECT 1 FROM image WHERE owner = ? AND shelf < {DELETED} LIMIT ?"
            require_room(api, context, "user_image_quota", len(execute(owned, (context.tenant, quota)).fetchall()) + 1)

    @classmethod
    def change(cls, image_id, changes, context, *, api, purges_properties, from_state, tags):
        """Apply ``changes`` of ImageBodies.parse_update, and return the record.

        ``tags`` are the ETags that the record must have one of, or None. Raises NotFound, Forbidden, Unauthorized,
        Invalid, Conflict (it is not in ``from_state``), PreconditionFailed, QuotaExceeded.
        """
        with writing():
            row = cls.find_changeable(image_id, context)
            if changes.get("id", row["id"]) != row["id"]:
                raise Invalid({"id": ["Must be the image's own, or left out."]})
            require_pair(row | changes)
            if from_state not in (None, row["status"]):
                raise Conflict(f"The image's status is {row['status']}, not what from_state says.")
            require_match(row, tags)
            before = Parts.fitting(row)
            after = before.change(row, changes, purges_properties)
            require_room(api, context, "image_property_quota", len(after.properties), len(before.properties))
            if "locations" in changes:
                require_locations(api, context, changes["locations"], before.locations)
            changed = cls.write(row, columns_of(changes, row["visibility"]), after)
            if (words := words_of(changed, after.properties)) != words_of(row, before.properties):
                search_index.change_words(row["pk"], words)
            entry = history.differences(row, changed, before, after)
            history.note(row["pk"], changed["updated_at"], "updated", context, entry, api.image_history_limit)
            return changed

    @classmethod
    def remove(cls, image_id, context, api, tags):
        """Mark it deleted, and return the record; nothing changes where it was. Raises as ``change`` does."""
        with writing():
            row = cls.find_changeable(image_id, context)
            if row["protected"] and not row["deleted"]:
                raise Forbidden("The image is protected: set protected to false first.")
            require_match(row, tags)
            parts = Parts.fitting(row)
            if row["deleted"]:
                return row
            changed = cls.write(row, {"deleted": True}, parts)
            history.note(row["pk"], changed["updated_at"], "deleted", context, [], api.image_history_limit)
            return changed

    @classmethod
    def restore(cls, image_id, context, api, tags):
        """Take the mark off, and return the record; nothing changes where it was not deleted.

        A status that says that the image's bits are gone, or going, becomes active where a location is active, and
        queued elsewhere. Raises NotFound, Unauthorized, Forbidden, PreconditionFailed.
        """
        with writing():
            row = cls.find_changeable(image_id, context)
            context.require_admin()
            require_match(row, tags)
            parts, columns = Parts.fitting(row), {"deleted": False, "deleted_at": None}
            if not row["deleted"]:
                return row
            if row["status"] in GONE:
                is_there = any(status == "active" for *_, status in parts.locations)
                columns["status"] = "active" if is_there else "queued"
            changed = cls.write(row, columns, parts)
            entry = history.differences(row, changed, parts, parts)
            history.note(row["pk"], changed["updated_at"], "undeleted", context, entry, api.image_history_limit)
            return changed

    @classmethod
    def history_of(cls, image_id, context):
        """Its changes, for who may change it; raises as ``find_changeable`` does, but not for read-only tokens."""
        with reading():
            row = cls.find(image_id, context)
            context.require_owner(row["owner"])
            return history.entries(row["pk"])

    @classmethod
    def write(cls, row, columns, parts):
        """Update the row, its documents with it, and return what it now is; its ``parts`` are in place.

        updated_at moves on every change, and never backwards.
        """
        now = time_after(row["updated_at"])
        changed = row | columns | {"updated_at": now, "revision": row["revision"] + 1, "nonce": new_nonce()}
        if columns.get("deleted"):
            changed["deleted_at"] = now
        changed |= documents_of(changed, *parts)
        assignments = ", ".join(f"{name} = :{name}" for name in COLUMNS if changed[name] != row[name])
        execute(f"UPDATE image SET {assignments} WHERE pk = :pk", changed)
        return changed


COLUMNS = tuple(Image._meta.sorted_field_names)
DEFAULTS = {name: field.default for name, field in Image._meta.fields.items()}
INSERT = f"INSERT INTO image ({', '.join(COLUMNS[1:])}) VALUES ({', '.join(f':{name}' for name in COLUMNS[1:])})"
# The rule of visibility: admins see all; others what is public, their own and what is shared with them, none deleted.
VISIBLE = {
    "admin": "1",
    "tenant": f"""shelf < {DELETED} AND (shelf IN ({NORMAL}, {KILLED}) OR owner = :tenant
        OR EXISTS (SELECT 1 FROM member WHERE image_id = pk AND member = :tenant))""",
    "nobody": f"shelf IN ({NORMAL}, {KILLED})",
}


class Property(Table):
    image = ForeignKeyField(Image, on_delete="CASCADE")
    name = CharField(255)
    value = TextField(null=True)
    created_at = CharField(26)  # the image's, which never changes: an index has it in the order of lists

    class Meta:
        primary_key = CompositeKey("image", "name")
        without_rowid = True

    @classmethod
    def store(cls, pk, created_at, texts):
        """Add the properties ``{name: text or None}``, or give them their new values."""
        statement = """INSERT INTO property (image_id, name, value, created_at) VALUES (?, ?, ?, ?)
            ON CONFLICT (image_id, name) DO UPDATE SET value = excluded.value"""
        database.connection().executemany(statement, [(pk, name, text, created_at) for name, text in texts.items()])

    @classmethod
    def texts(cls, pk):
        return dict(execute("SELECT name, value FROM property WHERE image_id = ? ORDER BY name", (pk,)))


class Location(Table):
    image = ForeignKeyField(Image, on_delete="CASCADE")
    position = IntegerField()
    url = TextField()
    metadata = TextField()  # a JSON object
    status = CharField(14)

    class Meta:
        primary_key = CompositeKey("image", "position")
        without_rowid = True

    @classmethod
    def store(cls, pk, locations):
        rows = [(pk, position, *entry) for position, entry in enumerate(locations)]
        database.connection().executemany("INSERT INTO location VALUES (?, ?, ?, ?, ?)", rows)

    @classmethod
    def entries(cls, pk):
        return execute(
            "SELECT url, metadata, status FROM location WHERE image_id = ? ORDER BY position", (pk,)
        ).fetchall()


class Parts(NamedTuple):
    """What of an image is in other tables: {name: text or None}, and [(url, metadata as JSON text, status)]."""

    properties: dict
    locations: list

    @classmethod
    def of(cls, pk):
        return cls(Property.texts(pk), Location.entries(pk))

    @classmethod
    def fitting(cls, row):
        """Those of a row that is what it was when it was written: a write must not give damage a digest that fits.

        Raises DatabaseUnavailable.
        """
        parts = cls.of(row["pk"])
        if not fits({name: row[name] for name in DERIVED}, documents_of, row, *parts):
            raise damaged("The image")
        return parts

    def change(self, row, changes, purges_properties):
        """Store what ``changes`` say of them, and return what they are then."""
        if purges_properties:
            execute("DELETE FROM property WHERE image_id = ?", (row["pk"],))
        Property.store(row["pk"], row["created_at"], changes.get("properties", {}))
        if "locations" in changes:
            execute("DELETE FROM location WHERE image_id = ?", (row["pk"],))
            Location.store(row["pk"], changes["locations"])
        return Parts.of(row["pk"])


def require_pair(row):
    if not is_paired(row):
        message = f"If either format is one of {', '.join(PAIRED_FORMATS)}, both must be the same."
        raise Invalid({"disk_format": [message], "container_format": [message]})


def require_match(row, tags):
    present = [etag(row["revision"], row["nonce"], is_whole) for is_whole in (True, False)]
    if tags is not None and not any(tag in tags for tag in present):
        raise PreconditionFailed("The image has changed since: read it again, and decide again.")


def etag(revision, nonce, is_whole):
    """The opaque part of the ETag; a record shown without its locations has another."""
    return f"{revision}-{nonce}" if is_whole else f"{revision}-{nonce}-public"


def columns_of(values, visibility=SHARED):
    """Those of ``values`` that are columns; is_public as visibility, unless the present one says it already."""
    columns = {name: value for name, value in values.items() if name in Image._meta.fields and name != "id"}
    if "is_public" in values and values["is_public"] != (visibility == PUBLIC):
        columns["visibility"] = PUBLIC if values["is_public"] else SHARED
    return columns


def audience_of(context):
    return "admin" if context.is_admin else "tenant" if context.tenant is not None else "nobody"


def new_nonce():
    return secrets.token_hex(8)
