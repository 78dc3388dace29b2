"""SQLite's SQL of list pages, aggregates and exports: INDEXED BY names the index of each part."""

from listing.branches import Filter
from listing.dialect import Dialect
from storage.documents import INDEXED_CHARACTERS

ORDER, SCAN, SIZE = Filter("order"), Filter("scan"), Filter("size")
# One index serves both bounds of the size.
BOUND_INDEXES = {Filter("size_min"): SIZE, Filter("size_max"): SIZE}
# Filters with an index that continues in the order of created_at.
ORDERED_FILTERS = ("name", "status", "disk_format", "container_format")
SPARSE_FILTERS = ("min_ram", "min_disk")  # partial indexes of values above 0
INDEX_KEYS = {"changes_since": "updated_at", "scan": "created_at"}
SIZE_RANGE = "size >= coalesce(:size_min, 0) AND size <= coalesce(:size_max, 9223372036854775807)"
# Conditions by which SQLite uses the index of the driving filter.
START_CONDITIONS = {
    "order": "{partition}",
    "scan": "{partition}",
    "search": "+{partition}",
    **{name: f"{{partition}} AND {name} = :f_{name}" for name in ORDERED_FILTERS},
    **{name: f"{name} > 0 AND {name} = :f_{name} AND +{{partition}}" for name in SPARSE_FILTERS},
    "checksum": "checksum IS NOT NULL AND checksum = :f_checksum AND +{partition}",
    "owner": "owner = :f_owner AND {partition}",
    "size": f"{{partition}} AND {SIZE_RANGE}",
    "changes_since": "{partition} AND updated_at > :changes_since",
    "own": "owner = :tenant AND {partition}",
    "member": "pk IN (SELECT image_id FROM member WHERE member = :tenant) AND +{partition}",
}
# The search index lacks the words of the newest images (storage/search_index.py).
INDEXED_MATCHES = "SELECT rowid AS found FROM search WHERE search MATCH :q_match"
NEWEST_MATCHES = "SELECT image_id FROM words WHERE image_id > (SELECT up_to FROM indexed) AND {words}"
ID_MATCHES = "SELECT pk FROM image WHERE id >= :q_id AND id < :q_id || 'g'"
HAS_ID = "image.id >= :q_id AND image.id < :q_id || 'g'"
HAS_WORDS = "EXISTS (SELECT 1 FROM words WHERE words.image_id = image.pk AND {words})"
OTHER_PROPERTIES = """NOT EXISTS (SELECT 1 FROM json_each(:others) AS wanted WHERE NOT EXISTS (
    SELECT 1 FROM property AS other WHERE other.image_id = image.pk
    AND other.name = json_extract(wanted.value, '$[0]') AND other.value = json_extract(wanted.value, '$[1]')))"""

RECENT_MONTHS = """WITH RECURSIVE month(first, next) AS (
    SELECT date('now', 'start of month'), date('now', 'start of month', '+1 month')
    UNION ALL SELECT date(first, '-1 month'), first FROM month LIMIT {number})"""
SHARES = """(SELECT json_group_array(json_array(member, can_share))
    FROM (SELECT member, can_share FROM member WHERE image_id = pk ORDER BY member))"""


class SQLiteDialect(Dialect):
    """SQLite's part of the SQL of lists; without INDEXED BY SQLite would prefer the index with the list's order."""

    def placeholder(self, name):
        """Return the placeholder of a bound parameter."""
        return f":{name}"

    def aggregate(self, text, order):
        """Return group_concat without an order: it keeps that of the subquery."""
        return f"group_concat({text}, x'0a')"

    def source(self, driving_index, sort_key):
        """Return the tables of a branch, with INDEXED BY."""
        name = driving_index.name
        if name == "property":
            return "property INDEXED BY property_by_value CROSS JOIN image NOT INDEXED ON image.pk = property.image_id"
        if name == "search":
            return (
                f"({self.matches(driving_index)}) AS matches CROSS JOIN image NOT INDEXED ON image.pk = matches.found"
            )
        if name == "member":
            return "image NOT INDEXED"
        if name in ("own", "owner"):
            return f"image INDEXED BY image_of_owner{'_by_name' if sort_key == 'name' else ''}"
        if name in SPARSE_FILTERS or name == "checksum":
            return f"image INDEXED BY image_with_{name}"
        return f"image INDEXED BY image_by_{sort_key if driving_index == ORDER else INDEX_KEYS.get(name, name)}"

    def start_condition(self, branch):
        """Return the condition of a branch's list partition and driving index."""
        partition = f"list_partition = {branch.partition}"
        if branch.driving_index.name == "property":
            return f"{self.property_condition(branch.driving_index)} AND {partition}"
        return START_CONDITIONS[branch.driving_index.name].format(partition=partition)

    def is_served(self, filter_, driving_index):
        """Return whether the driving index serves all of a filter."""
        return driving_index is not None and driving_index == BOUND_INDEXES.get(filter_, filter_)

    def residual(self, condition):
        """Return a residual filter; the unary plus keeps SQLite from using its index."""
        return f"+{condition}"

    def property_condition(self, filter_):
        """Return the condition of a property filter that drives a branch."""
        return f"{self.indexed_condition(filter_)} AND +property.value = :v{filter_.number}"

    def property_conditions(self, number, driving_index):
        """Return the conditions of a property pair; a scan reads its index range once."""
        conditions = super().property_conditions(number, driving_index)
        if driving_index != SCAN:
            return conditions
        indexed = self.indexed_condition(Filter("property", number))
        return [
            f"image.pk IN (SELECT image_id FROM property INDEXED BY property_by_value WHERE {indexed})",
            *conditions,
        ]

    def indexed_condition(self, filter_):
        """Return the condition of a property filter that its index covers.

        It compares the first characters of values, so that values with the same beginning match too.
        """
        number = filter_.number
        return f"property.name = :n{number} AND property.beginning = substr(:v{number}, 1, {INDEXED_CHARACTERS})"

    def search_condition(self, search, driving_index):
        """Return the condition of a search; a scan evaluates its matches once."""
        words = words_condition(search)
        condition = HAS_WORDS.format(words=words)
        if driving_index == SCAN:
            condition = f"image.pk IN ({INDEXED_MATCHES}) OR image.pk IN ({NEWEST_MATCHES.format(words=words)})"
        return f"({condition}{f' OR {HAS_ID}' if search.has_id else ''})"

    def matches(self, search, union="UNION"):
        """Return a query of the images, as ``found``, that match a search."""
        parts = [INDEXED_MATCHES, NEWEST_MATCHES.format(words=words_condition(search))]
        return f" {union} ".join([*parts, ID_MATCHES] if search.has_id else parts)

    def matches_of(self, filter_, partition):
        """Return the FROM clause of a filter's matches."""
        name = filter_.name
        if name == "search":
            return f"({self.matches(filter_, 'UNION ALL')}) AS matches"
        if name == "property":
            return f"property INDEXED BY property_by_value WHERE {self.indexed_condition(filter_)}"
        if name == "member":
            return "member WHERE member = :tenant"
        is_sparse = name in SPARSE_FILTERS or name == "checksum"
        condition = START_CONDITIONS[name].format(partition="TRUE" if is_sparse else f"list_partition = {partition}")
        return f"image WHERE {condition}"

    def other_properties(self):
        """Return the condition of the property pairs in the parameter ``others``."""
        return OTHER_PROPERTIES

    def read_by(self, index):
        """Return the table of images with INDEXED BY."""
        return f"image INDEXED BY {index}"

    def total(self, column):
        """Return SQLite's total, which is a float and does not overflow."""
        return f"total({column})"

    def recent_months(self, number):
        """Return a recursive WITH clause; times compare as text."""
        return RECENT_MONTHS.format(number=number)

    def shares(self):
        """Return the members as SQLite's JSON array."""
        return SHARES


def words_condition(search):
    """Return the condition that an image's text has all words of a search."""
    if not search.has_files:
        return " AND ".join(f"instr(text, :q{number})" for number in range(search.number))
    return " AND ".join(f"(instr(text, :q{number}) OR instr(text, :qf{number}))" for number in range(search.number))
