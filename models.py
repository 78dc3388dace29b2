"""Tables of images, and the rules for changing a stored record."""

import secrets
import uuid
from typing import NamedTuple

from peewee import (
    AutoField,
    CharField,
    CompositeKey,
    ForeignKeyField,
    IntegerField,
    Model,
    SmallIntegerField,
    TextField,
)

import history
from auth import UNLIMITED
from errors import Conflict, Forbidden, Invalid, NotFound, PreconditionFailed
from storage import search_index, verifications
from storage.documents import (
    DELETED,
    DERIVED,
    INDEXED_CHARACTERS,
    KILLED,
    NORMAL,
    PAIRED_FORMATS,
    documents_of,
    fits,
    is_paired,
    words_of,
)
from storage.engine import damaged, database, execute, insert, reading, writing
from storage.fields import COLUMN_FIELDS, PUBLIC, SHARED, column_of, with_flags
from storage.image_rows import store_locations, store_properties
from storage.timestamps import current_time, time_after

GONE = ("deleted", "pending_delete")
LIST_LOCATIONS = "SELECT url, metadata, status FROM location WHERE image_id = ? ORDER BY position"


class Table(Model):
    class Meta:
        database = database
        legacy_table_names = False


class Image(Table):
    """The row of an image: the columns of storage.fields, and those below. Times are text as the API writes them."""

    pk = AutoField()
    revision = IntegerField(default=1)  # incremented by every write
    nonce = CharField(16)  # random, new with every write, so that no ETag comes back
    # Derived by ``documents_of`` with every write from the other columns, properties and locations:
    list_partition = SmallIntegerField(default=0)  # of storage.documents
    brief = TextField(default="")  # JSON of six fields
    document = TextField(default="")  # JSON of the full record, up to its locations
    location_document = TextField(default="")  # the rest of it
    digest = IntegerField(default=0)  # checksum, which reveals damage that SQLite cannot see

    @classmethod
    def read(cls, condition, parameters):
        """Return the row that meets an SQL condition as a dict, or None."""
        values = execute(f"{SELECT} WHERE {condition}", parameters).fetchone()
        return None if values is None else with_flags(dict(zip(COLUMNS, values, strict=True)))

    @classmethod
    def find(cls, image_id, context):
        """Return the row of an image as a dict. Raises: NotFound, also if not visible."""
        row = cls.read(f"id = :id AND {visible_to(context)}", {"id": image_id, "tenant": context.tenant})
        if row is None:
            raise NotFound("Image not found.")
        return row

    @classmethod
    def find_changeable(cls, image_id, context):
        """Return the row of an image that the caller may change.

        Raises NotFound, Unauthorized, Forbidden.
        """
        row = cls.find(image_id, context)
        context.require_may_write()
        context.require_owner(row["owner"])
        return row

    @classmethod
    def require_changeable(cls, image_id, context):
        """Raise what ``find_changeable`` raises, before the body is read."""
        with reading():
            cls.find_changeable(image_id, context)

    @classmethod
    def register(cls, values, context):
        """Create an image from ``values`` of ImageBodies.parse_create, and return its row.

        Raises Invalid, QuotaExceeded, and Conflict for an id in use.
        """
        require_pair(values)
        properties, locations = values.get("properties", {}), values.get("locations", [])
        with writing():
            # The time is taken under the lock: a client that polls changes-since must not find later changes first.
            now = current_time()
            context.require_room("image_property_quota", len(properties))
            context.require_locations(locations)
            require_room_for_image(context)
            record = new_record({**values, "owner": values.get("owner") or context.tenant}, now)
            return write_change(None, record, "created", context, now)

    @classmethod
    def change(cls, image_id, changes, context, *, purges_properties, from_state, etags):
        """Apply ``changes`` of ImageBodies.parse_update, and return the row.

        ``etags`` are the ETags of which the record must have one, or None. Raises NotFound, Forbidden, Unauthorized,
        Invalid, Conflict (the status is not ``from_state``), PreconditionFailed, QuotaExceeded.
        """
        with writing():
            row = cls.find_changeable(image_id, context)
            if changes.get("id", row["id"]) != row["id"]:
                raise Invalid({"id": ["Must be the image's own id, or left out."]})
            require_pair(row | changes)
            if from_state not in (None, row["status"]):
                raise Conflict(f"The image's status is {row['status']}, which is not the from_state of the request.")
            require_match(row, etags)
            before = Record.intact(row)
            properties = ({} if purges_properties else before.properties) | changes.get("properties", {})
            context.require_room("image_property_quota", len(properties), len(before.properties))
            locations = changes.get("locations", before.locations)
            context.require_locations(locations, before.locations)
            after = Record(
                changed_row(row, columns_of(changes, row["visibility"])), dict(sorted(properties.items())), locations
            )
            return write_change(before, after, "updated", context)

    @classmethod
    def remove(cls, image_id, context, etags):
        """Mark an image as deleted, and return its row; a deleted one stays unchanged.

        Raises NotFound, Unauthorized, Forbidden, PreconditionFailed.
        """
        with writing():
            row = cls.find_changeable(image_id, context)
            if row["protected"] and not row["deleted"]:
                raise Forbidden("The image is protected: set protected to false first.")
            require_match(row, etags)
            before = Record.intact(row)
            if row["deleted"]:
                return row
            after = before._replace(row=changed_row(row, {"deleted": True}))
            return write_change(before, after, "deleted", context)

    @classmethod
    def restore(cls, image_id, context, etags):
        """Undelete an image, and return its row; one that is not deleted stays unchanged.

        A status in GONE becomes active if a location is active, else queued.
        Raises NotFound, Unauthorized, Forbidden, PreconditionFailed.
        """
        with writing():
            row = cls.find_changeable(image_id, context)
            context.require_admin()
            require_match(row, etags)
            before, columns = Record.intact(row), {"deleted": False, "deleted_at": None}
            if not row["deleted"]:
                return row
            if row["status"] in GONE:
                columns["status"] = "active" if "active" in [status for *_, status in before.locations] else "queued"
            return write_change(before, before._replace(row=changed_row(row, columns)), "undeleted", context)

    @classmethod
    def history_of(cls, image_id, context):
        """Return the history. Raises: NotFound, Unauthorized, Forbidden."""
        with reading():
            row = cls.find(image_id, context)
            context.require_owner(row["owner"])
            return history.entries(row["pk"])


for column_field in COLUMN_FIELDS:
    Image._meta.add_field(column_field.name, column_of(column_field))


class Property(Table):
    """A property of an image."""

    image = ForeignKeyField(Image, on_delete="CASCADE")
    name = CharField(255)
    value = TextField(null=True)
    beginning = CharField(INDEXED_CHARACTERS, null=True)  # of the value
    # Columns of the image, which never change: the index of properties has the order of lists.
    created_at = CharField(26)
    image_uuid = CharField(36)

    class Meta:
        primary_key = CompositeKey("image", "name")
        without_rowid = True


class Location(Table):
    """A location of an image."""

    image = ForeignKeyField(Image, on_delete="CASCADE")
    position = IntegerField()
    url = TextField()
    metadata = TextField()  # a JSON object
    status = CharField(14)

    class Meta:
        primary_key = CompositeKey("image", "position")
        without_rowid = True


COLUMNS = tuple(Image._meta.sorted_field_names)
DEFAULTS = {name: field.default for name, field in Image._meta.fields.items()}
SELECT = f"SELECT {', '.join(COLUMNS)} FROM image"
INSERT = f"""INSERT INTO image ({", ".join(COLUMNS[1:])}) VALUES ({", ".join(f":{name}" for name in COLUMNS[1:])})
    ON CONFLICT (id) DO NOTHING"""
# The rule of visibility, by visibility scope. Admins see all images; tenants see public ones, their own and those
# shared with them; other callers see public ones. Only admins see deleted images.
VISIBLE = {
    "admin": "1",
    "tenant": f"""list_partition < {DELETED} AND (list_partition IN ({NORMAL}, {KILLED}) OR owner = :tenant
        OR EXISTS (SELECT 1 FROM member WHERE image_id = pk AND member = :tenant))""",
    "public": f"list_partition IN ({NORMAL}, {KILLED})",
}


def visibility_scope_of(context):
    """Return the key of VISIBLE for a caller."""
    return "admin" if context.is_admin else "tenant" if context.tenant is not None else "public"


def visible_to(context):
    """Return the SQL condition that an image is visible to a caller; it binds :tenant."""
    return VISIBLE[visibility_scope_of(context)]


class Record(NamedTuple):
    """A whole image: its row, {property: text or None} by name, and [(url, metadata as JSON text, status)]."""

    row: dict
    properties: dict
    locations: list

    @classmethod
    def of(cls, row):
        """Read the properties and locations of a row."""
        key = (row["pk"],)
        properties = dict(execute("SELECT name, value FROM property WHERE image_id = ? ORDER BY name", key))
        return cls(row, properties, execute(LIST_LOCATIONS, key).fetchall())

    @classmethod
    def intact(cls, row):
        """Read a record and verify its checksum, so that no write renews that of damage.

        Raises: DatabaseUnavailable.
        """
        record = cls.of(row)
        if not fits({name: row[name] for name in DERIVED}, documents_of, *record):
            raise damaged("The image")
        return record


def new_record(values, now):
    """Return the Record of a new image from the values of a body."""
    row = {**DEFAULTS, "created_at": now, "updated_at": now, **columns_of(values), "nonce": new_nonce()}
    row["id"] = values.get("id") or str(uuid.uuid4())
    if row["deleted"] and row["deleted_at"] is None:
        row["deleted_at"] = row["updated_at"]
    return Record(row, dict(sorted(values.get("properties", {}).items())), values.get("locations", []))


def changed_row(row, columns):
    """Return the next revision of a row; its updated_at never moves backwards."""
    now = time_after(row["updated_at"])
    changed = row | columns | {"updated_at": now, "revision": row["revision"] + 1, "nonce": new_nonce()}
    return changed | {"deleted_at": now} if columns.get("deleted") else changed


def write_change(before, after, action, context, now=None):
    """Write a record and the entry of its history, and return its row."""
    row = write(before, after)
    changes = [] if before is None else history.differences(before, after)
    history.note(row["pk"], now or row["updated_at"], action, context, changes)
    return row


def write(before, after):
    """Store a Record with all that is derived from it, and return its row.

    The only path by which a record is written: for the API, pages, ``import`` and ``check``. Writes the differences
    from ``before``, which is None for a new image. Raises Conflict for a new image whose id is in use.
    """
    row = after.row | documents_of(*after)
    if before is None:
        if (pk := insert(INSERT, row)) is None:
            raise Conflict("An image with this id exists, or existed, already.")
        row, before = row | {"pk": pk}, Record({}, {}, [])
    elif changed := [name for name in COLUMNS if row[name] != before.row[name]]:
        execute(f"UPDATE image SET {', '.join(f'{name} = :{name}' for name in changed)} WHERE pk = :pk", row)
        verifications.forget_changed(before, after)
    store_properties(row, before.properties, after.properties)
    if before.locations != after.locations:
        store_locations(row["pk"], before.locations, after.locations)
    search_index.store_words(row["pk"], words_of(row, after.properties, after.locations))
    return row


def columns_of(values, visibility=SHARED):
    """Return the values that are columns; is_public becomes a visibility."""
    columns = {name: value for name, value in values.items() if name in Image._meta.fields and name != "id"}
    if "is_public" in values and values["is_public"] != (visibility == PUBLIC):
        columns["visibility"] = PUBLIC if values["is_public"] else SHARED
    return columns


def new_nonce():
    return secrets.token_hex(8)


def etag(revision, nonce, is_whole):
    """Return the opaque part of an ETag, which differs without the locations."""
    return f"{revision}-{nonce}" if is_whole else f"{revision}-{nonce}-public"


def require_match(row, etags):
    """Raise PreconditionFailed unless one of ``etags`` is the row's; None is any."""
    present = [etag(row["revision"], row["nonce"], is_whole) for is_whole in (True, False)]
    if etags is not None and not any(value in etags for value in present):
        raise PreconditionFailed("The image has changed since this ETag: read it again, and decide again.")


def require_pair(row):
    """Raise Invalid unless disk and container format go together."""
    if not is_paired(row):
        message = f"If either format is one of {', '.join(PAIRED_FORMATS)}, both must be the same."
        raise Invalid({"disk_format": [message], "container_format": [message]})


def require_room_for_image(context):
    """Raise QuotaExceeded if the caller's tenant has used up its image quota."""
    if (quota := context.quota("user_image_quota")) != UNLIMITED:
        owned = Image.select().where((Image.owner == context.tenant) & (Image.list_partition < DELETED)).limit(quota)
        context.require_room("user_image_quota", owned.count() + 1)
