"""Random list requests with values of a database: common ones, rare ones and near misses."""
# ruff: noqa: S311, S608

import random
import sqlite3
from contextlib import closing
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from bench.answers import words_in
from bench.kinds import SORT_KEYS

SAMPLED, OFTEN, SELDOM = 3000, 8, 40
COLUMNS = ("name", "status", "disk_format", "container_format", "checksum", "owner", "min_ram", "min_disk", "size")
TEXTS = COLUMNS[:6]
LIMITS = (1, 25, 25, 100, 1000, 1000)
PATHS = ("/images", "/images/detail")
MOST_FILTERS = 5
ADMIN, ANONYMOUS = "admin", "anonymous"
# Parameters whose value belongs to the shape of a question.
TOLD = ("sort_key", "status", "deleted", "is_public")
# Parameters of the page, not filters.
PLACE = ("sort_key", "sort_dir", "limit", "marker", "position")


class Question(NamedTuple):
    """One GET of a list, by ``admin``, ``anonymous``, or the user of the tenant that ``caller`` names."""

    path: str
    query: tuple[tuple[str, str], ...]  # sorted
    caller: str

    @property
    def target(self) -> str:
        return f"{self.path}?{urlencode(self.query)}"

    @property
    def shape(self):
        """Return the parameters without most values, which make a kind."""
        names = [name for name, _ in self.query if name not in (*TOLD, "sort_dir", "limit", "position")]
        told = [pair for pair in self.query if pair[0] in TOLD]
        return (*names, *told, self.caller if self.caller in (ADMIN, ANONYMOUS) else "tenant")

    @property
    def filters(self) -> list[str]:
        return [name for name, _ in self.query if name not in PLACE]

    def altered(self, changes: dict[str, str | None]) -> "Question":
        """Return the question with other values; None removes a parameter."""
        query = {name: text for name, text in (dict(self.query) | changes).items() if text is not None}
        return self._replace(query=tuple(sorted(query.items())))

    def next_page(self, link: str) -> "Question":
        query = parse_qsl(urlsplit(link.partition(">")[0].lstrip("<")).query, keep_blank_values=True)
        return self._replace(query=tuple(sorted(query)))


class Values(NamedTuple):
    """Values of one column or property; each list is drawn from equally often."""

    common: list
    usual: list
    rare: list


class Source:
    """Values of a database, opened read-only, that questions draw from."""

    def __init__(self, database, seed):
        chance = random.Random(f"sample {seed}")
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            (last,) = connection.execute("SELECT max(pk) FROM image").fetchone()
            keys = ", ".join(str(chance.randint(1, last)) for _ in range(SAMPLED))
            rows = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM image WHERE pk IN ({keys})").fetchall()
            self.columns = {
                name: values_of(counted(column)) for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=True)
            }
            self.images = connection.execute(f"SELECT id, updated_at FROM image WHERE pk IN ({keys})").fetchall()
            grouped = "SELECT {0}, count(*) FROM {1} GROUP BY {0}"
            owners = dict(connection.execute(grouped.format("owner", "image WHERE owner IS NOT NULL")))
            members = dict(connection.execute(grouped.format("member", "member")))
            self.columns["owner"] = values_of(owners)
            self.tenants = {"owner": values_of(owners), "member": values_of(members or owners)}
            properties = properties_of(connection)
            self.properties = {name: values_of(texts) for name, texts in properties.items()}
            texts = [row[0] or "" for row in rows] + [text for texts in properties.values() for text in texts]
            self.words = values_of(counted(words_in(" ".join(texts))))


def properties_of(connection):
    """Return {name: {text: count}} of all properties."""
    found = {}
    for name, text, count in connection.execute("SELECT name, value, count(*) FROM property GROUP BY 1, 2"):
        if text is not None:
            found.setdefault(name, {})[text] = count
    return found


def counted(values):
    counts = {}
    for value in values:
        if value is not None:
            counts[value] = counts.get(value, 0) + 1
    return counts


def values_of(counts):
    ordered = sorted(counts, key=lambda value: (-counts[value], value)) or [0]
    step = max(len(ordered) // SELDOM, 1)
    return Values(ordered[:OFTEN], ordered[::step], ordered[-SELDOM:])


class Draws:
    """Reproducible random questions and mutations."""

    def __init__(self, source: Source, seed):
        self.source = source
        self.chance = random.Random(seed)

    def question(self) -> Question:
        question = Question(self.chance.choice(PATHS), (), self.caller())
        for _ in range(self.chance.randint(0, MOST_FILTERS)):
            question = self.with_filter(question)
        return self.somewhere(self.in_order(question))

    def caller(self):
        kind = self.chance.choice((ADMIN, ADMIN, "owner", "member", ANONYMOUS))
        return str(self.value(self.source.tenants[kind])) if kind in self.source.tenants else kind

    def in_order(self, question):
        order = {"sort_key": self.chance.choice(SORT_KEYS), "sort_dir": self.chance.choice(("asc", "desc"))}
        return question.altered({**order, "position": None, "limit": str(self.chance.choice(LIMITS))})

    def somewhere(self, question):
        """Return the question for the first page, or after a random marker."""
        marker = self.chance.choice(self.source.images)[0] if self.chance.random() < 0.6 else None
        return question.altered({"marker": marker, "position": None})

    def with_filter(self, question):
        others = ("property", "property", "changes-since", "protected", "state", "size_max", "q")
        name = self.chance.choice((*COLUMNS, *others))
        if name == "q":
            return question.altered({name: " ".join(self.word() for _ in range(self.chance.randint(1, 3)))})
        if name == "property":
            name = self.chance.choice(list(self.source.properties) or ["none"])
            values = self.source.properties.get(name, Values(["none"], ["none"], ["none"]))
            return question.altered({f"property-{name}": self.text(values)})
        if name in ("size", "size_max"):
            return question.altered({"size_min" if name == "size" else name: self.text(self.source.columns["size"])})
        if name == "changes-since":
            return question.altered({name: self.chance.choice(self.source.images)[1]})
        if name == "state":
            states = {"is_public": ("true", "false", "none"), "deleted": ("true", "false")}
            name = self.chance.choice(list(states))
            return question.altered({name: self.chance.choice(states[name])})
        if name == "protected":
            return question.altered({name: self.chance.choice(("true", "false"))})
        return question.altered({name: self.text(self.source.columns[name])})

    def word(self):
        """Return a word of a name or property, or its beginning."""
        word = self.text(self.source.words)
        return word[: self.chance.randint(1, len(word))] if self.chance.random() < 0.5 else word

    def value(self, values):
        return self.chance.choice(self.chance.choice(values))

    def text(self, values):
        """Return a value as text, or a near miss."""
        value = self.value(values)
        if self.chance.random() < 0.15:
            return str(value + 1) if isinstance(value, int) else f"{value}x"
        return str(value)

    def mutated(self, question):
        """Return the question with one part added, removed or replaced, mostly a filter."""
        filters = question.filters
        kind = self.chance.choice(("add", "add", "remove", "replace", "replace", "order", "place", "caller", "path"))
        if kind in ("remove", "replace") and filters:
            question = question.altered({self.chance.choice(filters): None})
        if kind == "replace" or (kind == "add" and len(filters) < 2 * MOST_FILTERS):
            return self.with_filter(question)
        if kind == "caller":
            return question._replace(caller=self.caller())
        if kind == "path":
            return question._replace(path=self.chance.choice(PATHS))
        return {"order": self.in_order, "place": self.somewhere}.get(kind, lambda same: same)(question)
