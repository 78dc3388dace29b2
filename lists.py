"""Reading images: one record, or one page of a list, in one SQL statement each."""

import time
from functools import lru_cache
from typing import NamedTuple

import orjson

from errors import Invalid, NotFound
from models import (
    BRIEF_FIELDS,
    DATABASE_ERRORS,
    DELETED,
    DOCUMENT_FIELDS,
    KILLED,
    NO_LOCATIONS,
    NORMAL,
    VISIBLE,
    audience_of,
    database,
    translated,
)

# This is the hot path, below Peewee's models: docs/performance.md has what a page costs against answering a constant
# (rows turned into objects cost four to eight times that). What it reads is rendered already (models.documents_of), and
# a page comes as one row, since sqlite3 takes the interpreter's lock anew for each row.

# A filter that so few images pass is where a query starts; they are then sorted. Any other is checked on the way.
FEW = 500
# For so long a process remembers how many pass a filter. It only chooses the plan, never the answer.
REMEMBERED_SECONDS = 10
REMEMBERED_FILTERS = 4096
# Filters with an index in the order of created_at.
ORDERED_FILTERS = ("name", "status", "disk_format", "container_format")
SPARSE_FILTERS = ("min_ram", "min_disk")  # indexed where they are not 0
TIME_LENGTH = 26


class Shown(NamedTuple):
    """What the answer with one record is made of."""

    document: bytes
    location_document: bytes
    owner: str | None
    revision: int
    nonce: str


class Branch(NamedTuple):
    """A part of a list that one index serves."""

    shelf: int
    audience: str  # all, own, member
    driver: str  # where it starts: order, own, member, a filter's name, or property 0, 1, …


SHOW = "SELECT CAST(document AS BLOB), CAST(location_document AS BLOB), owner, revision, nonce FROM image"


def show(image_id, context):
    """The Shown of an image. Raises NotFound, for a hidden image as for none."""
    row = run(f"{SHOW} WHERE id = :id AND {VISIBLE[audience_of(context)]}", {"id": image_id, "tenant": context.tenant})
    if row is None:
        raise NotFound("Image not found.")
    return Shown(*row)


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
        parameters |= dict(zip(("p0", "p1", "p2"), position, strict=False))
        ranges = ranges_after(query, position[0])
    if query.limit == 0:
        return b"", None
    branches = tuple(
        Branch(shelf, audience, choose_driver(query, parameters, shelf, audience))
        for shelf, audience in shelves(query, context)
    )
    filters = (tuple(query.equal), tuple(name for name in BOUNDS if getattr(query, name) is not None))
    shape = (content, query.sort_columns, query.sort_dir, branches, ranges, filters, len(query.properties))
    images, count, trail = run(page_statement(*shape), parameters)
    if count <= query.limit:
        return (images or b"").replace(b"\n", b","), None
    images = images[: images.rindex(b"\n")]
    return images.replace(b"\n", b","), position_after(images, trail, query, content)


def run(statement, parameters):
    try:
        return database.connection().execute(statement, parameters).fetchone()
    except DATABASE_ERRORS as error:
        raise translated(error) from error


def position_after(images, trail, query, content):
    """The sort columns' values in the last of ``images``, lines of JSON."""
    last = orjson.loads(images[images.rfind(b"\n") + 1 :])
    hidden = hidden_columns(content, query.sort_columns)
    if hidden:
        text = trail.split("\n")[query.limit - 1]
        last |= zip(hidden, (text[:-TIME_LENGTH], text[-TIME_LENGTH:])[-len(hidden) :], strict=True)
    return [last[column] for column in query.sort_columns]


def position_of(query, context):
    """The marker's present values of the sort columns. Raises Invalid for one the caller cannot see."""
    columns = ", ".join(query.sort_columns)
    statement = f"SELECT {columns} FROM image WHERE id = :id AND {VISIBLE[audience_of(context)]}"
    position = run(statement, {"id": query.marker, "tenant": context.tenant})
    if position is None:
        raise Invalid({"marker": ["Must be the id of an image that you can see."]})
    return position


def shelves(query, context):
    """(shelf, audience) of what the list may hold: public images, and others as far as the caller is their audience."""
    for state in states(query, context):
        if query.is_public is not False:
            yield state, "all"
        if query.is_public in (False, "all"):
            yield state + 1, "all"
        elif query.is_public is None and context.tenant is not None:
            yield state + 1, "own"
            yield state + 1, "member"


def states(query, context):
    """Deleted and killed images are left out, unless asked for."""
    if query.deleted:
        return (DELETED,)
    if query.deleted is False:
        return (NORMAL,)
    if query.changes_since is not None:
        return (NORMAL, KILLED, DELETED) if context.is_admin else (NORMAL, KILLED)
    return (KILLED,) if query.equal.get("status") == "killed" else (NORMAL,)


# ListQuery's bounds, as conditions.
BOUNDS = {
    "size_min": "size >= :size_min",
    "size_max": "size <= :size_max",
    "changes_since": "updated_at > :changes_since",
}


def filter_parameters(query):
    parameters = {f"f_{name}": value for name, value in query.equal.items()}
    parameters |= {name: getattr(query, name) for name in BOUNDS}
    for number, (name, value) in enumerate(query.properties.items()):
        parameters |= {f"n{number}": name, f"v{number}": value}
    return parameters


def ranges_after(query, value):
    """What follows a position whose sort key is ``value``; null sorts below every value."""
    if query.sort_key not in NULLABLE:
        return ("after",)
    if query.sort_dir == "asc":
        return ("null after", "not null") if value is None else ("after",)
    return ("null after",) if value is None else ("after", "null")


NULLABLE = ("name", "size", "disk_format", "container_format")


def choose_driver(query, parameters, shelf, audience):
    """Where the search starts: an index that gives the order and the only filter, or the filter that few pass."""
    filters = [*query.equal, *(name for name in ("size", "changes_since") if is_bounded(query, name))]
    filters += [f"property {number}" for number in range(len(query.properties))]
    filters += [] if audience == "all" else [audience]
    if not filters:
        return "order"
    natural = [name for name in filters if is_natural(name, query.sort_key)]
    if len(filters) == 1 and natural:
        return filters[0]
    counts = {name: count_few(name, parameters, shelf) for name in filters if name in CANDIDATES or " " in name}
    rarest = min(counts, key=counts.get, default="order")
    if counts.get(rarest, FEW) < FEW:
        return rarest
    return min(natural, key=lambda name: counts.get(name, FEW), default="order")


def is_bounded(query, name):
    return (
        query.changes_since is not None if name == "changes_since" else (query.size_min, query.size_max) != (None, None)
    )


def is_natural(name, sort_key):
    """Whether an index has what passes the filter in the list's order."""
    if name == "own":
        return sort_key in ("created_at", "name")
    return (name in ORDERED_FILTERS and sort_key in ("created_at", name)) or (
        name.startswith("property ") and sort_key == "created_at"
    )


SIZE_RANGE = "size >= coalesce(:size_min, 0) AND size <= coalesce(:size_max, 9223372036854775807)"
# The condition by which a query starts at a filter, such that SQLite uses the filter's index.
CANDIDATES = {
    **{name: f"{{shelf}} AND {name} = :f_{name}" for name in ORDERED_FILTERS},
    **{name: f"{name} > 0 AND {name} = :f_{name} AND +{{shelf}}" for name in SPARSE_FILTERS},
    "checksum": "checksum IS NOT NULL AND checksum = :f_checksum AND +{shelf}",
    "owner": "owner = :f_owner AND {shelf}",
    "size": f"{{shelf}} AND {SIZE_RANGE}",
    "changes_since": "{shelf} AND updated_at > :changes_since",
    "own": "owner = :tenant AND {shelf}",
    "member": "pk IN (SELECT image_id FROM member WHERE member = :tenant) AND +{shelf}",
}

remembered = {}


def count_few(name, parameters, shelf):
    """How many pass a filter on a shelf, at most FEW."""
    if name in SPARSE_FILTERS and not parameters[f"f_{name}"]:
        return FEW
    key = (name, shelf, *(parameters.get(part) for part in parts_of(name)))
    count, until = remembered.get(key, (0, 0))
    now = time.monotonic()
    if now >= until:
        if name.startswith("property "):
            number = name.removeprefix("property ")
            source = f"property WHERE {property_condition('property', number)}"
        elif name == "member":
            source = "member WHERE member = :tenant"
        else:
            source = f"image WHERE {CANDIDATES[name].format(shelf=f'shelf = {shelf}')}"
        (count,) = run(f"SELECT count(*) FROM (SELECT 1 FROM {source} LIMIT {FEW})", parameters)
        if len(remembered) >= REMEMBERED_FILTERS:
            remembered.clear()
        remembered[key] = count, now + REMEMBERED_SECONDS
    return count


def parts_of(name):
    """The parameters that a filter reads."""
    if name.startswith("property "):
        number = name.removeprefix("property ")
        return (f"n{number}", f"v{number}")
    return {
        "size": ("size_min", "size_max"),
        "changes_since": ("changes_since",),
        "own": ("tenant",),
        "member": ("tenant",),
    }.get(name, (f"f_{name}",))


CONTENT = {
    "brief": "brief",
    "all": "document || location_document",
    "own": f"document || CASE WHEN owner = :tenant THEN location_document ELSE '{NO_LOCATIONS}' END",
    "none": f"document || '{NO_LOCATIONS}'",
}


@lru_cache(maxsize=1024)
def page_statement(content, sort_columns, direction, branches, ranges, filters, properties):
    """The SQL of a page; its row is (images, one a line; how many, with one too many; the ``trail`` of each, a line)."""
    parts = [
        branch_statement(sort_columns, direction, branch, range_, filters, properties)
        for branch in branches
        for range_ in ranges
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


def branch_statement(sort_columns, direction, branch, range_, filters, properties):
    columns = [f"image.{column}" for column in sort_columns]
    if branch.driver.startswith("property "):
        # The index of properties has the images' created_at.
        columns = ["property.created_at" if column == "image.created_at" else column for column in columns]
    selected = ", ".join(f"{column} AS {name}" for column, name in zip(columns, sort_columns, strict=True))
    conditions = (
        *(start_condition(branch), *filter_conditions(branch, filters, properties)),
        *range_conditions(columns, direction, range_),
    )
    source = start_table(branch.driver, sort_columns[0])
    return f"SELECT image.pk AS pk, {selected} FROM {source} WHERE {' AND '.join(conditions)}"


def start_table(driver, sort_key):
    """Where a query starts, with the index that it uses: SQLite's own choice would fall for the order."""
    if driver.startswith("property "):
        return "property INDEXED BY property_by_value CROSS JOIN image NOT INDEXED ON image.pk = property.image_id"
    if driver == "member":
        return "image NOT INDEXED"
    if driver in ("own", "owner"):
        return f"image INDEXED BY image_of_owner{'_by_name' if sort_key == 'name' else ''}"
    if driver in SPARSE_FILTERS or driver == "checksum":
        return f"image INDEXED BY image_with_{driver}"
    return f"image INDEXED BY image_by_{STARTS.get(driver, driver) if driver != 'order' else sort_key}"


STARTS = {"changes_since": "updated_at"}


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


def start_condition(branch):
    shelf = f"shelf = {branch.shelf}"
    if branch.driver == "order":
        return shelf
    if branch.driver.startswith("property "):
        number = branch.driver.removeprefix("property ")
        return f"{property_condition('property', number)} AND {shelf}"
    return CANDIDATES[branch.driver].format(shelf=shelf)


def property_condition(table, number):
    """The index has the first 64 characters of values; without the plus SQLite would put :v into the substr."""
    beginning = f"substr({table}.value, 1, 64) = substr(:v{number}, 1, 64)"
    return f"{table}.name = :n{number} AND {beginning} AND +{table}.value = :v{number}"


def filter_conditions(branch, filters, properties):
    """All that the start does not see to; a plus keeps SQLite from starting there."""
    equal, bounds = filters
    for name in equal:
        if name != branch.driver:
            yield f"+image.{name} = :f_{name}"
    for name in bounds:
        if branch.driver not in (name, name.partition("_")[0]):
            yield f"+{BOUNDS[name]}"
    for number in range(properties):
        if branch.driver != f"property {number}":
            yield (
                "EXISTS (SELECT 1 FROM property AS other WHERE other.image_id = image.pk"
                f" AND other.name = :n{number} AND other.value = :v{number})"
            )
    if branch.audience == "own" and branch.driver != "own":
        yield "+owner = :tenant"
    if branch.audience == "member":
        yield "(owner IS NULL OR owner <> :tenant)"
        if branch.driver != "member":
            yield "EXISTS (SELECT 1 FROM member WHERE image_id = pk AND member = :tenant)"
