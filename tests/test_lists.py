"""Lists: visibility and filters."""

from urllib.parse import urlencode

import pytest
from conftest import CALLERS

import models
from listing import sqlite_planner

BRIEF_KEYS = {"id", "name", "size", "disk_format", "container_format", "checksum"}
FULL_KEYS = BRIEF_KEYS | {"status", "virtual_size", "min_disk", "min_ram", "owner", "is_public", "protected"}
FULL_KEYS |= {"location", "location_data", "properties", "created_at", "updated_at", "deleted", "deleted_at"}
OTHERS = [caller for caller in CALLERS if caller != "admin"]
LONG_AGO = "changes-since=2000-01-01"
LARGEST = 2**63 - 1

# Texts that would match more, or other, were they patterns, operators or SQL.
LITERALS = ["cirros", "Cirros", "CIRROS", "cirro_", "cirros ", "cirros%", "%", "%%", "_", "_irros", "*", "cirr*"]
LITERALS += ["?", "in:cirros,Cirros", "neq:cirros", "a:b", "gt:5", '"cirros"', "'cirros'", "' OR '1'='1", "\\"]
LITERALS += ["", "5", "05", "5.0", "null", "None", "true", "a&b=c;d+e", "[c]irros", "línea", "li\u0301nea", "🐧"]
# Filters over FILTERED: what they choose.
FILTERS = [("name=medium", "medium"), ("status=saving", "medium"), ("status=active", "large small unsized")]
FILTERS += [("container_format=ovf", "large"), ("disk_format=raw", "large medium"), ("owner=acme", "empty small")]
FILTERS += [("size_min=1000", "large medium"), ("size_min=1001", "large"), ("size_min=0", "empty large medium small")]
FILTERS += [("size_max=1000", "empty medium small"), ("size_max=999", "empty small"), ("size_max=0", "empty")]
FILTERS += [(f"size_min={LARGEST}", "large"), (f"size_max={LARGEST}", "empty large medium small")]
FILTERS += [("size_min=1&size_max=1000", "medium small"), ("size_min=0001000&size_max=01000", "medium")]
FILTERS += [("min_ram=512", "medium small"), ("min_ram=0", "empty"), (f"min_ram={2**31 - 1}", "unsized")]
FILTERS += [("min_disk=10", "large medium"), ("min_disk=0", "empty small"), ("checksum=5d41402abc4b", "unsized")]
FILTERS += [("min_ram=512&min_disk=10", "medium"), ("protected=yes&size_min=1&owner=acme", "small")]
UNMATCHED = ["status=nonsense", "status=ACTIVE", "status=", "container_format=docker", "disk_format=RAW", "owner=ACME"]
UNMATCHED += ["disk_format=", "checksum=5D41402ABC4B", f"checksum={'a' * 300}", "min_ram=511", "min_disk=9"]
UNMATCHED += ["size_min=1000&size_max=1", "disk_format=raw&owner=acme"]
UNMATCHED += [f"min_ram={LARGEST}", f"min_disk={LARGEST}"]
PROPERTY_FILTERS = [("property-arch=x86", "one two"), ("property-arch=x86&property-os=linux", "one")]
PROPERTY_FILTERS += [("property-arch=x86&property-os=linux&property-none=x", ""), ("property-arch=linux", "")]
PROPERTY_FILTERS += [("property-arch=x86&name=two", "two"), ("property-ARCH=x86", "three"), ("property-=x86", "")]
PROPERTY_FILTERS += [("property-cores=4", "two"), ("property-cores=4.0", ""), ("property-ratio=22.5", "two")]
PROPERTY_FILTERS += [("property-fast=true", "two"), ("property-fast=True", ""), ("property-name=two", "three")]
PROPERTY_FILTERS += [("property-note=", "two"), ("property-note=null", ""), ("property-note=None", "")]
PROPERTY_FILTERS += [("property-gr%C3%B6%C3%9Fe=%E6%97%A5%E6%9C%AC+%F0%9F%90%A7", "three")]
# Names of properties that a query must escape, or that other parameters have.
ODD_NAMES = ["a.b", "a b", " ", "a=b", "a&b", "a;b", "a+b", "%", "%41", "_", "'", '"', "`", "\\", "?", "#", "/", "-"]
ODD_NAMES += ["property-", "limit", "is_public", "changes-since", "ключ", "🐧", "\n", "\x7f", "n" * 255]
UNKNOWN = ["colour=red", "colour=red&colour=blue", "colour=%FF", "%FF=%FF", "visibility=private", "size=5", "=x", "&&"]
UNKNOWN += ["virtual_size=5", "id=x", "Name=x", "property=x", "Property-a=x", "min-ram=x", "member_status=x"]

# Parameters with two values each.
REPEATED = [("name", "one", "two"), ("status", "active", "killed"), ("size_min", "1", "2"), ("property-é", "1", "2")]
REPEATED += [("protected", "false", "true"), ("is_public", "true", "none"), ("deleted", "false", "true")]
REPEATED += [("sort_key", "name", "id"), ("sort_dir", "asc", "desc"), ("limit", "1", "2")]
REPEATED += [("changes-since", "2000-01-01", "2001-01-01")]

INTEGER = f"Must be an integer from 0 to {LARGEST}."
WORDS = "Must be a boolean, or one of the words true, false, 1, 0, yes, no in any case."
WORDS_OR_NONE = "Must be a boolean, or one of the words true, false, 1, 0, yes, no, none in any case."
MOMENT = "Must be an ISO 8601 date or time of the years 1970 to 9998."
UNREADABLE = "Must be UTF-8, without NUL."
CONTRADICTORY = "Must not be given twice with different values."

NO_INTEGERS = ["", "-1", "+1", " 1", "1 ", "1.5", "1.0", "1e3", "0x10", "1_000", "٣", "x", "true", "null", "lt:5"]
NO_INTEGERS += [str(LARGEST + 1), "9" * 100, "9" * 5000]
NO_FLAGS = ["", "2", "maybe", "on", "t", " true", "null", "none!", "truefalse"]
NO_MOMENTS = ["", "yesterday", "0", "1700000000", "2026", "2026-11", "2026-13-01", "2026-02-30", "2026-11-24T25:00"]
NO_MOMENTS += ["2026-11-24T", "2026-11-24T04:08:17 UTC", "24.11.2026", "gt:2026-11-24", "٢٠٢٦-11-24", "-2026-11-24"]
NO_MOMENTS += ["0000-01-01", "0001-01-01", "0001-01-01T00:00:00+14:00", "10000-01-01", "99999999999999999999-01-01"]
NO_MOMENTS += ["9999-12-31T23:59:59-14:00", "2026-11-24T04:08:17+25:00", "2026-11-24T04:08:17+99:99"]


def names(client, query="", path="/images"):
    """Return the sorted names of a list; ``query`` is a query string or a dict."""
    response = client.get(path, query_string=query)
    assert response.status_code == 200, response.text
    return sorted(image["name"] for image in response.json["images"])


def refusal(client, query, path="/images"):
    """Return the ``errors`` of a refused list."""
    response = client.get(path, query_string=query)
    assert (response.status_code, response.mimetype) == (400, "application/problem+json"), response.text
    assert "images" not in response.json
    return response.json["errors"]


@pytest.mark.parametrize("path", ["/images", "/", "/images/detail"])
def test_an_empty_registry_lists_nothing(client, path):
    response = client.get(path)

    assert (response.status_code, response.json) == (200, {"images": []})
    assert response.mimetype == "application/json"


@pytest.mark.parametrize("path", ["/images", "/"])
def test_a_brief_list_has_exactly_six_fields_of_each_image(client, make_image, path):
    checksum = "d41d8cd98f00b204e9800998ecf8427e"
    full = make_image(name="full", is_public=True, size=LARGEST, checksum=checksum, min_ram=4, properties={"a": "b"})
    bare = make_image(name=None, is_public=True, disk_format="ami", container_format="ami")

    response = client.get(path, query_string="sort_dir=asc")

    brief = {"id": full["id"], "name": "full", "size": LARGEST, "checksum": checksum}
    assert response.json["images"] == [
        {**brief, "disk_format": "qcow2", "container_format": "bare"},
        {**dict.fromkeys(BRIEF_KEYS), "id": bare["id"], "disk_format": "ami", "container_format": "ami"},
    ]


def test_a_detailed_list_has_the_full_record_of_each_image(client, make_image):
    locations = [{"url": "file:///a", "metadata": {"b": [1]}, "status": "active"}]
    make_image(name="first", is_public=True, properties={"b": "1", "a": None}, location_data=locations)
    make_image(name="second", is_public=True)
    make_image(name="third", is_public=True, properties={"c": "ü"}, location="https://example.org/third")

    images = client.get("/images/detail").json["images"]

    assert [image["name"] for image in images] == ["third", "second", "first"]
    assert all(set(image) == FULL_KEYS for image in images)
    assert images == [client.get(f"/images/{image['id']}").json["image"] for image in images]


@pytest.mark.parametrize(
    ("caller", "seen"),
    [
        ("anonymous", ["public", "shared public"]),
        ("tenantless", ["public", "shared public"]),
        ("stranger", ["public", "shared public"]),
        ("member", ["private", "public", "shared public"]),
        ("sharer", ["private", "public", "shared public"]),
        ("owner", ["private", "public", "shared public"]),
        ("OWNER", ["public", "shared public"]),
        ("admin", ["public", "shared public"]),
        ("admin@acme", ["acme's", "public", "shared public"]),
        ("admin@member", ["private", "public", "shared public"]),
    ],
)
def test_a_list_holds_public_images_and_the_callers_own_and_those_shared_with_it(client_as, make_image, caller, seen):
    members = {"member": False, "sharer": True}
    make_image(name="public", owner="owner", is_public=True)
    make_image(name="private", owner="owner", members=members)
    make_image(name="shared public", owner="owner", is_public=True, members=members)
    make_image(name="acme's", owner="acme")
    make_image(name="nobody's", owner=None)
    make_image(name="gone", owner="owner", is_public=True, members=members, is_deleted=True)
    make_image(name="failed", owner="owner", is_public=True, members=members, status="killed")

    listed = [names(client_as(caller), path=path) for path in ("/", "/images", "/images/detail")]

    assert listed == [seen, seen, seen]


@pytest.mark.parametrize("query", ["owner=owner", "name=private", "size_min=0", "protected=false", LONG_AGO])
def test_no_filter_shows_an_inaccessible_image(client_as, make_image, query):
    make_image(name="private", owner="owner", size=5)

    listed = {caller: names(client_as(caller), query) for caller in ("anonymous", "tenantless", "stranger", "owner")}

    assert listed == {"anonymous": [], "tenantless": [], "stranger": [], "owner": ["private"]}


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["true", "TRUE", "1", "yes"], ["acme's public", "public"]),
        (["false", "False", "0", "no"], ["acme's", "nobody's", "shared"]),
        (["none", "None", "NONE"], ["acme's", "acme's public", "nobody's", "public", "shared"]),
    ],
)
@pytest.mark.parametrize("admin", ["admin", "admin@acme"])
def test_an_admin_may_ask_for_public_images_for_the_others_or_for_all(client_as, make_image, admin, words, seen):
    make_image(name="public", is_public=True, owner="owner")
    make_image(name="acme's public", is_public=True, owner="acme")
    make_image(name="acme's", owner="acme")
    make_image(name="nobody's", owner=None)
    make_image(name="shared", owner="owner", members={"acme": False})
    make_image(name="gone", owner="owner", is_deleted=True)

    listed = {word: names(client_as(admin), f"is_public={word}") for word in words}

    assert listed == dict.fromkeys(words, seen)


@pytest.mark.sampled
@pytest.mark.parametrize("parameter", ["is_public", "deleted"])
@pytest.mark.parametrize("caller", OTHERS)
def test_is_public_and_deleted_are_ignored_from_anybody_but_admins(client_as, make_image, caller, parameter):
    make_image(name="public", owner="stranger", is_public=True)
    make_image(name="private", owner="owner", members={"member": False, "sharer": True})
    make_image(name="gone", owner=caller, is_public=True, is_deleted=True)
    given = ["true", "false", "none", "", "maybe", "%FF", "%00", f"true&{parameter}=false"]
    client = client_as(caller)

    listed = {text: names(client, f"{parameter}={text}") for text in given}

    assert listed == dict.fromkeys(given, names(client))


STATES = {"active": {}, "killed": {"status": "killed"}}
STATES |= {"gone": {"is_deleted": True}, "killed and gone": {"status": "killed", "is_deleted": True}}


@pytest.mark.parametrize(
    ("query", "seen", "seen_since"),
    [
        ("", ["active"], ["active", "gone", "killed", "killed and gone"]),
        ("status=active", ["active"], ["active", "gone"]),
        ("status=killed", ["killed"], ["killed", "killed and gone"]),
        ("deleted=true", ["gone", "killed and gone"], ["gone", "killed and gone"]),
        ("deleted=true&status=active", ["gone"], ["gone"]),
        ("deleted=true&status=killed", ["killed and gone"], ["killed and gone"]),
        ("deleted=false", ["active"], ["active"]),
        ("deleted=false&status=active", ["active"], ["active"]),
        ("deleted=false&status=killed", [], []),
    ],
)
def test_admins_see_killed_and_deleted_images_where_they_ask(client_as, make_image, query, seen, seen_since):
    for name, state in STATES.items():
        make_image(name=name, owner="owner", **state)

    listed = [names(client_as("admin"), f"is_public=none&{more}&{query}") for more in ("", LONG_AGO)]

    assert listed == [seen, seen_since]


@pytest.mark.sampled
@pytest.mark.parametrize("deleted", ["", "&deleted=true", "&deleted=false"])
@pytest.mark.parametrize("caller", ["anonymous", "stranger", "owner"])
def test_others_see_killed_images_where_they_ask_and_deleted_ones_never(client_as, make_image, caller, deleted):
    for name, state in STATES.items():
        make_image(name=name, owner="owner", is_public=True, **state)
    client = client_as(caller)

    expected = {"": ["active"], "status=active": ["active"], "status=killed": ["killed"]}
    expected |= {LONG_AGO: ["active", "killed"], f"{LONG_AGO}&status=active": ["active"]}
    expected |= {f"{LONG_AGO}&status=killed": ["killed"]}

    listed = {query: names(client, query + deleted) for query in expected}

    assert listed == expected


@pytest.mark.parametrize("parameter", ["name", "owner", "checksum", "property-note"])
def test_texts_are_compared_literally_and_case_sensitively_and_no_text_equals_null(client, make_image, parameter):
    for value in LITERALS:
        texts = {"owner": value, "checksum": value, "properties": {"note": value}}
        make_image(name=value, is_public=True, **texts)
    make_image(name=None, is_public=True, properties={"note": None, "other": "cirros"})

    found = {value: names(client, {parameter: value}) for value in LITERALS}

    # An empty owner is stored as none, and none equals no text.
    expected = {value: [] if (parameter, value) == ("owner", "") else [value] for value in LITERALS}
    assert found == expected


FILTERED = {
    "small": {"size": 1, "min_ram": 512, "min_disk": 0, "owner": "acme", "protected": True},
    "medium": {"size": 1000, "min_ram": 512, "min_disk": 10, "disk_format": "raw", "status": "saving"},
    "large": {"size": LARGEST, "min_ram": 1024, "min_disk": 10, "disk_format": "raw", "container_format": "ovf"},
    "empty": {"size": 0, "disk_format": "ami", "container_format": "ami", "status": "queued", "owner": "acme"},
    "unsized": {"size": None, "min_ram": 2**31 - 1, "min_disk": 2**31 - 1, "checksum": "5d41402abc4b"},
}


@pytest.mark.parametrize(("query", "seen"), FILTERS)
def test_filters_choose_the_images_that_fit_all_of_them(client, make_image, query, seen):
    for name, fields in FILTERED.items():
        make_image(name=name, is_public=True, **fields)

    listed = [names(client, query, path) for path in ("/images", "/images/detail")]

    assert listed == [seen.split(), seen.split()]


@pytest.mark.parametrize("query", UNMATCHED)
def test_a_value_that_no_image_has_matches_nothing(client, make_image, query):
    for name, fields in FILTERED.items():
        make_image(name=name, is_public=True, **fields)

    listed = names(client, query)

    assert listed == []


@pytest.mark.parametrize("parameter", ["protected", "deleted"])
def test_booleans_take_the_words_that_bodies_take(client, make_image, parameter):
    make_image(name="true", is_public=True, protected=parameter == "protected", is_deleted=parameter == "deleted")
    make_image(name="false", is_public=True)
    words = {"true": ["true", "True", "TRUE", "tRuE", "1", "yes", "Yes", "YES"]}
    words |= {"false": ["false", "False", "FALSE", "fAlSe", "0", "no", "No", "NO"]}

    listed = {seen: [names(client, {parameter: word}) for word in words[seen]] for seen in words}

    assert listed == {"true": [["true"]] * 8, "false": [["false"]] * 8}


@pytest.mark.parametrize(("query", "seen"), PROPERTY_FILTERS)
def test_property_filters_choose_by_name_and_text_of_properties(client, make_image, query, seen):
    make_image(name="one", is_public=True, properties={"arch": "x86", "os": "linux", "note": None})
    two = {"arch": "x86", "os": "Linux", "cores": 4, "ratio": 22.5, "fast": True, "note": ""}
    make_image(name="two", is_public=True, properties=two)
    make_image(name="three", is_public=True, properties={"ARCH": "x86", "name": "two", "größe": "日本 🐧"})

    listed = names(client, query)

    assert listed == seen.split()


def test_a_property_may_have_any_name(client, make_image):
    for name in ODD_NAMES:
        make_image(name=name, is_public=True, properties={name: "v"})

    found = {name: names(client, {f"property-{name}": "v"}) for name in ODD_NAMES}

    assert found == {name: [name] for name in ODD_NAMES}


def test_hundreds_of_property_filters_all_hold(client, make_image):
    properties = {f"p{number}": str(number) for number in range(480)}
    make_image(name="fits", is_public=True, properties=properties)
    make_image(name="lacks one", is_public=True, properties={**properties, "p479": None})
    query = {f"property-{name}": value for name, value in properties.items()}

    listed = [names(client, query), names(client, {**query, "property-p300": "301"})]

    assert listed == [["fits"], []]


@pytest.mark.sampled
@pytest.mark.parametrize("path", ["/images", "/", "/images/detail"])
@pytest.mark.parametrize(
    ("parameter", "values", "message"),
    [
        ("size_min", NO_INTEGERS, INTEGER),
        ("size_max", NO_INTEGERS, INTEGER),
        ("min_ram", NO_INTEGERS, INTEGER),
        ("min_disk", NO_INTEGERS, INTEGER),
        ("protected", [*NO_FLAGS, "none"], WORDS),
        ("deleted", [*NO_FLAGS, "none"], WORDS),
        ("is_public", NO_FLAGS, WORDS_OR_NONE),
        ("changes-since", NO_MOMENTS, MOMENT),
    ],
)
def test_a_filter_that_does_not_parse_is_refused_by_name(client, path, parameter, values, message):
    errors = {value: refusal(client, {parameter: value, "name": "x"}, path) for value in values}

    assert errors == {value: {parameter: [message]} for value in values}


def test_all_refused_filters_are_named_at_once(client):
    errors = refusal(client, "size_min=x&protected=maybe&changes-since=never&min_ram=1")

    assert errors == {"size_min": [INTEGER], "protected": [WORDS], "changes-since": [MOMENT]}


@pytest.mark.parametrize("garbage", ["%FF", "a%C3", "%C0%80", "%ED%A0%80", "%F5%80%80%80"])
def test_bytes_that_are_not_utf8_are_refused(client, garbage):
    readable = ["name", "status", "disk_format", "owner", "checksum", "property-a", "limit", "size_min", "deleted"]

    errors = {parameter: refusal(client, f"{parameter}={garbage}") for parameter in readable}
    errors_of_a_name = refusal(client, f"property-{garbage}=a")

    assert errors == {parameter: {parameter: [UNREADABLE]} for parameter in readable}
    assert errors_of_a_name == {"property-": [UNREADABLE]}


@pytest.mark.parametrize("query", UNKNOWN)
def test_other_parameters_are_ignored(client, make_image, query):
    make_image(name="cirros", is_public=True)

    listed = names(client, query)

    assert listed == ["cirros"]


@pytest.mark.parametrize(("parameter", "value", "other"), REPEATED)
def test_a_parameter_given_twice_must_have_one_value(client, make_image, parameter, value, other):
    make_image(name="one", is_public=True, size=5, properties={"é": "1"})

    listed = names(client, urlencode([(parameter, value), (parameter, value)]))
    errors = refusal(client, urlencode([(parameter, value), (parameter, other), (parameter, value)]))

    assert listed == ["one"]
    assert errors == {parameter: [CONTRADICTORY]}


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2026-11-24T04:08:17.767931", "2026-11-24T04:08:17.767932"),
        ("2026-11-24T04:08:17.767931Z", "2026-11-24T04:08:17.767932Z"),
        ("2026-11-24T04:08:17", "2026-11-24T04:08:18"),
        ("2026-11-24T04:08Z", "2026-11-24T04:09Z"),
        ("20261124T040817Z", "20261124T040818Z"),
        ("2026-11-24", "2026-11-25"),
        ("20261124", "20261125"),
        ("2026-11-24T06:08:17.767931%2B02:00", "2026-11-24T06:08:17.767932%2B02:00"),
        ("2026-11-24T06:08:17.767931+02:00", "2026-11-24T06:08:17.767932+02:00"),
        ("2026-11-24T06:08:17+02:00", "2026-11-24T06:08:18+02:00"),
        ("2026-11-24T06:08+02:00", "2026-11-24T06:09+02:00"),
        ("2026-11-24T06:08:17+02", "2026-11-24T06:08:18+02"),
        ("20261124T060817+0200", "20261124T060818+0200"),
        ("2026-11-23T18:38:17-09:30", "2026-11-23T18:38:18-09:30"),
        ("2026-11-25T04:07:17%2B23:59", "2026-11-25T04:07:18%2B23:59"),
        ("1970-01-01T00:00:00Z", "9998-12-31T00:00:00Z"),
    ],
)
def test_changes_since_lists_what_changed_after_a_moment(client, make_image, earlier, later):
    make_image(name="changed", is_public=True, updated_at="2026-11-24T04:08:17.767932")

    listed = [names(client, f"changes-since={moment}") for moment in (earlier, later)]

    assert listed == [["changed"], []]


def test_a_change_moves_an_image_into_changes_since_and_for_admins_a_deletion_too(client_as, make_image):
    image = make_image(name="image", owner="owner", is_public=True, updated_at="2020-02-02T00:00:00")
    admin, owner = client_as("admin"), client_as("owner")

    def listed(moment):
        return [names(caller, {"changes-since": moment}) for caller in (admin, owner)]

    before = listed(image["updated_at"])
    changed = owner.put(f"/images/{image['id']}", json={"image": {"properties": {"a": "b"}}}).json["image"]
    changes = listed(image["updated_at"]), listed(changed["updated_at"])
    owner.delete(f"/images/{image['id']}")
    after_deletion = listed(changed["updated_at"])

    assert before == [[], []]
    assert changes == ([["image"], ["image"]], [[], []])
    assert after_deletion == [["image"], []]


@pytest.mark.sampled
@pytest.mark.parametrize("query", ["", "property-a=1&status=active&changes-since=2000-01-01"])
@pytest.mark.parametrize("path", ["/images", "/images/detail"])
@pytest.mark.parametrize("caller", ["admin", "owner"])
def test_a_list_takes_as_many_statements_for_thirty_images_as_for_three(client_as, make_image, caller, path, query):
    client = client_as(caller)

    def list_counting(number_of_images):
        for _ in range(number_of_images):
            details = {"properties": {"a": "1", "b": "2"}, "locations": ["file:///a", "file:///b"]}
            make_image(owner="owner", is_public=True, members={"member": False}, **details)
        statements = []
        sqlite_planner.count_cache.clear()
        models.database.connection().set_trace_callback(statements.append)
        response = client.get(path, query_string=query)
        models.database.connection().set_trace_callback(None)
        return len(response.json["images"]), len(statements)

    few, many = list_counting(3), list_counting(27)

    assert (few[0], many[0]) == (3, 30)
    assert few[1] == many[1] > 0


def test_more_property_filters_than_the_database_takes_are_refused(client):
    response = client.get("/images?" + "&".join(f"property-p{number}=" for number in range(501)))

    assert response.status_code == 400
    assert response.json["errors"] == {"property-": ["Must not be more than 500 filters."]}
