"""Kinds of requests, each for many images, names or markers in turn."""
# ruff: noqa: S311

import random
from typing import NamedTuple

from bench import answers
from bench.answers import Ask
from bench.catalogue import COMMON, FEW, GUEST, MANY, NEARLY_ALL, OTHER, POPULAR_NAME, RARE, SEED, STATUSES
from bench.catalogue import FORMATS as FORMAT_PAIRS

SORT_KEYS = ("id", "name", "status", "disk_format", "container_format", "size", "created_at", "updated_at")
MOST_ASKS = 200
PAGE, WIDE_PAGE = 25, 100
# Least ratio of the floor's CPU time to ours.
BEST, GOOD, TENANTS = 0.75, 0.65, 0.55
ALL = {"is_public": "none"}


class Kind(NamedTuple):
    """Kind of request; ``target`` is the least ratio to the floor, or None.

    With ``follow`` each request is replaced by its "next" page, or repeated with its "etag".
    """

    name: str
    asks: list[Ask]
    target: float | None = GOOD
    follow: str = ""
    floor_has_headers: bool = False

    @property
    def tenant(self) -> str | None:
        return self.asks[0].tenant


class Kinds:
    """All kinds for one catalogue; ``is_whole`` separates sort keys, statuses and formats."""

    def __init__(self, catalogue, is_whole: bool):
        self.catalogue = catalogue
        self.is_whole = is_whole
        self.chance = random.Random(SEED)

    def all(self) -> list[Kind]:
        lists = [*self.filters(), *self.orders(), *self.properties(), *self.searches(), *self.tenants()]
        return [*self.single(), *self.pages(), *lists]

    def single(self):
        asks = [Ask(f"/images/{entry.id}") for entry in self.sample(self.listed())]
        theirs = [Ask(f"/images/{entry.id}", {}, MANY) for entry in self.sample(self.listed({}, MANY))]
        yield Kind("show one", asks, BEST)
        yield Kind("show one (the floor sends its headers too)", asks, None, floor_has_headers=True)
        yield Kind("show one: 304", asks, BEST, follow="etag")
        yield Kind("tenant: show one", theirs, TENANTS)

    def pages(self):
        for path, word in (("/images", "list"), ("/images/detail", "detail")):
            yield Kind(f"{word} of {PAGE}", [self.page(path=path)], BEST)
            yield Kind(f"{word} of {WIDE_PAGE}", [self.page(path=path, limit=WIDE_PAGE)], GOOD)
            yield Kind(f"{word} of {PAGE}, deep", self.deep({}, path=path))
        yield Kind(f"list of {PAGE}, next link", self.deep({}, following=2 * PAGE), follow="next")

    def filters(self):
        names = [entry.name for entry in self.sample([e for e in self.listed() if e.name and e.name != POPULAR_NAME])]
        yield Kind("name, hit", [self.page({"name": name}) for name in dict.fromkeys(names)], BEST)
        yield Kind("name, miss", [self.page({"name": f"no {name}"}) for name in dict.fromkeys(names)], BEST)
        yield Kind("name of 1 %", self.several({"name": POPULAR_NAME}), BEST)
        yield from self.each("status", [{"status": status} for status in STATUSES], self.several)
        disks = dict.fromkeys(disk_format for disk_format, _ in FORMAT_PAIRS)
        yield from self.each("disk format", [{"disk_format": name} for name in disks], self.several)
        containers = dict.fromkeys(container_format for _, container_format in FORMAT_PAIRS)
        yield from self.each("container format", [{"container_format": name} for name in containers], self.several)
        both = [{"disk_format": disk, "container_format": container} for disk, container in FORMAT_PAIRS]
        yield Kind("status and both formats", [self.page({"status": "active"} | query) for query in both])
        yield from self.ranges()
        deleted = {"deleted": "true"} | ALL
        yield Kind("deleted", self.several(deleted))

    def ranges(self):
        sizes = sorted(entry.size for entry in self.sample([e for e in self.listed() if e.size]))
        narrow = [{"size_min": str(size), "size_max": str(size + size // 1000)} for size in sizes]
        yield Kind("size, narrow", [self.page(query) for query in narrow])
        wide = [{"size_min": str(size // 2), "size_max": str(size * 4)} for size in sizes]
        yield Kind("size, wide", [self.page(query) for query in wide])
        updates = sorted(entry.updated_at for entry in self.catalogue.entries)
        recent = [{"changes-since": moment} for moment in updates[-60:-30]]
        yield Kind("changes since, recent", [self.page(query) for query in recent])
        ancient = [{"changes-since": moment} for moment in updates[: len(updates) // 10]]
        yield Kind("changes since, ancient", [self.page(query) for query in self.sample(ancient)])

    def orders(self):
        for sort_dir in ("asc", "desc"):
            orders = [{"sort_key": sort_key, "sort_dir": sort_dir} for sort_key in SORT_KEYS]
            yield from self.each(f"sorted {sort_dir}", orders)
            yield from self.each(f"sorted {sort_dir}, deep", orders, self.deep)

    def properties(self):
        rare, common, other = ({f"property-{name}": value} for name, value in (RARE, COMMON, OTHER))
        yield Kind("property of 50 images", self.several(rare))
        yield Kind("property of a third", self.several(common))
        yield Kind("property of nearly all", self.several({f"property-{NEARLY_ALL[0]}": NEARLY_ALL[1]}))
        yield Kind("two properties", self.several(common | other))
        for sort_key in ("size", "name"):
            query = common | {"sort_key": sort_key}
            yield Kind(f"property of a third by {sort_key}", self.several(query))

    def searches(self):
        """Yield searches; they have no target but should grow little."""
        listed = self.listed()
        numbers = [words[-1] for entry in self.sample(listed) if (words := answers.words_in(entry.name or ""))]
        rare = [self.page({"q": number}) for number in dict.fromkeys(filter(str.isdigit, numbers))]
        yield Kind("search: a word of few", rare, None)
        yield Kind("search: a word of a third", [self.page({"q": COMMON[1]})], None)
        yield Kind("search: a word of a third by name", [self.page({"q": COMMON[1], "sort_key": "name"})], None)
        yield Kind("search: the beginning of a word", [self.page({"q": COMMON[1][:3]})], None)
        yield Kind("search: two words", [self.page({"q": f"{COMMON[1]} {OTHER[1]}"})], None)
        ids = [self.page({"q": entry.id[:8]}) for entry in self.sample(listed)]
        yield Kind("search: the beginning of an id", ids, None)
        yield Kind(f"list of {PAGE}, counted", [self.page({"count": "true"})], None)

    def tenants(self):
        for tenant, word in ((FEW, "few"), (MANY, "many")):
            private = {"is_public": "false", "owner": tenant}
            yield Kind(f"private of one with {word}", [self.page(private)])
            yield Kind(f"private of one with {word} by name", [self.page(private | {"sort_key": "name"})])
            yield Kind(f"tenant with {word}: its own", [self.page({"owner": tenant}, tenant)], TENANTS)
        for tenant, word in ((FEW, "tenant with few"), (MANY, "tenant with many"), (GUEST, "member of few")):
            yield Kind(f"{word}: list", [self.page({}, tenant)], TENANTS)
            yield Kind(f"{word}: list, deep", self.deep({}, tenant), TENANTS)
            yield Kind(f"{word}: list by name", [self.page({"sort_key": "name"}, tenant)], TENANTS)
        yield Kind("tenant with many: detail", [self.page({}, MANY, "/images/detail")], TENANTS)
        names = [entry.name for entry in self.sample([e for e in self.listed({}, MANY) if e.name])]
        yield Kind(
            "tenant with many: name", [self.page({"name": name}, MANY) for name in dict.fromkeys(names)], TENANTS
        )

    def each(self, name, queries, make=None):
        """Return a kind for each query, or one for all; ``make(query)`` returns pages."""
        asks = [make(query) if make else [self.page(query)] for query in queries]
        if self.is_whole:
            values = [next(iter(query.values())) for query in queries]
            return [Kind(f"{name}: {value}", pages) for value, pages in zip(values, asks, strict=True) if pages]
        return [Kind(name, [ask for pages in zip(*asks, strict=False) for ask in pages])]

    def page(self, query=None, tenant=None, path="/images", limit=PAGE):
        return Ask(path, (query or {}) | {"limit": str(limit)}, tenant)

    def several(self, query):
        """Return the first page and deep ones."""
        return [self.page(query), *self.deep(query)]

    def deep(self, query, tenant=None, path="/images", following=PAGE):
        """Return pages after random markers that ``following`` images follow."""
        entries = self.listed(query, tenant)
        markers = self.sample(entries[: max(len(entries) - following, 1)])
        return [self.page(query | {"marker": entry.id}, tenant, path) for entry in markers]

    def listed(self, query=None, tenant=None):
        return answers.listed(self.catalogue, query or {}, tenant)

    def sample(self, values, most=MOST_ASKS):
        return self.chance.sample(values, min(len(values), most))
