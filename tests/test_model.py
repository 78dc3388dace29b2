"""Lists compared with a slow, obvious model, for random catalogues and queries.

A failure prints the smallest case found, and a line that runs it again. MODEL_EXAMPLES=5000 looks for longer.
"""

import json
import os
import random
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import product
from typing import NamedTuple
from urllib.parse import urlencode

import hypothesis.strategies as st
import pytest
from conftest import CALLERS, identity
from hypothesis import HealthCheck, given, settings
from support import list_model

import models
from listing import pages, sqlite_planner
from storage import engine

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "20"))
# The fixtures are one test's: each example begins with its own catalogue, or asks the same one. A busy machine is slow.
IGNORED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
searching = settings(
    max_examples=EXAMPLES, deadline=None, database=None, print_blob=True, suppress_health_check=IGNORED
)

LARGE, MOST_PAGES = 10_000, 6
# The planner's thresholds must not change an answer: as they are, and such that sorted filters, filters that rarely
# match together, and scans occur among few images. The last one limits counts.
CHOSEN = (*((sqlite_planner, name) for name in ("FEW", "SORTED", "SELDOM", "LOOKED_AHEAD")), (pages, "MOST_COUNTED"))
CHOICES = [tuple(getattr(module, name) for module, name in CHOSEN), (2, 100_000, 301, 3, 3), (2, 3, 301, 0, 1)]
CHOICES += [(0, 1, 301, 20, 100), (0, 1, 0, 3000, 10_000), (0, 1, 301, 1, 9)]
SORT_KEYS = ("id", "name", "status", "disk_format", "container_format", "size", "created_at", "updated_at")
STATUSES = ("active", "queued", "saving", "killed", "pending_delete", "deleted", "deactivated")
FORMATS = [("qcow2", "bare"), ("raw", "bare"), ("raw", "ovf"), ("ami", "ami"), (None, "bare"), ("iso", None)]
FORMATS += [("ari", None), (None, None)]
TEXTS = ["", "a", "A", "b", "a ", " a", "10", "9", "1e3", "0x10", "null", "NULL", "%", "_", "a%", "*", "in:a,b", "a:b"]
TEXTS += ["'", '"', "\\", "a&b=c+d", "\n", "a\nb", "\t", "\x01", "\x7f", "\u2028", "\ufeff", "ä", "a\u0308", "ß", "SS"]
TEXTS += ["\uffee", "\U0001f427", "\U0010ffff", "İ", "ﬁ", "x" * 255, "\U0001f427" * 255]
TEXTS += ["Debian 12", "debian-12.5_amd64", "Café Ångström", "cafe\u0301 2", "名前 123", "ＤＥＢＩＡＮ", "\u1fb3"]
TEXTS += ["0000 cafe", "NOT x* OR (y", "שלום", "हिन्दी"]
NAMES = [None, None, *TEXTS]
BEGINNING = "x" * 64
LONG_TEXTS = [
    BEGINNING,
    f"{BEGINNING}a",
    f"{BEGINNING}b",
    f"{BEGINNING}{'b' * 5000}",
    BEGINNING[1:],
    "é" * 64,
    "é" * 65,
]
LONG_TEXTS += ["\U0001f427" * 63, "\U0001f427" * 64, "\U0001f427" * 65]
LONG_TEXTS += [f"{'a b ' * 1020}cafe linux", f"{'w' * 4090} 12 debian"]
PROPERTY_NAMES = ["os", "OS", "os ", "name", "property-os", "a=b", "\U0001f427", "1", "x" * 255]
PROPERTY_VALUES = [None, "", "linux", "Linux", "1", "1.0", "01", "true", "null", "\U0001f427", *LONG_TEXTS]
SIZES = [None, None, 0, 1, 9, 10, 10, 2**31, 2**53, 2**53 + 1, 2**63 - 1]
SMALL_NUMBERS = [0, 0, 1, 512, 2**31 - 1]
CHECKSUMS = [None, "", "c" * 32, "C" * 32, "0" * 32, "12"]
OWNERS = [None, "owner", "owner", "member", "stranger", "another"]
MEMBERS = ("owner", "member", "sharer", "another")
MOMENTS = ["2026-11-24T04:08:17.000000", "2026-11-24T04:08:17.000001", "2026-11-24T00:00:00.000000"]
MOMENTS += ["1970-01-01T00:00:00.000000", "1999-12-31T23:59:59.999999", "9998-12-31T23:59:59.999999"]
VISIBILITIES = ("public", "public", "public", "shared", "private", "community")
URLS = ("file:///a", "swift+https://user:key@host/\U0001f427")
ASKERS = (*CALLERS, "admin", "admin", "admin@owner", "admin@member")
WORDS = {True: ("true", "True", "1", "yes"), False: ("false", "FALSE", "0", "no")}
LOCATION = {"metadata": {}, "status": "active"}

texts = st.sampled_from(TEXTS) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
property_names = st.sampled_from(PROPERTY_NAMES)
locations = st.fixed_dictionaries(
    {
        "url": st.sampled_from(URLS),
        "metadata": st.sampled_from([{}, {"a": "\U0001f427", "b": "\n"}]),
        "status": st.sampled_from(["active", "pending_delete", "deleted"]),
    }
)
FIELDS = {
    "name": st.sampled_from(NAMES) | texts,
    "status": st.sampled_from(["active", "active", "killed", "killed", *STATUSES]),
    "size": st.sampled_from(SIZES),
    "virtual_size": st.sampled_from(SIZES),
    "checksum": st.sampled_from(CHECKSUMS),
    "min_disk": st.sampled_from(SMALL_NUMBERS),
    "min_ram": st.sampled_from(SMALL_NUMBERS),
    "owner": st.sampled_from(OWNERS),
    "protected": st.booleans(),
    "created_at": st.sampled_from(MOMENTS),
    "updated_at": st.sampled_from(MOMENTS),
    "properties": st.dictionaries(property_names, st.sampled_from(PROPERTY_VALUES) | texts, max_size=4),
    "location_data": st.lists(locations, max_size=2),
}


class Question(NamedTuple):
    path: str
    query: dict[str, str]
    caller: str


@st.composite
def images(draw):
    """Draw a record in the format of exports."""
    record = {"id": f"{draw(st.integers(0, 255)):08x}-0000-4000-8000-000000000000"}
    record |= {name: draw(values) for name, values in FIELDS.items()}
    members = {name: draw(st.booleans()) for name in draw(st.sets(st.sampled_from(MEMBERS), max_size=2))}
    return completed(
        record,
        draw(st.sampled_from(FORMATS)),
        draw(st.sampled_from(VISIBILITIES)),
        draw(st.sampled_from((False, False, False, True))),
        members,
    )


def completed(record, formats, visibility, deleted, members):
    entries = [{"member_id": name, "can_share": can_share} for name, can_share in sorted(members.items())]
    return {
        **record,
        **dict(zip(("disk_format", "container_format"), formats, strict=True)),
        "visibility": visibility,
        "is_public": visibility == "public",
        "members": entries,
        "deleted": deleted,
        "deleted_at": record["updated_at"] if deleted else None,
    }


catalogues = st.lists(images(), max_size=14, unique_by=lambda record: record["id"])
FILTERS = ("name", "status", "disk_format", "container_format", "checksum", "owner", "min_ram", "min_disk")
FILTERS += ("protected", "size_min", "size_max", "changes-since", "is_public", "deleted", "property", "other property")
FILTERS += ("q", "q")
TOGETHER = [
    ("status",),
    ("status", "owner"),
    ("deleted", "changes-since"),
    ("deleted", "status"),
    ("size_max", "name"),
    ("size_min", "size_max", "owner"),
    ("q",),
    ("q", "deleted"),
    ("q", "is_public", "status"),
]
# What a search does not look at, and the language of FTS5.
BESIDE_WORDS = (
    "{}",
    " {}",
    "{}*",
    '"{}"',
    "-{}",
    "({})",
    "NOT {}",
    "{} OR x",
    "^{}",
    "text:{}",
    "NEAR({})",
    "{}\u0301",
)


@st.composite
def questions(draw, records, limits):
    """Draw a question; most filters match one of the records, or nearly."""
    target = draw(st.sampled_from(records)) if records else draw(images())
    query = {}
    alone = st.lists(st.sampled_from(FILTERS), max_size=4, unique=True)
    for name in draw(alone | st.sampled_from(TOGETHER)):
        query |= draw(filters(name, target))
    for name, values in (("sort_key", SORT_KEYS), ("sort_dir", ("asc", "desc")), ("limit", limits)):
        if name == "limit" or draw(st.booleans()):
            query[name] = str(draw(st.sampled_from(values)))
    if draw(st.booleans()):
        query["count"] = "true"
    if draw(st.sampled_from((False, False, True))):
        query["marker"] = draw(markers(records))
    path = draw(st.sampled_from(("/images", "/images/detail", "/")))
    return Question(path, query, draw(st.sampled_from(ASKERS)))


def filters(name, target):
    """Return a strategy of {parameter: text}."""
    if name in ("property", "other property"):
        pairs = [(key, value) for key, value in target["properties"].items() if value is not None] or [("os", "linux")]
        return st.sampled_from(pairs).flatmap(lambda pair: named(f"property-{pair[0]}", near_text(pair[1])))
    if name in ("min_ram", "min_disk", "size_min", "size_max"):
        return named(name, near_number(target[name.removesuffix("_min").removesuffix("_max")] or 0))
    if name == "changes-since":
        return named(name, near_moment(target["updated_at"]))
    if name == "q":
        return named(name, searches(target))
    if name == "is_public":
        return named(name, st.sampled_from([*WORDS[True], *WORDS[False], "none", "None"]))
    if name in ("protected", "deleted"):
        return named(name, st.sampled_from(WORDS[target[name]] * 2 + WORDS[not target[name]]))
    return named(name, near_text(target[name]))


def named(name, values):
    return values.map(lambda text: {name: text})


def near_text(text):
    text = "" if text is None else text
    beside = (text.swapcase(), f"{text}x", text[:-1], f"{text} ", f"{text[:64]}b", f"{text}%")
    same = st.just(text)
    return st.one_of(same, same, same, same, st.sampled_from(beside), texts)


def searches(target):
    """Return a strategy of prefixes of the image's words or id, and of near misses."""
    words = list_model.words(
        " ".join([target["name"] or "x", *(value or "" for value in target["properties"].values())])
    )
    whole = st.sampled_from(words or ["x"])
    word = st.one_of(whole, whole, st.tuples(whole, st.integers(1, 9)).map(lambda pair: pair[0][: pair[1]]), texts)
    spelled = st.tuples(st.sampled_from(BESIDE_WORDS), word).map(lambda pair: pair[0].format(pair[1][:300]))
    several = st.lists(word.map(lambda text: text[:300]), min_size=1, max_size=3).map(" ".join)
    ids = st.integers(3, 37).map(lambda length: f"{target['id']}0"[:length])
    bare = st.integers(3, 33).map(lambda length: f"{target['id'].replace('-', '')}0"[:length])
    chosen = st.one_of(several, several, spelled, ids, ids.map(str.upper), ids.map(lambda text: f" {text} "), bare)
    return chosen.filter(lambda text: len({*list_model.words(text)}) <= 16)


def near_number(number):
    numbers = [number] * 5 + [max(number - 1, 0), min(number + 1, 2**63 - 1)]
    return st.sampled_from([*map(str, numbers), f"00{number}", "0", str(2**63 - 1)])


def near_moment(text):
    moment = datetime.fromisoformat(text)
    day = timedelta(days=1)
    before = moment - timedelta(microseconds=1) if moment.year > 1970 else moment
    written = [text, before.isoformat(), f"{text}Z", f"{text[:10]}", text[:10].replace("-", ""), *MOMENTS]
    if 1970 < moment.year < 9998:
        written += [f"{(moment + day / 4).isoformat()}+06:00", f"{(moment - day / 4).isoformat()}-0600"]
    return st.sampled_from(written)


def markers(records):
    ids = [record["id"] for record in records] or ["000000ff-0000-4000-8000-000000000000"]
    spelled = st.sampled_from(ids).flatmap(
        lambda text: st.sampled_from((text, text, text.upper(), text.replace("-", "")))
    )
    return spelled | st.just("71c675ab-d94f-49cd-a114-e12490b328d9")


LIMITS = (1, 1, 2, 2, 3, 1000, 1000, 9999, 0)
cases = catalogues.flatmap(
    lambda records: st.tuples(st.just(records), st.lists(questions(records, LIMITS), min_size=1, max_size=8))
)


@lru_cache
def large_catalogue():
    """Return a reproducible catalogue of common and unique values, with many ties."""
    chance = random.Random(4)
    return [large_record(chance, number) for number in range(LARGE)]


def large_record(chance, number):
    created = datetime(2020, 1, 1) + timedelta(seconds=chance.choice((number, number // 100 * 100)))
    updated = created + timedelta(days=chance.choice((0, 0, 0, 1, 400)), microseconds=chance.choice((0, 0, 1)))
    record = {
        "id": f"{chance.getrandbits(32):08x}-{number:04x}-4000-8000-000000000000",
        "name": chance.choice((None, "debian", "debian", f"image {chance.randrange(2000)}", chance.choice(TEXTS))),
        "status": chance.choice(("active",) * 9 + ("killed",) * 3 + STATUSES),
        "size": chance.choice((*SIZES, 10**9, 10**9, chance.randrange(10**11))),
        "virtual_size": None,
        "checksum": chance.choice((None, f"{chance.randrange(3000):032x}", *CHECKSUMS[1:3])),
        "min_disk": chance.choice((0, 0, 0, 1, 10, chance.randrange(5000))),
        "min_ram": chance.choice((0, 0, 0, 0, 512, chance.randrange(5000))),
        "owner": chance.choice((*OWNERS, *["another"] * 8, f"tenant {chance.randrange(3000)}")),
        "protected": chance.random() < 0.02,
        "created_at": created.isoformat(timespec="microseconds"),
        "updated_at": updated.isoformat(timespec="microseconds"),
        "properties": large_properties(chance),
        "location_data": [{**LOCATION, "url": "file:///a"}] if chance.random() < 0.5 else [],
    }
    members = {name: chance.random() < 0.5 for name in MEMBERS if chance.random() < 0.05}
    return completed(record, chance.choice(FORMATS), chance.choice(VISIBILITIES), chance.random() < 0.1, members)


def large_properties(chance):
    """Return properties: long values with a common prefix, rare values, a rare name."""
    properties = {"os": chance.choice(PROPERTY_VALUES[:4]), "long": chance.choice(LONG_TEXTS)}
    properties["build"] = str(chance.randrange(2500))
    return properties | ({chance.choice(PROPERTY_NAMES): "linux"} if chance.random() < 0.02 else {})


large_questions = st.deferred(lambda: questions(large_catalogue(), (25, 25, 1, 333, 333, 1000, 1000, 0)))


@pytest.fixture
def registry(make_client, tmp_path):
    """Return an empty Registry."""
    options = {"auth__flavor": "trusted-auth", "auth__allow_anonymous_access": "true", "api__strict_create": "false"}
    return Registry(make_client(**options).application, tmp_path / "records.ndjson")


class Registry:
    """Application under test, and the file that it imports."""

    def __init__(self, application, file):
        self.application = application
        self.file = file

    def hold(self, records):
        """Replace all images by these records."""
        with models.writing():
            models.database.connection().execute("DELETE FROM image")
        self.file.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
        result = self.application.test_cli_runner().invoke(args=["import", str(self.file)])
        assert result.exit_code == 0, result.output
        return self

    def forget_newest(self, number):
        """Remove the newest images from the search index, which lags behind."""
        with models.writing():
            engine.execute("UPDATE indexed SET up_to = (SELECT coalesce(max(pk), 0) - ? FROM image)", (number,))
            beyond = "FROM words WHERE image_id > (SELECT up_to FROM indexed)"
            engine.execute(f"INSERT INTO search(search, rowid, text) SELECT 'delete', image_id, text {beyond}", ())
        return self

    def choose(self, monkeypatch, choice):
        """Set the planner's thresholds."""
        for (module, name), number in zip(CHOSEN, choice, strict=True):
            monkeypatch.setattr(module, name, number)
        sqlite_planner.count_cache.clear()

    def pages(self, question, most=1000):
        """Return (pages along next links, whether one follows, their count headers).

        None for a refusal.
        """
        client, headers = self.application.test_client(), identity(question.caller)
        target, found, counts = f"{question.path}?{urlencode(question.query)}", [], set()
        while target and len(found) < most:
            response = client.get(target, headers=headers)
            if response.status_code == 400 and not found:
                assert list(response.json["errors"]) == ["marker"]
                return None
            assert response.status_code == 200, response.text
            found.append(response.json["images"])
            counts.add(tuple(pair for pair in response.headers if pair[0].startswith("X-Total-Count")))
            target = response.headers.get("Link", "").partition(">")[0].removeprefix("<")
        return found, bool(target), counts


def expected_pages(records, question, most=1000):
    try:
        pages = list_model.pages(records, question.query, question.caller)
    except list_model.UnknownMarker:
        return None
    shown = [[list_model.shown(record, question.path, question.caller) for record in page] for page in pages[:most]]
    return shown, len(pages) > most, {count_headers(records, question)}


def count_headers(records, question):
    if "count" not in question.query:
        return ()
    count = len(list_model.all_listed(records, question.query, question.caller))
    if count > pages.MOST_COUNTED:
        return (("X-Total-Count-At-Least", str(pages.MOST_COUNTED)),)
    return (("X-Total-Count", str(count)),)


@pytest.mark.exhaustive
@searching
@given(cases, st.sampled_from(CHOICES), st.sampled_from((0, 0, 1, 3, 14)))
def test_small_catalogues_are_listed_as_the_model_lists_them(registry, monkeypatch, case, choice, unindexed):
    records, asked = case
    registry.hold(records).forget_newest(unindexed).choose(monkeypatch, choice)

    for question in asked:
        assert registry.pages(question) == expected_pages(records, question), question


@pytest.fixture
def large_registry(registry):
    return registry.hold(large_catalogue()).forget_newest(200)


@pytest.mark.exhaustive
@searching
@given(large_questions, st.sampled_from(CHOICES))
def test_ten_thousand_images_are_listed_as_the_model_lists_them(large_registry, monkeypatch, question, choice):
    large_registry.choose(monkeypatch, choice)

    found = large_registry.pages(question, MOST_PAGES)

    assert found == expected_pages(large_catalogue(), question, MOST_PAGES)


@pytest.mark.exhaustive
def test_a_walk_through_ten_thousand_images_ends_where_the_model_ends(large_registry):
    questions = [
        Question("/images", {"sort_key": sort_key, "sort_dir": sort_dir, "limit": "997"}, caller)
        for sort_key in SORT_KEYS
        for sort_dir in ("asc", "desc")
        for caller in ("admin", "member")
    ]

    found = [large_registry.pages(question) for question in questions]

    assert found == [expected_pages(large_catalogue(), question) for question in questions]


def test_every_state_and_visibility_scope_is_listed_as_the_model_lists_it(registry):
    records = large_catalogue()[:300]
    registry.hold(records)
    choices = {"status": (None, *STATUSES), "deleted": (None, "true", "false"), "changes-since": (None, "2020-06-01")}
    choices["is_public"] = (None, "true", "false", "none")
    chosen = [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]
    queries = [{name: text for name, text in query.items() if text is not None} for query in chosen]

    for query, caller in product(queries, ("admin", "admin@owner", "member", "anonymous")):
        question = Question("/images", query, caller)
        assert registry.pages(question) == expected_pages(records, question), question
