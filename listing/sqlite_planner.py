"""SQLite's query planner for lists: choose the driving index of each branch."""

from listing.branches import POSITION, Branch, Filter
from listing.sqlite_dialect import (
    BOUND_INDEXES,
    ORDER,
    ORDERED_FILTERS,
    SCAN,
    SPARSE_FILTERS,
    START_CONDITIONS,
    SQLiteDialect,
)
from storage.engine import fetch_row
from storage.ttl_cache import TTLCache

# A filter with fewer matches than this drives its branch: they are sorted.
FEW = 500
# The most matches that are sorted where the filters rarely match together. Beyond, the index of the default order is
# scanned: it contains all filtered columns but checksum, which has an index of its own, and properties.
SORTED = 20_000
# Filters rarely match together if fewer than SELDOM of the newest SAMPLE images do.
SAMPLE, SELDOM = 300, 4
# Number of next images in the list's order that a search probes.
LOOKED_AHEAD = 3000
# Cached counts choose the plan, never the answer.
COUNT_TTL_SECONDS = 10
count_cache = TTLCache(max_entries=4096)
dialect = SQLiteDialect()


def choose_driving_indexes(query, filters, branches, parameters):
    """Return the branches, each with its driving index."""
    return tuple(Branch(*branch[:2], choose_driving_index(query, filters, branch, parameters)) for branch in branches)


def choose_driving_index(query, filters, branch, parameters):
    """Return the driving index of a branch.

    The factors are those by which the worst query kind slows down without the rule, at 100,000 images
    (``docs/decisions.md``, "Lists").
    """
    filters = [*filters, *(() if branch.scope == "all" else (Filter(branch.scope),))]
    candidates = list(dict.fromkeys(BOUND_INDEXES.get(filter_, filter_) for filter_ in filters))
    natural = [filter_ for filter_ in candidates if is_natural(filter_, query.sort_key)]
    # The index that has the order and the only filter: nothing is sorted or skipped.
    if len(candidates) < 2 and len(natural) == len(candidates):
        return candidates[0] if candidates else ORDER
    probe = Probe(query, branch.partition, parameters)
    # Few matches are sorted.
    rarest, count = probe.rarest_of(candidates, FEW)
    if count < FEW:
        return rarest
    # Words and properties cluster in the order of names and times, so the next images are probed (8 times).
    if query.search or not natural:
        return ORDER if probe.fills_a_page(filters) else probe.sorted_or_scanned(candidates)
    # Filters that rarely match together: sort the rarest (4.8 times), or scan (2.5 times; without both, 51 times).
    if (len(candidates) > 1 or query.sort_key != "created_at") and probe.is_rarely_together(filters):
        return probe.sorted_or_scanned(candidates)
    # The list's order; of several indexes that have it, the one with the fewest matches (3.1 times).
    if len(natural) < 2:
        return natural[0] if natural else ORDER
    return min(natural, key=lambda filter_: probe.count_newest([filter_]))


def is_natural(filter_, sort_key):
    """Return whether an index has the filter's matches in the order of the list."""
    if filter_.name == "own":
        return sort_key in ("created_at", "name")
    if filter_.name == "property":
        return sort_key == "created_at"
    return filter_.name in ORDERED_FILTERS and sort_key in ("created_at", filter_.name)


class Probe:
    """Counts of one query's matches in a list partition, up to a limit and cached."""

    def __init__(self, query, partition, parameters):
        self.query, self.partition, self.parameters = query, partition, parameters

    def rarest_of(self, candidates, most):
        """Return (filter with the fewest matches, their number, at most ``most``)."""
        counts = {filter_: self.count_matches(filter_, most) for filter_ in candidates if has_index(filter_)}
        rarest = min(counts, key=counts.get, default=ORDER)
        return rarest, counts.get(rarest, most)

    def sorted_or_scanned(self, candidates):
        """Return the driving index if the list's order would be walked too far."""
        most = self.sorted_at_most()
        rarest, count = self.rarest_of(candidates, most)
        return rarest if count < most else SCAN

    def is_rarely_together(self, filters):
        """Return whether walking the list's order would take long to fill a page."""
        return self.is_of_newest() or self.count_newest(filters) < SELDOM

    def is_of_newest(self):
        """Return whether changes_since matches mostly the newest images.

        They are then no sample of the others; without this rule lists are up to 33 times slower.
        """
        if self.query.changes_since is None or (self.query.sort_key, self.query.sort_dir) == ("created_at", "desc"):
            return False
        quarter = self.newest_pk() // 4
        return self.count_matches(Filter("changes_since"), quarter) < quarter

    def sorted_at_most(self):
        """Return the most matches to sort; a row costs as much as 12 entries of a scan.

        Without this bound a search counts too many matches (4.7 times slower at 10,000 images).
        """
        return min(self.newest_pk() // 12, SORTED)

    def newest_pk(self):
        """Return about how many images there are."""
        return recall("newest pk", "SELECT coalesce(max(pk), 0) FROM image", {})

    def count_newest(self, filters):
        """Return how many of the newest images of the partition match."""
        return self.count_first(filters, "image_by_created_at", "TRUE", "created_at DESC, id DESC", SAMPLE, SAMPLE)

    def fills_a_page(self, filters):
        """Return whether enough of the next images in the list's order match."""
        columns, direction = self.query.sort_columns, self.query.sort_dir
        after = "TRUE"
        if "p0" in self.parameters:
            ranges = "null after" if self.parameters["p0"] is None else "after"
            after = " AND ".join(dialect.range_conditions(columns, direction, ranges))
        order = ", ".join(f"{column} {direction}" for column in columns)
        index, most = f"image_by_{self.query.sort_key}", self.query.limit + 1
        return self.count_first(filters, index, after, order, LOOKED_AHEAD, most) == most

    def count_first(self, filters, index, after, order, looked_at, most):
        """Return how many of the first images of an index match, at most ``most``."""
        matches = " AND ".join(condition for filter_ in filters for condition in dialect.conditions(filter_)) or "TRUE"
        statement = f"""SELECT count(*) FROM (SELECT 1 FROM (SELECT {matches} AS is_match FROM image INDEXED BY {index}
            WHERE list_partition = {self.partition} AND {after} ORDER BY {order} LIMIT {looked_at}) AS sample
            WHERE is_match LIMIT {most}) AS counted"""
        values = [value for name, value in self.parameters.items() if name != "most"]
        if after == "TRUE":
            values = [value for name, value in self.parameters.items() if name not in ("most", *POSITION)]
        return recall((statement, *values), statement, self.parameters)

    def count_matches(self, filter_, most):
        """Return the number of a filter's matches, at most ``most``.

        They are those of the list partition if the filter's index contains it.
        """
        if filter_.name in SPARSE_FILTERS and not self.parameters[f"f_{filter_.name}"]:
            return most
        if filter_.name == "search" and most < self.sorted_at_most():
            # The first match can cost nearly as much as all, so all are counted once.
            return min(self.count_matches(filter_, self.sorted_at_most()), most)
        key = (filter_, self.partition, most, *(self.parameters.get(name) for name in parameters_of(filter_)))
        source = dialect.matches_of(filter_, self.partition)
        return recall(key, f"SELECT count(*) FROM (SELECT 1 FROM {source} LIMIT {most}) AS counted", self.parameters)


def has_index(filter_):
    """Return whether an index finds the filter's matches."""
    return filter_.name == "property" or filter_.name in START_CONDITIONS


def parameters_of(filter_):
    """Return the names of the parameters that a filter reads."""
    number = filter_.number
    return {
        "search": ("q_match", "q_id"),
        "property": (f"n{number}", f"v{number}"),
        "size": ("size_min", "size_max"),
        "changes_since": ("changes_since",),
        "own": ("tenant",),
        "member": ("tenant",),
    }.get(filter_.name, (f"f_{filter_.name}",))


def recall(key, statement, parameters):
    """Return the count of a statement, cached for COUNT_TTL_SECONDS."""
    entry = count_cache.get(key)
    if entry is not None and entry.is_fresh:
        return entry.value
    (count,) = fetch_row(statement, parameters)
    count_cache.put(key, count, COUNT_TTL_SECONDS)
    return count
