"""Where the search for a page of a list starts, and what it checks on its way."""

import time
from typing import NamedTuple

import orjson

from storage.documents import DELETED, KILLED, NORMAL, PRIVATE
from storage.engine import DATABASE_ERRORS, database, translated

# A filter that so few images pass is where a query starts; they are then sorted. Any other is checked on the way.
FEW = 500
# Where filters seldom meet, up to so many are sorted; for more, the index of the default order is read whole: it holds
# all that filters ask for but properties (a million images: 0.1 s, by their rows in another order 2.5 s).
SORTED = 20_000
# Whether filters seldom meet is judged by the newest images.
SAMPLE, SELDOM = 300, 4
# A search is walked in the list's order where the next so many images fill the page: words, names and times go
# together, so that nothing else says what follows. Else what the index of words has is sorted, or looked for in a scan.
LOOKED_AHEAD = 3000
# For so long a process remembers how many pass a filter. It only chooses the plan, never the answer.
REMEMBERED_SECONDS = 10
REMEMBERED_FILTERS = 4096
# Filters with an index in the order of created_at.
ORDERED_FILTERS = ("name", "status", "disk_format", "container_format")
SPARSE_FILTERS = ("min_ram", "min_disk")  # indexed where they are not 0
# ListQuery's bounds, as conditions.
BOUNDS = {
    "size_min": "size >= :size_min",
    "size_max": "size <= :size_max",
    "changes_since": "updated_at > :changes_since",
}
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
# A search starts with what the index of words has, and with the newest images, whose words are not in it yet.
GATHERED = "SELECT rowid AS found FROM search WHERE search MATCH :q_match"
NEWEST_FOUND = "SELECT image_id FROM words WHERE image_id > (SELECT up_to FROM indexed) AND {words}"
FOUND = f"{GATHERED} UNION {NEWEST_FOUND}"
IN_IDS = "image.id >= :q_id AND image.id < :q_id || 'g'"
FOUND_IDS = "UNION SELECT pk FROM image WHERE id >= :q_id AND id < :q_id || 'g'"
SEARCHED = "EXISTS (SELECT 1 FROM words WHERE words.image_id = image.pk AND {words})"
# So many property filters have a condition each, and may be where a query starts; the rest have one together: else each
# count of them would be a statement of its own, of up to 300 KB, and each thread's connection keeps 128 statements.
SINGLE_PROPERTIES = 16
OTHER_PROPERTIES = """NOT EXISTS (SELECT 1 FROM json_each(:others) AS wanted WHERE NOT EXISTS (
    SELECT 1 FROM property AS other WHERE other.image_id = image.pk
    AND other.name = json_extract(wanted.value, '$[0]') AND other.value = json_extract(wanted.value, '$[1]')))"""
# The parameters that say after which position a page begins.
POSITION = ("p0", "p1", "p2")
STARTS = {"changes_since": "updated_at", "scan": "created_at"}
BOUND_STARTS = {"size_min": "size", "size_max": "size"}

remembered = {}


class Branch(NamedTuple):
    """A part of a list that one index serves."""

    shelf: int
    audience: str  # all, own, member
    driver: str  # where it starts: order, own, member, a filter's name, property 0, 1, …, or scan


def branches_of(query, filters, context, parameters):
    """The Branches of a list, each with its driver; ``filters`` are filters_of the query."""
    return tuple(
        Branch(shelf, audience, choose_driver(query, filters, parameters, shelf, audience))
        for shelf, audience in shelves(query, context)
    )


def shelves(query, context):
    """(shelf, audience) of what the list may hold: public images, and others as far as the caller is their audience."""
    for state in states(query, context):
        if query.is_public is not False:
            yield state, "all"
        if query.is_public in (False, "all") and context.is_admin:
            yield state + PRIVATE, "all"
        elif query.is_public is not True and context.tenant is not None:
            yield state + PRIVATE, "own"
            yield state + PRIVATE, "member"


def states(query, context):
    """Deleted and killed images are left out, unless asked for."""
    if query.deleted:
        return (DELETED,)
    if query.deleted is False:
        return (NORMAL,)
    if query.changes_since is not None:
        return (NORMAL, KILLED, DELETED) if context.is_admin else (NORMAL, KILLED)
    return (KILLED,) if query.equal.get("status") == "killed" else (NORMAL,)


def filters_of(query):
    """The names of what it filters by."""
    bounds = [name for name in BOUNDS if getattr(query, name) is not None]
    count = len(query.properties)
    others = ("properties",) if count > SINGLE_PROPERTIES else ()
    searches = (search_filter(query.search),) if query.search else ()
    properties = (f"property {number}" for number in range(min(count, SINGLE_PROPERTIES)))
    return (*query.equal, *bounds, *properties, *others, *searches)


def search_filter(search):
    """The filter's name tells how many words it has, and whether they can be an id's beginning."""
    return f"search {len(search.words)}{' id' if search.id_prefix else ''}"


def filter_parameters(query):
    parameters = {f"f_{name}": value for name, value in query.equal.items()}
    parameters |= {name: getattr(query, name) for name in BOUNDS}
    properties = list(query.properties.items())
    for number, (name, value) in enumerate(properties[:SINGLE_PROPERTIES]):
        parameters |= {f"n{number}": name, f"v{number}": value}
    others = properties[SINGLE_PROPERTIES:]
    if query.search:
        parameters |= {"q_match": query.search.match, "q_id": query.search.id_prefix}
        parameters |= {f"q{number}": f" {word}" for number, word in enumerate(query.search.words)}
    return parameters | ({"others": orjson.dumps(others).decode()} if others else {})


def choose_driver(query, filters, parameters, shelf, audience):
    """Where the search starts: an index that gives the order and the only filter, or the filter that few pass."""
    filters = [*filters, *(() if audience == "all" else (audience,))]
    starts = list(dict.fromkeys(BOUND_STARTS.get(name, name) for name in filters))
    natural = [name for name in starts if is_natural(name, query.sort_key)]
    if len(starts) < 2 and len(natural) == len(starts):
        return starts[0] if starts else "order"
    rarest, count = rarest_of(starts, parameters, shelf, FEW)
    if count < FEW:
        return rarest
    if query.search:
        ahead = sampled_ahead(query, together(filters), parameters, shelf)
        return "order" if ahead >= enough_ahead(query.limit) else sorted_or_scanned(starts, parameters, shelf)
    if len(starts) > 1 or query.sort_key != "created_at":
        # In the list's order no more should be walked than would be sorted.
        enough = max(SELDOM, query.limit * SAMPLE // SORTED)
        if is_of_late(query, parameters, shelf) or sampled(together(filters), parameters, shelf) < enough:
            return sorted_or_scanned(starts, parameters, shelf)
    if len(natural) < 2:
        return natural[0] if natural else "order"
    return min(natural, key=lambda name: sampled(*conditions_of(name, "")[:1], parameters, shelf))


def together(filters):
    """What all of them ask for, wherever the search starts."""
    return " AND ".join(condition for name in filters for condition in conditions_of(name, ""))


def sorted_or_scanned(starts, parameters, shelf):
    """Where to start when the list's order would be walked too far."""
    most = sorted_at_most()
    rarest, count = rarest_of(starts, parameters, shelf, most)
    return rarest if count < most else "scan"


def enough_ahead(limit):
    """A page, or so many that no more will be walked than would be sorted."""
    return min(limit + 1, max(LOOKED_AHEAD * limit // SORTED, LOOKED_AHEAD // 20))


def sampled_ahead(query, condition, parameters, shelf):
    """How many of the next images in the list's order pass."""
    columns = query.sort_columns
    compare, position = "<" if query.sort_dir == "desc" else ">", ()
    after = "1"
    if "p0" in parameters:
        names = POSITION[: len(columns)]
        position = tuple(parameters[name] for name in names)
        after = f"({', '.join(columns)}) {compare} ({', '.join(f':{name}' for name in names)})"
        if position[0] is None:
            after = f"{columns[0]} IS NULL AND (created_at, id) {compare} (:p1, :p2)"
    order = ", ".join(f"{column} {query.sort_dir}" for column in columns)
    ahead = f"FROM image INDEXED BY image_by_{query.sort_key} WHERE shelf = {shelf} AND {after} ORDER BY {order}"
    return count_passing(condition, ahead, LOOKED_AHEAD, position, parameters)


def rarest_of(starts, parameters, shelf, most):
    """(filter, how many pass it, at most ``most``), of those that an index finds."""
    counts = {name: count_few(name, parameters, shelf, most) for name in starts if name in CANDIDATES or " " in name}
    rarest = min(counts, key=counts.get, default="order")
    return rarest, counts.get(rarest, most)


def sorted_at_most():
    """A row costs as much to read as twelve entries of the index that a scan reads."""
    return min(newest_pk() // 12, SORTED)


def is_of_late(query, parameters, shelf):
    """Whether changes_since asks for little else than the newest images, so that these say nothing of the others."""
    if query.changes_since is None or (query.sort_key, query.sort_dir) == ("created_at", "desc"):
        return False
    quarter = newest_pk() // 4
    return count_few("changes_since", parameters, shelf, quarter) < quarter


def newest_pk():
    """About how many images there are."""
    return recall(("images",), "SELECT coalesce(max(pk), 0) FROM image", {})


def sampled(condition, parameters, shelf):
    """How many of the newest images on a shelf pass."""
    newest = f"FROM image INDEXED BY image_by_created_at WHERE shelf = {shelf} ORDER BY created_at DESC, id DESC"
    return count_passing(condition, newest, SAMPLE, (), parameters)


def count_passing(condition, images, most, position, parameters):
    """How many of the first ``most`` of ``images`` pass; they begin at ``position``."""
    statement = f"SELECT count(*) FROM (SELECT {condition} AS passes {images} LIMIT {most}) WHERE passes"
    values = [value for name, value in parameters.items() if name not in ("most", *POSITION)]
    return recall((statement, *position, *values), statement, parameters)


def is_natural(name, sort_key):
    """Whether an index has what passes the filter in the list's order."""
    if name == "own":
        return sort_key in ("created_at", "name")
    return (name in ORDERED_FILTERS and sort_key in ("created_at", name)) or (
        name.startswith("property ") and sort_key == "created_at"
    )


def count_few(name, parameters, shelf, most):
    """How many pass a filter, at most ``most``; on a shelf, where the filter's index has it."""
    if name in SPARSE_FILTERS and not parameters[f"f_{name}"]:
        return most
    key = (name, shelf, most, *(parameters.get(part) for part in parts_of(name)))
    if is_search(name) and most < sorted_at_most():
        # To find the first can take nearly as long as to count them all: it is done once.
        return min(count_few(name, parameters, shelf, sorted_at_most()), most)
    if is_search(name):
        source = f"({found(name).replace('UNION', 'UNION ALL')})"
    elif name.startswith("property "):
        number = name.removeprefix("property ")
        source = f"property WHERE {property_condition('property', number)}"
    elif name == "member":
        source = "member WHERE member = :tenant"
    else:
        on_shelf = "1" if name in SPARSE_FILTERS or name == "checksum" else f"shelf = {shelf}"
        source = f"image WHERE {CANDIDATES[name].format(shelf=on_shelf)}"
    return recall(key, f"SELECT count(*) FROM (SELECT 1 FROM {source} LIMIT {most})", parameters)


def recall(key, statement, parameters):
    """The number that a statement has, or had a moment ago."""
    count, until = remembered.get(key, (0, 0))
    now = time.monotonic()
    if now >= until:
        (count,) = run(statement, parameters)
        if len(remembered) >= REMEMBERED_FILTERS:
            remembered.clear()
        remembered[key] = count, now + REMEMBERED_SECONDS
    return count


def parts_of(name):
    """The parameters that a filter reads."""
    if is_search(name):
        return ("q_match", "q_id")
    if name.startswith("property "):
        number = name.removeprefix("property ")
        return (f"n{number}", f"v{number}")
    return {
        "size": ("size_min", "size_max"),
        "changes_since": ("changes_since",),
        "own": ("tenant",),
        "member": ("tenant",),
    }.get(name, (f"f_{name}",))


def start_table(driver, sort_key):
    """Where a query starts, with the index that it uses: SQLite's own choice would fall for the order."""
    if driver.startswith("property "):
        return "property INDEXED BY property_by_value CROSS JOIN image NOT INDEXED ON image.pk = property.image_id"
    if is_search(driver):
        return f"({found(driver)}) CROSS JOIN image NOT INDEXED ON image.pk = found"
    if driver == "member":
        return "image NOT INDEXED"
    if driver in ("own", "owner"):
        return f"image INDEXED BY image_of_owner{'_by_name' if sort_key == 'name' else ''}"
    if driver in SPARSE_FILTERS or driver == "checksum":
        return f"image INDEXED BY image_with_{driver}"
    return f"image INDEXED BY image_by_{sort_key if driver == 'order' else STARTS.get(driver, driver)}"


def start_condition(branch):
    shelf = f"shelf = {branch.shelf}"
    if branch.driver in ("order", "scan"):
        return shelf
    if is_search(branch.driver):
        return f"+{shelf}"
    if branch.driver.startswith("property "):
        number = branch.driver.removeprefix("property ")
        return f"{property_condition('property', number)} AND {shelf}"
    return CANDIDATES[branch.driver].format(shelf=shelf)


def property_condition(table, number):
    """The index has the first 64 characters of values; without the plus SQLite would put :v into the substr."""
    beginning = f"substr({table}.value, 1, 64) = substr(:v{number}, 1, 64)"
    return f"{table}.name = :n{number} AND {beginning} AND +{table}.value = :v{number}"


def is_search(name):
    return name.startswith("search ")


def found(name):
    """A statement of the images, as ``found``, that pass a search."""
    return f"{FOUND.format(words=words_condition(name))} {FOUND_IDS if name.endswith(' id') else ''}"


def words_condition(name):
    return " AND ".join(f"instr(text, :q{number})" for number in range(int(name.split()[1])))


def gathered(name):
    """The condition of a search for who looks at all images: what passes is found once, before."""
    condition = f"image.pk IN ({GATHERED}) OR image.pk IN ({NEWEST_FOUND.format(words=words_condition(name))})"
    return f"({condition} OR {IN_IDS})" if name.endswith(" id") else f"({condition})"


def searched(name):
    """The condition of a search."""
    condition = SEARCHED.format(words=words_condition(name))
    return f"({condition} OR {IN_IDS})" if name.endswith(" id") else condition


def filter_conditions(branch, filters):
    """All that the start does not see to."""
    for name in (*filters, branch.audience):
        yield from conditions_of(name, branch.driver)


def conditions_of(name, driver):
    """What a filter, or an audience, asks for beside the driver; a plus keeps SQLite from starting there."""
    if name == "member":
        is_member = "EXISTS (SELECT 1 FROM member WHERE image_id = pk AND member = :tenant)"
        return ["(owner IS NULL OR owner <> :tenant)", *([] if driver == "member" else [is_member])]
    if name == "all" or driver in (name, BOUND_STARTS.get(name, name)):
        return []
    if is_search(name):
        return [gathered(name) if driver == "scan" else searched(name)]
    if name == "own":
        return ["+owner = :tenant"]
    if name in BOUNDS:
        return [f"+{BOUNDS[name]}"]
    if name == "properties":
        return [OTHER_PROPERTIES]
    if name.startswith("property "):
        number = name.removeprefix("property ")
        return [
            "EXISTS (SELECT 1 FROM property AS other WHERE other.image_id = image.pk"
            f" AND other.name = :n{number} AND other.value = :v{number})"
        ]
    return [f"+image.{name} = :f_{name}"]


def run(statement, parameters):
    try:
        return database.connection().execute(statement, parameters).fetchone()
    except DATABASE_ERRORS as error:
        raise translated(error) from error
