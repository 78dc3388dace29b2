"""SQL of list pages, aggregates and exports: portable statements, and the methods in which engines differ."""

from listing.branches import Filter
from storage.documents import BRIEF_FIELDS, DOCUMENT_FIELDS, NO_LOCATIONS

# The index of properties contains these columns of their images.
PROPERTY_COLUMNS = {"image.created_at": "property.created_at", "image.id": "property.image_uuid"}
BOUND_CONDITIONS = {"size_min": "size >=", "size_max": "size <=", "changes_since": "updated_at >"}


class Dialect:
    """Renderer of list statements; an engine's subclass defines the methods that raise NotImplementedError."""

    def placeholder(self, name):
        """Return the placeholder of a bound parameter."""
        raise NotImplementedError

    def aggregate(self, text, order):
        """Return an expression that joins the lines of a page, in its order."""
        raise NotImplementedError

    def source(self, driving_index, sort_key):
        """Return the FROM clause of a branch, with image among its tables."""
        raise NotImplementedError

    def start_condition(self, branch):
        """Return the condition of a branch's list partition and driving index."""
        raise NotImplementedError

    def is_served(self, filter_, driving_index):
        """Return whether the driving index serves all of a filter."""
        raise NotImplementedError

    def residual(self, condition):
        """Return a residual filter: a condition that no index serves."""
        raise NotImplementedError

    def search_condition(self, search, driving_index):
        """Return the condition of a search Filter."""
        raise NotImplementedError

    def other_properties(self):
        """Return the condition of the property pairs in the parameter ``others``."""
        raise NotImplementedError

    def read_by(self, index):
        """Return the table of images in a FROM clause, read by an index."""
        raise NotImplementedError

    def total(self, column):
        """Return the sum of a column, 0 if there are no rows."""
        raise NotImplementedError

    def recent_months(self, number):
        """Return the WITH clause of month(first, next), one row for each recent month.

        Both columns are the first day of a month, as text.
        """
        raise NotImplementedError

    def shares(self):
        """Return the expression of an image's shares: [[member, can_share]] as JSON."""
        raise NotImplementedError

    def merge(self, parts, order):
        """Return the union of a page's branches, in order, cut after the page."""
        return f"{' UNION ALL '.join(parts)} ORDER BY {order} LIMIT {self.placeholder('most')}"

    def page(self, content, sort_columns, direction, branches, ranges, filters):
        """Return the statement of a page.

        Its row: (images, one a line; their number, at most one too many; their unrendered sort columns, one a line).
        """
        parts = [
            self.branch(sort_columns, direction, branch, range_, filters) for branch in branches for range_ in ranges
        ]
        order = ", ".join(f"{column} {direction}" for column in sort_columns)
        images = self.aggregate(self.content(content), order)
        # Only keys are merged; documents are read for the images of the page alone.
        return f"""SELECT CAST({images} AS BLOB), count(*), {self.unrendered_values(content, sort_columns, order)}
            FROM ({self.merge(parts, order)}) AS page CROSS JOIN image ON image.pk = page.pk"""

    def count(self, sort_columns, branches, filters):
        """Return the statement that counts the images of all pages, at most ``most``."""
        parts = [self.branch(sort_columns, "desc", branch, "from start", filters) for branch in branches]
        listed = f"SELECT 1 FROM ({' UNION ALL '.join(parts)}) AS listed LIMIT {self.placeholder('most')}"
        return f"SELECT count(*) FROM ({listed}) AS counted"

    def content(self, content):
        """Return the expression of a rendered image; see ``pages.list_page``."""
        own = f"CASE WHEN owner = {self.placeholder('tenant')} THEN location_document ELSE '{NO_LOCATIONS}' END"
        return {
            "brief": "brief",
            "all": "document || location_document",
            "own": f"document || {own}",
            "none": f"document || '{NO_LOCATIONS}'",
        }[content]

    def unrendered_values(self, content, sort_columns, order):
        """Return the expression of the sort columns that the rendered images lack."""
        columns = [f"page.{name}" for name in unrendered_columns(content, sort_columns)]
        return self.aggregate(" || ".join(columns), order) if columns else "NULL"

    def branch(self, sort_columns, direction, branch, range_, filters):
        """Return the keys (pk and sort columns) of a branch within a range."""
        columns = [f"image.{column}" for column in sort_columns]
        if branch.driving_index and branch.driving_index.name == "property":
            columns = [PROPERTY_COLUMNS.get(column, column) for column in columns]
        selected = ", ".join(f"{column} AS {name}" for column, name in zip(columns, sort_columns, strict=True))
        conditions = (
            self.start_condition(branch),
            *self.residual_filters(branch, filters),
            *self.range_conditions(columns, direction, range_),
        )
        source = self.source(branch.driving_index, sort_columns[0])
        return f"SELECT image.pk AS pk, {selected} FROM {source} WHERE {' AND '.join(conditions)}"

    def range_conditions(self, columns, direction, range_):
        """Return the conditions of keyset pagination: row values compare from the left."""
        positions = [self.placeholder(f"p{number}") for number in range(len(columns))]
        compare = ">" if direction == "asc" else "<"
        null = f"{columns[0]} IS NULL"
        return {
            "from start": (),
            "after": (f"({', '.join(columns)}) {compare} ({', '.join(positions)})",),
            "null": (null,),
            "not null": (f"{columns[0]} IS NOT NULL",),
            "null after": (null, f"({', '.join(columns[1:])}) {compare} ({', '.join(positions[1:])})"),
        }[range_]

    def residual_filters(self, branch, filters):
        """Yield the conditions that the driving index does not serve."""
        for filter_ in (*filters, Filter(branch.scope)):
            yield from self.conditions(filter_, branch.driving_index)

    def conditions(self, filter_, driving_index=None):
        """Return the conditions of a filter or visibility scope that the index leaves."""
        name, number = filter_.name, filter_.number
        if name == "member":
            return self.member_conditions(driving_index)
        if name == "all" or self.is_served(filter_, driving_index):
            return []
        if name == "search":
            return [self.search_condition(filter_, driving_index)]
        if name == "properties":
            return [self.other_properties()]
        if name == "property":
            return self.property_conditions(number, driving_index)
        if name == "own":
            return [self.residual(f"owner = {self.placeholder('tenant')}")]
        if name in BOUND_CONDITIONS:
            return [self.residual(f"{BOUND_CONDITIONS[name]} {self.placeholder(name)}")]
        return [self.residual(f"image.{name} = {self.placeholder(f'f_{name}')}")]

    def property_conditions(self, number, driving_index):
        """Return the conditions that an image has the property pair with a number."""
        pair = f"other.name = {self.placeholder(f'n{number}')} AND other.value = {self.placeholder(f'v{number}')}"
        return [f"EXISTS (SELECT 1 FROM property AS other WHERE other.image_id = image.pk AND {pair})"]

    def member_conditions(self, driving_index):
        """Return the conditions of images that another tenant shares with the caller."""
        tenant = self.placeholder("tenant")
        conditions = [f"(owner IS NULL OR owner <> {tenant})"]
        if driving_index is None or driving_index.name != "member":
            conditions.append(f"EXISTS (SELECT 1 FROM member WHERE image_id = pk AND member = {tenant})")
        return conditions


def unrendered_columns(content, sort_columns):
    """Return the sort columns that a rendered image lacks: times, or status and times."""
    shown = BRIEF_FIELDS if content == "brief" else DOCUMENT_FIELDS
    return [name for name in sort_columns if name not in shown]
