"""Reading images: one record, or one page of a list, in one SQL statement each."""

from functools import lru_cache
from typing import NamedTuple

import orjson

from errors import Invalid, NotFound
from listing.planner import (
    POSITION,
    branches_of,
    filter_conditions,
    filter_parameters,
    filters_of,
    run,
    start_condition,
    start_table,
)
from models import etag, visible_to
from storage.documents import NO_LOCATIONS, fits, image_digest
from storage.engine import damaged
from storage.fields import BRIEF_FIELDS, DOCUMENT_FIELDS, FIELDS

# This is the hot path, below Peewee's models: docs/performance.md has what a page costs against answering a constant
# (rows turned into objects cost four to eight times that). What it reads is rendered already (documents.py), and a page
# comes as one row, since sqlite3 takes the interpreter's lock anew for each row.

TIME_LENGTH = 26
# So many are counted one by one; of more it is only said that there are.
MOST_COUNTED = 10_000
SHOW = """SELECT CAST(document AS BLOB), CAST(location_document AS BLOB), owner, revision, nonce,
    CAST(brief AS BLOB), visibility, digest FROM image"""
NULLABLE = tuple(field.name for field in FIELDS if field.is_sort_key and field.is_nullable)
CONTENT = {
    "brief": "brief",
    "all": "document || location_document",
    "own": f"document || CASE WHEN owner = :tenant THEN location_document ELSE '{NO_LOCATIONS}' END",
    "none": f"document || '{NO_LOCATIONS}'",
}
HIDDEN_LOCATIONS = NO_LOCATIONS.encode()


class Shown(NamedTuple):
    """What the answer with one record is made of."""

    document: bytes
    location_document: bytes
    owner: str | None
    revision: int
    nonce: str


def show(image_id, context):
    """The Shown of an image. Raises NotFound, for a hidden image as for none, and DatabaseUnavailable for damage."""
    row = run(f"{SHOW} WHERE id = :id AND {visible_to(context)}", {"id": image_id, "tenant": context.tenant})
    if row is None:
        raise NotFound("Image not found.")
    document, location_document, owner, revision, nonce, brief, visibility, digest = row
    rest = {"visibility": visibility, "revision": revision, "nonce": nonce}
    if not fits(digest, image_digest, rest, brief, document, location_document):
        raise damaged("The image")
    return Shown(document, location_document, owner, revision, nonce)


def sees_all_locations(context, api):
    """Locations can carry credentials: an image's owner and admins see them, and others where ``[api]`` says so."""
    return context.is_admin or api.expose_locations == "all"


def rendered(shown, context, api):
    """(ETag, JSON in bytes) of a Shown, whole where the caller sees the locations."""
    is_whole = sees_all_locations(context, api) or context.is_owner_of(shown.owner)
    locations = shown.location_document if is_whole else HIDDEN_LOCATIONS
    return etag(shown.revision, shown.nonce, is_whole), shown.document + locations


def content_for(context, api):
    """The ``content`` of ``list_page`` that shows as much of each detailed record as ``rendered`` does."""
    return "all" if sees_all_locations(context, api) else "none" if context.tenant is None else "own"


def list_page(query, context, content):
    """(the page's images as JSON, comma-separated, in bytes; its last one's position if more follow, else None).

    A position is a list of what an image has in the query's sort columns.
    ``content`` is brief, or how detailed records show locations: all, own, none. Raises Invalid for a marker.
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
    branches = branches_of(query, filters, context, parameters)
    shape = (content, query.sort_columns, query.sort_dir, branches, ranges, filters)
    images, count, trail = run(page_statement(*shape), parameters)
    if count <= query.limit:
        return (images or b"").replace(b"\n", b","), None
    images = images[: images.rindex(b"\n")]
    return images.replace(b"\n", b","), position_after(images, trail, query, content)


def parsed(images):
    """[dict] of comma-separated records. Raises DatabaseUnavailable for damage."""
    try:
        return orjson.loads(b"[%b]" % images)
    except orjson.JSONDecodeError as error:
        raise damaged("An image of the list") from error


def position_after(images, trail, query, content):
    """The sort columns' values in the last of ``images``, lines of JSON."""
    (last,) = parsed(images[images.rfind(b"\n") + 1 :])
    hidden = hidden_columns(content, query.sort_columns)
    if hidden:
        text = trail.split("\n")[query.limit - 1]
        last |= zip(hidden, (text[:-TIME_LENGTH], text[-TIME_LENGTH:])[-len(hidden) :], strict=True)
    return [last[column] for column in query.sort_columns]


def position_of(query, context):
    """The marker's present values of the sort columns. Raises Invalid for one the caller cannot see."""
    columns = ", ".join(query.sort_columns)
    statement = f"SELECT {columns} FROM image WHERE id = :id AND {visible_to(context)}"
    position = run(statement, {"id": query.marker, "tenant": context.tenant})
    if position is None:
        raise Invalid({"marker": ["Must be the id of an image that you can see."]})
    return position


def ranges_after(query, value):
    """What follows a position whose sort key is ``value``; null sorts below every value."""
    if query.sort_key not in NULLABLE:
        return ("after",)
    if query.sort_dir == "asc":
        return ("null after", "not null") if value is None else ("after",)
    return ("null after",) if value is None else ("after", "null")


def count_images(query, context):
    """How many images are on all pages of a list together, at most MOST_COUNTED + 1."""
    if query.is_hopeless:
        return 0
    # No order is asked for: what is counted is found the quickest way.
    query = query._replace(sort_key="created_at", sort_dir="desc", limit=MOST_COUNTED // 4)
    parameters = {"tenant": context.tenant, "most": MOST_COUNTED + 1, **filter_parameters(query)}
    filters = filters_of(query)
    branches = branches_of(query, filters, context, parameters)
    (count,) = run(count_statement(query.sort_columns, branches, filters), parameters)
    return count


@lru_cache(maxsize=256)
def count_statement(sort_columns, branches, filters):
    parts = [branch_statement(sort_columns, "desc", branch, "from start", filters) for branch in branches]
    return f"SELECT count(*) FROM (SELECT 1 FROM ({' UNION ALL '.join(parts)}) LIMIT :most)"


@lru_cache(maxsize=1024)
def page_statement(content, sort_columns, direction, branches, ranges, filters):
    """The SQL of a page; its row is (images, one a line; how many, with one too many; each one's ``trail``, a line)."""
    parts = [
        branch_statement(sort_columns, direction, branch, range_, filters) for branch in branches for range_ in ranges
    ]
    order = ", ".join(f"{column} {direction}" for column in sort_columns)
    # SQLite merges the parts as it goes, keys alone, and no further than the page; what is shown is read afterwards.
    return f"""SELECT CAST(group_concat({CONTENT[content]}, x'0a') AS BLOB), count(*), {trail(content, sort_columns)}
        FROM ({" UNION ALL ".join(parts)} ORDER BY {order} LIMIT :most) AS page
        CROSS JOIN image ON image.pk = page.pk"""


def trail(content, sort_columns):
    """An image's place in the order, as far as it is not in what is shown."""
    columns = [f"page.{name}" for name in hidden_columns(content, sort_columns)]
    return f"group_concat({' || '.join(columns)}, x'0a')" if columns else "NULL"


def hidden_columns(content, sort_columns):
    """Sort columns that a record in six fields lacks: times, which are of one length, and the status before them."""
    shown = BRIEF_FIELDS if content == "brief" else DOCUMENT_FIELDS
    return [name for name in sort_columns if name not in shown]


def branch_statement(sort_columns, direction, branch, range_, filters):
    columns = [f"image.{column}" for column in sort_columns]
    if branch.driver.startswith("property "):
        # The index of properties has the images' created_at.
        columns = ["property.created_at" if column == "image.created_at" else column for column in columns]
    selected = ", ".join(f"{column} AS {name}" for column, name in zip(columns, sort_columns, strict=True))
    conditions = (
        *(start_condition(branch), *filter_conditions(branch, filters)),
        *range_conditions(columns, direction, range_),
    )
    source = start_table(branch.driver, sort_columns[0])
    return f"SELECT image.pk AS pk, {selected} FROM {source} WHERE {' AND '.join(conditions)}"


def range_conditions(columns, direction, range_):
    """Where in the order the page begins; row values compare from the left."""
    positions = [f":p{number}" for number in range(len(columns))]
    compare = ">" if direction == "asc" else "<"
    null = f"{columns[0]} IS NULL"
    return {
        "from start": (),
        "after": (f"({', '.join(columns)}) {compare} ({', '.join(positions)})",),
        "null": (null,),
        "not null": (f"{columns[0]} IS NOT NULL",),
        "null after": (null, f"({', '.join(columns[1:])}) {compare} ({', '.join(positions[1:])})"),
    }[range_]
