"""Image fields: the one table that feeds columns, documents, schemas, history, lists, commands and forms."""

from typing import Any, NamedTuple

from peewee import BigIntegerField, BooleanField, CharField, IntegerField

LARGEST_INTEGER = 2**63 - 1
LARGEST_SMALL_INTEGER = 2**31 - 1
VISIBILITIES = ("public", "private", "shared", "community")
PUBLIC, SHARED = "public", "shared"


class Field(NamedTuple):
    """An image field of the API, or a column behind one."""

    name: str
    kind: str  # image_id, text, word (of a vocabulary), count, flag or moment: the rule for values, the column's type
    label: str = ""  # in forms, and the help text of a command's option
    length: int = 0  # of a text column, in characters
    largest: int = LARGEST_INTEGER  # of a count
    is_nullable: bool = False
    default: Any = None  # of the column
    is_column: bool = True
    is_in_document: bool = True
    is_in_bodies: bool = True  # of POST and PUT
    is_in_history: bool = False
    is_filter: bool = False  # of lists, by equality
    is_sort_key: bool = False


RECORDED = {"is_in_history": True}
FILTERED = RECORDED | {"is_filter": True}
SORTED = FILTERED | {"is_sort_key": True}
FIELDS = (
    Field("id", "image_id", length=36, is_sort_key=True),
    Field("name", "text", "Name", 255, is_nullable=True, **SORTED),
    Field("status", "word", "Status", 30, **SORTED),
    Field("disk_format", "word", "Disk format", 20, is_nullable=True, **SORTED),
    Field("container_format", "word", "Container format", 20, is_nullable=True, **SORTED),
    Field("size", "count", "Size in bytes", is_nullable=True, is_sort_key=True, **RECORDED),
    Field("virtual_size", "count", "Virtual size in bytes", is_nullable=True, **RECORDED),
    Field("checksum", "text", "Checksum", 32, is_nullable=True, **FILTERED),
    # Glance calls these units GB and MB; its consumers read them as powers of 1024.
    Field("min_disk", "count", "Disk needed, in GB", largest=LARGEST_SMALL_INTEGER, default=0, **FILTERED),
    Field("min_ram", "count", "Memory needed, in MB", largest=LARGEST_SMALL_INTEGER, default=0, **FILTERED),
    Field("owner", "text", "Owner", 255, is_nullable=True, **FILTERED),
    Field("visibility", "word", "Visibility", 9, default=SHARED, is_in_document=False, is_in_bodies=False, **RECORDED),
    Field("is_public", "flag", "Public", is_column=False),  # visibility, as API v1 has it
    Field("protected", "flag", "Protected from deletion", default=False, **FILTERED),
    Field("created_at", "moment", length=26, is_sort_key=True),
    Field("updated_at", "moment", length=26, is_sort_key=True),
    Field("deleted", "flag", default=False, is_in_bodies=False),
    Field("deleted_at", "moment", length=26, is_nullable=True, is_in_bodies=False),
)
# The brief record, in the order of API v1, which is not the table's.
BRIEF_FIELDS = ("id", "name", "size", "disk_format", "container_format", "checksum")


def names_of(fields):
    return tuple(field.name for field in fields)


COLUMN_FIELDS = tuple(field for field in FIELDS if field.is_column)
BODY_FIELDS = tuple(field for field in FIELDS if field.is_in_bodies)
FILTER_FIELDS = tuple(field for field in FIELDS if field.is_filter)
# Fields that anybody may write; admins also give the owner, and id and times of a new image.
WRITABLE_FIELDS = tuple(field for field in BODY_FIELDS if field.kind not in ("image_id", "moment"))
DOCUMENT_FIELDS = names_of(field for field in FIELDS if field.is_in_document)
HISTORY_FIELDS = names_of(field for field in FIELDS if field.is_in_history)
SORT_KEYS = names_of(field for field in FIELDS if field.is_sort_key)
FLAG_COLUMNS = names_of(field for field in COLUMN_FIELDS if field.kind == "flag")


def with_flags(row):
    """Return a row as the database driver has it, with its flags as booleans."""
    return row | {name: bool(row[name]) for name in FLAG_COLUMNS}


def column_of(field):
    """Return the Peewee column of an image field."""
    options = {"null": field.is_nullable, "default": field.default}
    if field.kind == "flag":
        return BooleanField(**options)
    if field.kind == "count":
        return (IntegerField if field.largest == LARGEST_SMALL_INTEGER else BigIntegerField)(**options)
    return CharField(field.length, unique=field.kind == "image_id", **options)
