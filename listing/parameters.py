"""Parameters of a list: query string to ListQuery, and the position of a page."""

import base64
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson
from marshmallow import ValidationError

from errors import Invalid
from listing.search import MOST_WORDS, Search, parse_search
from schemas import BOOLEAN_WORDS, Value, count, flag, image_id, is_clean, moment, word
from storage.fields import FIELDS, FILTER_FIELDS, LARGEST_INTEGER, SORT_KEYS

SORT_COLUMNS = {key: tuple(dict.fromkeys((key, "created_at", "id"))) for key in SORT_KEYS} | {"id": ("id",)}


class ListQuery(NamedTuple):
    """Parsed query of a list; None stands for an absent parameter."""

    limit: int
    equality_filters: Mapping[str, Any] = MappingProxyType({})  # column → value
    properties: Mapping[str, str] = MappingProxyType({})
    size_min: int | None = None
    size_max: int | None = None
    changes_since: str | None = None
    is_public: bool | str | None = None  # True, False or "all"; from admins only
    deleted: bool | None = None  # from admins only
    sort_key: str = "created_at"
    sort_dir: str = "desc"
    marker: str | None = None
    position: list | None = None  # the marker's values in sort_columns, if the link contained them
    search: Search | None = None
    is_counted: bool = False

    @property
    def sort_columns(self):
        """Return the columns of the order; the last ones break ties."""
        return SORT_COLUMNS[self.sort_key]

    @property
    def is_hopeless(self):
        """Return whether the search has no words (punctuation only) and matches nothing."""
        return self.search is not None and not self.search.words


def parse_limit(value):
    """Return a limit of any length; it is capped later, by ``api_limit_max``."""
    if not re.fullmatch("[0-9]+", value):
        raise ValueError
    return min(int(value[-40:]), LARGEST_INTEGER) if len(value.lstrip("0")) <= 40 else LARGEST_INTEGER


def parse_position(value):
    """Return [sort_key, the marker's values of the sort columns] of a cursor."""
    position = json.loads(base64.b64decode(value + "=" * (-len(value) % 4), altchars="-_", validate=True))
    if not isinstance(position, list) or not all(map(is_column_value, position)):
        raise ValueError
    return position


def is_column_value(value):
    """Return whether a value of a position can be that of a column."""
    if isinstance(value, str):
        return is_clean(value)
    return value is None or (type(value) is int and abs(value) <= LARGEST_INTEGER)


def position_text(sort_key, values):
    """Return the opaque cursor of an image with these values of the sort columns."""
    return base64.urlsafe_b64encode(orjson.dumps([sort_key, *values])).decode().rstrip("=")


# A text that no image can have matches none; in a body it would be an error.
ANY_TEXT = Value(str, "")
EQUALITY_RULES = {"text": ANY_TEXT, "word": ANY_TEXT, "count": count(), "flag": flag()}
EQUALITY_PARAMETERS = {field.name: EQUALITY_RULES[field.kind] for field in FILTER_FIELDS}
ADMIN_PARAMETERS = {
    "is_public": flag(BOOLEAN_WORDS | {"none": "all"}),
    "deleted": flag(),
}
USER_PARAMETERS = {
    **EQUALITY_PARAMETERS,
    "size_min": count(),
    "size_max": count(),
    "changes-since": moment(),
    "q": Value(parse_search, f"Must be at most {MOST_WORDS} words."),
    "count": flag(),
    "sort_key": word(SORT_KEYS),
    "sort_dir": word(("asc", "desc")),
    "limit": Value(parse_limit, "Must be an integer from 0."),
    "marker": image_id(),
    "position": Value(parse_position, "Must be the position of a next link, sent with its marker and sort_key."),
}
LIST_PARAMETERS = USER_PARAMETERS | ADMIN_PARAMETERS
# Parameters whose field of ListQuery has another name.
FIELD_NAMES = {"changes-since": "changes_since", "q": "search", "count": "is_counted"}
# Types of a position's values; those of other columns are text.
COLUMN_TYPES = {
    field.name: (int if field.kind == "count" else str, *([type(None)] if field.is_nullable else []))
    for field in FIELDS
    if field.is_sort_key
}
PROPERTY_PREFIX = "property-"
MOST_PROPERTIES = 500  # SQLite limits the depth of expressions to 1,000


def parse_parameters(query_string):
    """Return distinct (name, value) pairs; invalid UTF-8 becomes surrogates."""
    query = query_string.decode("utf-8", "surrogateescape")
    if "%" not in query and "+" not in query:
        return list(dict.fromkeys(part.partition("=")[::2] for part in query.split("&") if part))
    return list(dict.fromkeys(parse_qsl(query, keep_blank_values=True, errors="surrogateescape")))


@lru_cache(maxsize=512)
def parse_list_query(query_string, is_admin, api):
    """Return the ListQuery of a query string. Raises Invalid.

    Unknown parameters are ignored; the filters of admins are unknown to others.
    """
    known = LIST_PARAMETERS if is_admin else USER_PARAMETERS
    given, refused = {}, {}
    for name, value in parse_parameters(query_string) if query_string else ():
        if name in known or name.startswith(PROPERTY_PREFIX):
            if not is_clean(name + value):
                refused[name if is_clean(name) else PROPERTY_PREFIX] = ["Must be UTF-8, without NUL."]
            elif given.setdefault(name, value) != value:
                refused[name] = ["Must not be given twice with different values."]
    properties = {name.removeprefix(PROPERTY_PREFIX): given[name] for name in given if name not in known}
    if len(properties) > MOST_PROPERTIES:
        refused[PROPERTY_PREFIX] = [f"Must not be more than {MOST_PROPERTIES} filters."]
    values = {}
    for name in given.keys() & known.keys() - refused.keys():
        try:
            values[name] = known[name].deserialize(given[name])
        except ValidationError as error:
            refused[name] = error.messages
    if refused:
        raise Invalid(refused)
    if values.get("q") and sees_all_locations(is_admin, api):
        values["q"] = values["q"]._replace(has_files=True)
    return make_list_query(values, properties, api)


def sees_all_locations(is_admin, api):
    """Return whether a caller sees the locations of images of all owners.

    Locations can contain credentials, so only owners and admins see them by default (``[api] expose_locations``).
    """
    return is_admin or api.expose_locations == "all"


def make_list_query(values, properties, api):
    """Return the ListQuery of deserialized parameters, which have the API's names."""
    # A filter that leaves images out of lists by default belongs here: add it to equality_filters unless the client
    # sends it (docs/architecture.md). Deleted and killed images are left out by list partition, in branches.states_of.
    others = values.keys() - EQUALITY_PARAMETERS.keys() - {"limit"}
    query = ListQuery(
        limit=min(values.get("limit", api.limit_param_default), api.api_limit_max),
        equality_filters={name: values[name] for name in EQUALITY_PARAMETERS if name in values},
        properties=properties,
        **{FIELD_NAMES.get(name, name): values[name] for name in others},
    )
    return query if query.position is None else query._replace(position=require_fitting_position(query))


def require_fitting_position(query):
    """Return the position's values. Raises Invalid unless they fit marker and order."""
    sort_key, *values = query.position or [None]
    types = [COLUMN_TYPES[column] for column in query.sort_columns]
    is_fitting = sort_key == query.sort_key and len(values) == len(types) and values[-1] == query.marker
    if not is_fitting or not all(map(isinstance, values, types)):
        raise Invalid({"position": [LIST_PARAMETERS["position"].refusal]})
    return values
