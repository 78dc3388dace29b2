"""List page: view by URL parameters, keyset pagination both ways, filter chips."""

from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from flask import request, url_for

from errors import Invalid
from listing import pages, parameters
from schemas import UPDATE_STATUSES
from storage.fields import FILTER_FIELDS, names_of
from ui import sessions
from ui.labels import is_visible
from ui.rendering import is_part, render
from ui.verified import read_results

PAGE_SIZE = 25
GIB = 1 << 30
SIZES = {
    "up to 100 MiB": {"size_max": GIB // 1024 * 100},
    "100 MiB to 1 GiB": {"size_min": GIB // 1024 * 100, "size_max": GIB},
    "1 to 10 GiB": {"size_min": GIB, "size_max": 10 * GIB},
    "10 GiB and more": {"size_min": 10 * GIB},
}
SORTS = {
    "Newest first": ("created_at", "desc"),
    "Oldest first": ("created_at", "asc"),
    "Changed last": ("updated_at", "desc"),
    "Name, A to Z": ("name", "asc"),
    "Largest first": ("size", "desc"),
    "Smallest first": ("size", "asc"),
}
DEFAULT_SORT = ("created_at", "desc")
# (sort_key, title, whether it is shown on narrow screens, direction of the first click)
COLUMNS = (
    ("name", "Name", True, "asc"),
    (None, "System", False, None),
    ("status", "Status", False, "asc"),
    ("disk_format", "Format", False, "asc"),
    ("size", "Size", True, "desc"),
    (None, "Visibility", False, None),
    (None, "Owner", False, None),
    ("created_at", "Created", False, "desc"),
)
CHANGED = ("updated_at", "Changed", False, "desc")
# Parameters of the page, in the order of its links; those that the API has mean the same.
FILTERS = ("status", "disk_format", "container_format", "visibility", "owner", "size_min", "size_max")
OTHERS = (*(name for name in names_of(FILTER_FIELDS) if name not in FILTERS), "changes-since", "deleted")
PLACE = ("marker", "position", "before")


class View(NamedTuple):
    """View of the list, as its URL describes it."""

    given: dict[str, str]  # the parameters with a value, without the position in the list
    query: Any  # the ListQuery
    is_before: bool  # the page before the marker is requested

    def link(self, **changes):
        """Return the URL of the first page with parameters changed; None removes one."""
        merged = {name: value for name, value in {**self.given, **changes}.items() if value is not None}
        return f"{url_for('ui.list_images')}{'?' if merged else ''}{urlencode(merged)}"


class Listing(NamedTuple):
    """Page of the view, with the positions before and after it (None at the ends)."""

    images: list[dict]
    previous: list | None
    following: list | None


def show_list():
    view = read_view()
    listing = read_listing(view)
    total = total_of(view, listing)
    template = "_view.html" if is_part() else "list.html"
    response = render(
        template,
        view=view,
        listing=listing,
        total=total,
        places=places_of(view, listing, total),
        form_token=sessions.form_token,
        notice=sessions.take_notice(),
        chips=chips_of(view),
        verified=read_results(listing.images),
        columns=columns_of(view),
        links=place_links(view, listing),
        may_create=may_create(request.context),
    )
    if is_part():
        response.headers["HX-Replace-Url" if is_search_refined(view) else "HX-Push-Url"] = requested_link(view)
    return response


def places_of(view, listing, total):
    """Return the range of the page as text, or its length in the middle of the list."""
    shown, is_exact = len(listing.images), not total.endswith("+")
    if listing.previous is None:
        return f"1–{shown:,}"
    if listing.following is None and is_exact:
        last = int(total.replace(",", ""))
        return f"{last - shown + 1:,}–{last:,}"
    return f"{shown:,}"


def view_link(query):
    """Return the URL of the view with the query string that a form submitted."""
    pairs = parse_qsl(query.removeprefix("?"), keep_blank_values=True)
    return f"{url_for('ui.list_images')}{'?' if pairs else ''}{urlencode(pairs)}"


def total_of(view, listing):
    """Return the number of images as text, with a plus beyond the count limit."""
    if view.query.marker is None and listing.following is None:
        return f"{len(listing.images):,}"
    count = pages.count_images(view.query, request.context)
    return f"{count:,}" if count <= pages.MOST_COUNTED else f"{pages.MOST_COUNTED:,}+"


def requested_link(view):
    position = {name: request.args[name] for name in PLACE if request.args.get(name)}
    return view.link(**position)


def is_search_refined(view):
    """Return whether only the search text differs from the current page.

    Such a request adds no step to the browser's history.
    """
    shown, asked = (
        dict(parse_qsl(address.partition("?")[2], keep_blank_values=True))
        for address in (request.headers.get("HX-Current-URL", ""), requested_link(view))
    )
    return "q" in shown and {**shown, "q": ""} == {**asked, "q": ""}


def may_create(context):
    return not context.is_read_only and (context.is_admin or context.tenant is not None)


def read_view():
    """Return the View of this request's parameters.

    Raises: Invalid for values that the API refuses too.
    """
    context, api = request.context, request.settings.api
    pairs = parameters.parse_parameters(request.query_string)
    known = ("q", *FILTERS, *OTHERS, "sort_key", "sort_dir", "limit")
    given = {name: value for name, value in pairs if is_known(name, known) and (value or is_known(name, ()))}
    place = {name: value for name, value in pairs if name in ("marker", "position") and value}
    asked = {"limit": PAGE_SIZE, **given, **place}
    visibility = asked.pop("visibility", None)
    if visibility not in (None, "public", "private"):
        raise Invalid({"visibility": ["Must be public or private."]})
    if context.is_admin:
        asked["is_public"] = {"public": "true", "private": "false"}.get(visibility, "none")
    query = parameters.parse_list_query(urlencode(asked, errors="surrogateescape").encode(), context.is_admin, api)
    if not context.is_admin and visibility is not None:
        query = query._replace(is_public=visibility == "public")
    return View(given, query, "before" in dict(pairs) and query.marker is not None)


def is_known(name, known):
    return name in known or name.startswith(parameters.PROPERTY_PREFIX)


def read_listing(view):
    """Return the page; one before the marker is read in reverse order."""
    query, context = view.query, request.context
    if not view.is_before:
        images, following = read_page(query, context)
        previous = position_of(images[0], query) if images and query.marker is not None else None
        return Listing(images, previous, following)
    backwards = query._replace(sort_dir="asc" if query.sort_dir == "desc" else "desc")
    images, previous = read_page(backwards, context)
    if previous is None:
        images, following = read_page(query._replace(marker=None, position=None), context)
        return Listing(images, None, following)
    images.reverse()
    return Listing(images, position_of(images[0], query), position_of(images[-1], query))


def read_page(query, context):
    """Return (records without locations, position of the next page or None)."""
    content, position = pages.list_page(query, context, "none")
    return pages.parsed(content), position


def position_of(image, query):
    return [image[column] for column in query.sort_columns]


def place_links(view, listing):
    """Return {previous, next} as URLs, or None at an end."""
    key = view.query.sort_key

    def link(position, **more):
        if position is None:
            return None
        return view.link(marker=position[-1], position=parameters.position_text(key, position), **more)

    return {"previous": link(listing.previous, before=1), "next": link(listing.following)}


def columns_of(view):
    """Return the table's head as [{key, title, is_wide, link, sorted}].

    ``sorted`` is the value of aria-sort, or None.
    """
    query, columns = view.query, []
    shown = (*COLUMNS[:-1], CHANGED) if query.sort_key == "updated_at" else COLUMNS
    for key, title, is_narrow, first in shown:
        is_sorted = key == query.sort_key
        direction = ("asc" if query.sort_dir == "desc" else "desc") if is_sorted else first
        columns.append(
            {
                "key": key,
                "title": title,
                "is_wide": not is_narrow,
                "link": key and sort_link(view, key, direction),
                "sorted": {"asc": "ascending", "desc": "descending"}[query.sort_dir] if is_sorted else None,
            }
        )
    return columns


def sort_link(view, key, direction):
    is_default = (key, direction) == DEFAULT_SORT
    return view.link(sort_key=None if is_default else key, sort_dir=None if is_default else direction)


def chips_of(view):
    """Return one chip per filter.

    Returns: [{name, title, choice, unset, options: [(title, link, is_chosen)], field}].
    """
    context, api, given = request.context, request.settings.api, view.given
    chips = [
        status_chip(view),
        simple_chip(view, "disk_format", "Format", api.disk_formats),
        simple_chip(view, "visibility", "Visibility", ("public", "private")),
        owner_chip(view, context),
        size_chip(view),
        sort_chip(view),
    ]
    extra = [name for name in given if name in (*OTHERS, "container_format") or is_known(name, ())]
    return [*filter(None, chips), *(other_chip(view, name) for name in extra if name != "deleted")]


def simple_chip(view, name, title, choices):
    chosen = view.given.get(name)
    options = [(choice, view.link(**{name: choice}), choice == chosen) for choice in choices]
    return {"name": name, "title": title, "choice": chosen, "unset": view.link(**{name: None}), "options": options}


def status_chip(view):
    """Return the chip of the status; deleted images are a choice for admins."""
    statuses = [status for status in UPDATE_STATUSES if status != "deleted"]
    chip = simple_chip(view, "status", "Status", statuses)
    is_deleted = view.query.deleted is True
    chip["options"] = [(title, view.link(status=title, deleted=None), chosen) for title, _, chosen in chip["options"]]
    if request.context.is_admin:
        chip["options"].append(("deleted", view.link(status=None, deleted="true"), is_deleted))
    chip["choice"] = "deleted" if is_deleted else chip["choice"]
    return {**chip, "unset": view.link(status=None, deleted=None)}


def owner_chip(view, context):
    chosen = view.given.get("owner")
    chip = {"name": "owner", "title": "Owner", "choice": chosen, "unset": view.link(owner=None), "options": []}
    if context.tenant is not None:
        mine = context.tenant
        chip["options"] = [("mine", view.link(owner=mine), chosen == mine)]
        chip["choice"] = "mine" if chosen == mine else chosen
    return {**chip, "field": {"name": "owner", "label": "Owner is", "value": chosen or ""}}


def size_chip(view):
    given = {name: view.given.get(name) for name in ("size_min", "size_max")}
    choice, options = None, []
    for title, bounds in SIZES.items():
        wanted = {name: str(bounds[name]) if name in bounds else None for name in given}
        options.append((title, view.link(**wanted), wanted == given))
        choice = title if wanted == given else choice
    if choice is None and any(given.values()):
        choice = f"{given['size_min'] or 0} to {given['size_max'] or '…'} bytes"
    clear = view.link(size_min=None, size_max=None)
    return {"name": "size", "title": "Size", "choice": choice, "unset": clear, "options": options}


def sort_chip(view):
    present = (view.query.sort_key, view.query.sort_dir)
    options = [(title, sort_link(view, *sort), sort == present) for title, sort in SORTS.items()]
    return {"name": "sort", "title": "Order", "choice": None, "unset": None, "options": options}


def other_chip(view, name):
    """Return the chip of a filter that only a URL sets."""
    title = name.removeprefix(parameters.PROPERTY_PREFIX).replace("_", " ")
    choice = view.given[name] if is_visible(view.given[name]) else "(empty)"
    return {"name": name, "title": title, "choice": choice, "unset": view.link(**{name: None}), "options": []}
