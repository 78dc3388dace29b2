"""Branches, ranges and filters of a list: the part of a query plan that all engines share."""

from typing import NamedTuple

import orjson

from storage.documents import DELETED, FILE_MARK, KILLED, NORMAL, PRIVATE
from storage.fields import FIELDS

BOUNDS = ("size_min", "size_max", "changes_since")
# Sort columns with nulls; null sorts below every value.
NULLABLE = tuple(field.name for field in FIELDS if field.is_sort_key and field.is_nullable)
# Parameters that hold the position after which a page begins.
POSITION = ("p0", "p1", "p2")
# The first 16 property filters have a condition each. One condition holds all others: a separate statement for each
# number of filters would take up to 300 KB in the statement cache of every connection.
SINGLE_PROPERTIES = 16


class Filter(NamedTuple):
    """Condition of a list query, without its values: those are bound parameters."""

    name: str  # a column, one of BOUNDS, property, properties, search, or a visibility scope
    number: int = 0  # of a property filter its place, of a search its number of words
    has_id: bool = False  # a search that may also be the prefix of an id
    has_files: bool = False  # a search in the names of files too


class Branch(NamedTuple):
    """Part of a list that one index scan can serve."""

    partition: int  # the list partition, column ``list_partition``
    scope: str  # visibility scope: all, own, member
    driving_index: Filter | None = None  # filter that the driving index serves, if we choose it


def branches_of(query, context):
    """Return the branches of a list, by list partition and visibility scope."""
    branches = []
    for state in states_of(query, context):
        if query.is_public is not False:
            branches.append(Branch(state, "all"))
        if query.is_public in (False, "all") and context.is_admin:
            branches.append(Branch(state + PRIVATE, "all"))
        elif query.is_public is not True and context.tenant is not None:
            branches += [Branch(state + PRIVATE, "own"), Branch(state + PRIVATE, "member")]
    return tuple(branches)


def states_of(query, context):
    """Return the public list partitions of a query."""
    if query.deleted:
        return (DELETED,)
    if query.deleted is False:
        return (NORMAL,)
    if query.changes_since is not None:
        return (NORMAL, KILLED, DELETED) if context.is_admin else (NORMAL, KILLED)
    return (KILLED,) if query.equality_filters.get("status") == "killed" else (NORMAL,)


def filters_of(query):
    """Return the Filters of a query."""
    count = len(query.properties)
    names = [*query.equality_filters, *(name for name in BOUNDS if getattr(query, name) is not None)]
    filters = [Filter(name) for name in names]
    filters += [Filter("property", number) for number in range(min(count, SINGLE_PROPERTIES))]
    if count > SINGLE_PROPERTIES:
        filters.append(Filter("properties"))
    if query.search:
        filters.append(Filter("search", len(query.search.words), bool(query.search.id_prefix), query.search.has_files))
    return tuple(filters)


def filter_parameters(query):
    """Return the bound parameters of a query's filters as {name: value}."""
    parameters = {f"f_{name}": value for name, value in query.equality_filters.items()}
    parameters |= {name: getattr(query, name) for name in BOUNDS}
    properties = list(query.properties.items())
    for number, (name, value) in enumerate(properties[:SINGLE_PROPERTIES]):
        parameters |= {f"n{number}": name, f"v{number}": value}
    others = properties[SINGLE_PROPERTIES:]
    if query.search:
        parameters |= {"q_match": query.search.match, "q_id": query.search.id_prefix}
        parameters |= {f"q{number}": f" {word}" for number, word in enumerate(query.search.words)}
        parameters |= {f"qf{number}": f" {FILE_MARK}{word}" for number, word in enumerate(query.search.words)}
    return parameters | ({"others": orjson.dumps(others).decode()} if others else {})


def ranges_after(query, value):
    """Return the ranges after a position with a sort key of ``value``, in order."""
    if query.sort_key not in NULLABLE:
        return ("after",)
    if query.sort_dir == "asc":
        return ("null after", "not null") if value is None else ("after",)
    return ("null after",) if value is None else ("after", "null")
