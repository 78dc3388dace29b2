"""Keyset pagination over the image table, and single records: one SQL statement each."""

from functools import lru_cache
from typing import NamedTuple

import orjson

from errors import Invalid, NotFound
from listing.backend import choose_driving_indexes, dialect
from listing.branches import POSITION, branches_of, filter_parameters, filters_of, ranges_after
from listing.dialect import unrendered_columns
from listing.parameters import sees_all_locations
from models import etag, visible_to
from storage.documents import NO_LOCATIONS, fits, image_digest
from storage.engine import damaged, fetch_row

# Hot path, below Peewee's models: rows turned into objects cost four to eight times as much (docs/performance.md).
# Records are rendered when they are written (storage/documents.py). A page comes as one row, because sqlite3 takes
# the interpreter lock for each row.

TIME_LENGTH = 26
# Images are counted exactly up to this number.
MOST_COUNTED = 10_000
SHOW = """SELECT CAST(document AS BLOB), CAST(location_document AS BLOB), owner, revision, nonce,
    CAST(brief AS BLOB), visibility, digest FROM image"""
REDACTED_LOCATIONS = NO_LOCATIONS.encode()


class Shown(NamedTuple):
    """Stored parts of one rendered record."""

    document: bytes
    location_document: bytes
    owner: str | None
    revision: int
    nonce: str


def show(image_id, context):
    """Return the Shown of an image.

    Raises: NotFound, also for an inaccessible image; DatabaseUnavailable for a checksum mismatch.
    """
    row = fetch_row(f"{SHOW} WHERE id = :id AND {visible_to(context)}", {"id": image_id, "tenant": context.tenant})
    if row is None:
        raise NotFound("Image not found.")
    document, location_document, owner, revision, nonce, brief, visibility, digest = row
    rest = {"visibility": visibility, "revision": revision, "nonce": nonce}
    if not fits(digest, image_digest, rest, brief, document, location_document):
        raise damaged("The image")
    return Shown(document, location_document, owner, revision, nonce)


def sees_locations(owner, context, api):
    """Return whether the caller sees the locations of an owner's image."""
    return sees_all_locations(context.is_admin, api) or context.is_owner_of(owner)


def rendered(shown, context, api):
    """Return (ETag, JSON in bytes) of a Shown; redact locations if necessary."""
    is_whole = sees_locations(shown.owner, context, api)
    locations = shown.location_document if is_whole else REDACTED_LOCATIONS
    return etag(shown.revision, shown.nonce, is_whole), shown.document + locations


def content_for(context, api):
    """Return the ``content`` of ``list_page`` that redacts as ``rendered`` does."""
    return "all" if sees_all_locations(context.is_admin, api) else "none" if context.tenant is None else "own"


def list_page(query, context, content):
    """Return one page of a list.

    ``content`` is ``brief``, or says which detailed records include locations: ``all``, ``own``, ``none``.

    Returns: (its images as comma-separated JSON in bytes; if more follow, the last one's position, else None).
        A position is the list of an image's values in the sort columns.
    Raises: Invalid for a marker that the caller cannot see.
    """
    parameters = {
        "tenant": context.tenant,
        "most": query.limit + 1,
        **filter_parameters(query),
    }
    ranges = ("from start",)
    if query.marker is not None:
        position = query.position or position_of(query, context)
        parameters |= dict(zip(POSITION, position, strict=False))
        ranges = ranges_after(query, position[0])
    if query.limit == 0 or query.is_hopeless:
        return b"", None
    filters = filters_of(query)
    branches = choose_driving_indexes(query, filters, branches_of(query, context), parameters)
    shape = (content, query.sort_columns, query.sort_dir, branches, ranges, filters)
    images, count, unrendered_values = fetch_row(page_statement(*shape), parameters)
    if count <= query.limit:
        return (images or b"").replace(b"\n", b","), None
    images = images[: images.rindex(b"\n")]
    return images.replace(b"\n", b","), position_of_last(images, unrendered_values, query, content)


def parsed(images):
    """Return comma-separated records as dicts. Raises DatabaseUnavailable."""
    try:
        return orjson.loads(b"[%b]" % images)
    except orjson.JSONDecodeError as error:
        raise damaged("An image of the list") from error


def position_of_last(images, unrendered_values, query, content):
    """Return the position of the last of ``images``, lines of JSON."""
    (last,) = parsed(images[images.rfind(b"\n") + 1 :])
    unrendered = unrendered_columns(content, query.sort_columns)
    if unrendered:
        text = unrendered_values.split("\n")[query.limit - 1]
        last |= zip(unrendered, (text[:-TIME_LENGTH], text[-TIME_LENGTH:])[-len(unrendered) :], strict=True)
    return [last[column] for column in query.sort_columns]


def position_of(query, context):
    """Return the marker's current position. Raises Invalid for an inaccessible marker."""
    columns = ", ".join(query.sort_columns)
    statement = f"SELECT {columns} FROM image WHERE id = :id AND {visible_to(context)}"
    position = fetch_row(statement, {"id": query.marker, "tenant": context.tenant})
    if position is None:
        raise Invalid({"marker": ["Must be the id of an image that you can see."]})
    return position


def count_images(query, context):
    """Return the number of images on all pages, at most MOST_COUNTED + 1."""
    if query.is_hopeless:
        return 0
    # A count needs no order, so the planner may use its default.
    query = query._replace(sort_key="created_at", sort_dir="desc", limit=MOST_COUNTED // 4)
    parameters = {"tenant": context.tenant, "most": MOST_COUNTED + 1, **filter_parameters(query)}
    filters = filters_of(query)
    branches = choose_driving_indexes(query, filters, branches_of(query, context), parameters)
    (count,) = fetch_row(count_statement(query.sort_columns, branches, filters), parameters)
    return count


@lru_cache(maxsize=256)
def count_statement(sort_columns, branches, filters):
    """Return the statement that counts the images on all pages."""
    return dialect.count(sort_columns, branches, filters)


@lru_cache(maxsize=1024)
def page_statement(content, sort_columns, direction, branches, ranges, filters):
    """Return the statement of a page, see ``Dialect.page``."""
    return dialect.page(content, sort_columns, direction, branches, ranges, filters)
