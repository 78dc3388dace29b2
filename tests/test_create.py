"""POST /images: what a new record may hold, what it holds by default, and what is refused."""

import json
import re
import sqlite3
import uuid
from contextlib import closing
from datetime import UTC, datetime

import pytest
from conftest import IMAGE

ID = "71c675ab-d94f-49cd-a114-e12490b328d9"
DISK_FORMATS = ("ari", "aki", "ami", "raw", "iso", "vhd", "vdi", "qcow2", "vmdk")
CONTAINER_FORMATS = ("ari", "aki", "ami", "bare", "ovf")
PAIRED = {"ari", "aki", "ami"}
MISSING = object()
DEFAULTS = {
    **dict.fromkeys(("name", "size", "virtual_size", "checksum", "owner", "location", "deleted_at")),
    **dict.fromkeys(("is_public", "protected", "deleted"), False),
    **dict.fromkeys(("min_disk", "min_ram"), 0),
    "location_data": [],
    "properties": {},
}
RECORD_FIELDS = {*DEFAULTS, "id", "status", "disk_format", "container_format", "created_at", "updated_at"}
NULLABLE = sorted({*DEFAULTS, "id", "created_at", "updated_at"} - {"location_data"})

# The place in the list, if it is one, and what stands there instead.
LOCATION_MESSAGE = re.compile(
    r"(\d+(\.(url|metadata|status))?: )?Must be (a URL with a scheme, of at most 4096 characters|a list of URLs"
    r"|a list of {url, metadata, status}|an object( {url, metadata, status})?"
    r"|one of active, pending_delete, deleted)(, or null)?\."
)
PAIR = "If either format is one of ari, aki, ami, both must be the same."
BOOLEAN = "Must be a boolean, or one of the words true, false, 1, 0, yes, no in any case."
MESSAGES = {
    "id": "Must be a uuid in hexadecimal notation, such as 71c675ab-d94f-49cd-a114-e12490b328d9.",
    "status": "Invalid image status: must be one of active, saving, queued, killed.",
    "disk_format": "Must be one of ari, aki, ami, raw, iso, vhd, vdi, qcow2, vmdk.",
    "container_format": "Must be one of ari, aki, ami, bare, ovf.",
    "checksum": "Must be text of up to 32 characters, without NUL and halves of surrogate pairs, or null.",
    "properties": "Must be an object of name → value, or a list of {name, value}.",
    **dict.fromkeys(
        ("name", "owner"), "Must be text of up to 255 characters, without NUL and halves of surrogate pairs, or null."
    ),
    **dict.fromkeys(("size", "virtual_size"), "Must be an integer from 0 to 9223372036854775807, or null."),
    **dict.fromkeys(("min_disk", "min_ram"), "Must be an integer from 0 to 2147483647."),
    **dict.fromkeys(("is_public", "protected"), BOOLEAN),
    **dict.fromkeys(("created_at", "updated_at"), "Must be an ISO 8601 date or time of the years 1970 to 9998."),
}


def create(client, **fields):
    image = {name: value for name, value in {**IMAGE, **fields}.items() if value is not MISSING}
    return client.post("/images", json={"image": image})


def rows(database_path, query):
    with closing(sqlite3.connect(database_path)) as connection:
        return connection.execute(query).fetchall()


def current_time():
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def assert_refused(response, database_path, errors):
    assert response.status_code == 400
    assert response.json["errors"] == errors
    assert rows(database_path, "SELECT count(*) FROM image") == [(0,)]


def test_a_new_image_is_answered_in_full_with_its_address_and_the_etag_that_get_gives(client):
    response = create(client)

    image = response.json["image"]
    shown = client.get(f"/images/{image['id']}")
    assert set(image) == RECORD_FIELDS
    assert response.headers["Location"] == f"/images/{image['id']}"
    assert response.headers["ETag"] == shown.headers["ETag"]
    assert not response.headers["ETag"].startswith("W/")
    assert shown.json == response.json


@pytest.mark.parametrize("nulls", [(), *([field] for field in NULLABLE), NULLABLE])
def test_what_is_missing_or_null_gets_its_default(client, nulls):
    response = create(client, **{"name": MISSING, **dict.fromkeys(nulls)})

    image = response.json["image"]
    assert {name: image[name] for name in DEFAULTS} == DEFAULTS
    assert uuid.UUID(image["id"]).version == 4
    assert image["created_at"] == image["updated_at"]


def test_the_record_stands_in_the_sqlite_file(client, database_path):
    given = {"id": ID, "size": 5, "virtual_size": 6, "min_disk": 7, "min_ram": 8, "checksum": "abc", "owner": "acme"}
    locations = [{"url": "file:///a", "metadata": {"a": 1}, "status": "active"}]

    create(client, **given, is_public=True, protected=True, properties={"arch": "x86"}, location_data=locations)

    columns = "id, size, virtual_size, min_disk, min_ram, checksum, owner, name, status, disk_format, container_format"
    image = (ID, 5, 6, 7, 8, "abc", "acme", "cirros", "active", "qcow2", "bare", "public", 1, 0, None)
    assert rows(database_path, f"SELECT {columns}, visibility, protected, deleted, deleted_at FROM image") == [image]
    assert rows(database_path, "SELECT name, value FROM property") == [("arch", "x86")]
    assert rows(database_path, "SELECT url, metadata, status FROM location") == [("file:///a", '{"a":1}', "active")]


@pytest.mark.sampled
@pytest.mark.parametrize("container_format", [*CONTAINER_FORMATS, "", None, MISSING])
@pytest.mark.parametrize("disk_format", DISK_FORMATS)
def test_formats_are_known_ones_and_amazons_come_in_pairs(client, database_path, disk_format, container_format):
    response = create(client, disk_format=disk_format, container_format=container_format)

    if container_format not in CONTAINER_FORMATS:
        assert_refused(response, database_path, {"container_format": [MESSAGES["container_format"]]})
    elif {disk_format, container_format} & PAIRED and disk_format != container_format:
        assert_refused(response, database_path, {"disk_format": [PAIR], "container_format": [PAIR]})
    else:
        image = response.json["image"]
        assert (image["disk_format"], image["container_format"]) == (disk_format, container_format)


def test_every_refused_field_is_named_in_one_answer(client, database_path):
    response = create(client, status=MISSING, disk_format="", container_format=None, size=-1)

    refused = ("status", "disk_format", "container_format", "size")
    assert_refused(response, database_path, {field: [MESSAGES[field]] for field in refused})


def test_configured_formats_are_accepted_and_named_in_refusals(make_client):
    client = make_client(api__disk_formats="raw,ami,ploop", api__container_formats="bare,ami,docker")

    accepted = create(client, disk_format="ploop", container_format="docker")
    refused = create(client, disk_format="qcow2", container_format="ovf")
    unpaired = create(client, disk_format="ami", container_format="docker")

    assert (accepted.status_code, accepted.json["image"]["disk_format"]) == (200, "ploop")
    assert refused.json["errors"]["disk_format"] == ["Must be one of raw, ami, ploop."]
    assert refused.json["errors"]["container_format"] == ["Must be one of bare, ami, docker."]
    assert unpaired.json["errors"] == {"disk_format": [PAIR], "container_format": [PAIR]}


@pytest.mark.parametrize("missing", [None, MISSING])
@pytest.mark.parametrize(
    ("field", "other", "value"),
    [
        *[("disk_format", "container_format", value) for value in (*CONTAINER_FORMATS, None)],
        *[("container_format", "disk_format", value) for value in DISK_FORMATS],
    ],
)
def test_relaxed_a_format_may_be_missing_or_null_and_then_pairs_with_any(make_client, field, other, value, missing):
    response = create(make_client(api__strict_create="false"), **{field: missing, other: value})

    assert response.status_code == 200
    assert (response.json["image"][field], response.json["image"][other]) == (None, value)


def test_relaxed_a_missing_status_becomes_active(make_client):
    assert create(make_client(api__strict_create="false"), status=MISSING).json["image"]["status"] == "active"


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"status": "deleted"}, {"status": [MESSAGES["status"]]}),
        ({"disk_format": "docker"}, {"disk_format": [MESSAGES["disk_format"][:-1] + ", or null."]}),
        ({"container_format": "docker"}, {"container_format": [MESSAGES["container_format"][:-1] + ", or null."]}),
        ({"disk_format": "ami"}, {"disk_format": [PAIR], "container_format": [PAIR]}),
        ({"disk_format": "ami", "container_format": "aki"}, {"disk_format": [PAIR], "container_format": [PAIR]}),
    ],
)
def test_relaxed_wrong_words_and_pairs_are_still_refused(make_client, database_path, fields, errors):
    response = create(make_client(api__strict_create="false"), **fields)

    assert_refused(response, database_path, errors)


SPELLINGS = (ID, ID.upper(), ID.replace("-", ""), ID.replace("-", "").upper(), ID.title())


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_id_in_any_spelling_is_stored_canonically_and_found_by_every_spelling(client, spelling):
    response = create(client, id=spelling)

    assert response.json["image"]["id"] == ID
    assert response.headers["Location"] == f"/images/{ID}"
    for other in SPELLINGS:
        assert client.get(f"/images/{other}").json == response.json


@pytest.mark.parametrize("is_deleted", [False, True])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_id_in_use_is_a_conflict_in_any_spelling_also_by_a_deleted_image(client, make_image, spelling, is_deleted):
    image = make_image(id=ID, name="first", properties={"a": "1"}, is_deleted=is_deleted)

    response = create(client, id=spelling, name="second", properties={"a": "2"})

    assert response.status_code == 409
    assert response.json["detail"] == "An image with this id exists, or existed, already."
    assert client.get(f"/images/{ID}").json["image"] == image


def test_an_id_of_an_image_that_the_caller_cannot_see_is_a_conflict_too(client_as, make_image):
    make_image(id=ID, owner="owner")

    response = create(client_as("stranger"), id=ID)

    assert response.status_code == 409


TRUE_WORDS = (True, "true", "True", "TRUE", "tRuE", "1", "yes", "Yes", "YES")
FALSE_WORDS = (False, "false", "False", "FALSE", "fAlSe", "0", "no", "No", "NO")
NAMES = ("", "a", "a" * 255, "😀" * 255, "日本語 \x01\n\t", "None", "null", "\ufffe")
LONGEST_URL = "file:" + "a" * 4091


@pytest.mark.sampled("field")
@pytest.mark.parametrize(
    ("field", "given", "stored"),
    [
        *[("status", status, status) for status in ("active", "saving", "queued", "killed")],
        *[("name", text, text) for text in NAMES],
        *[("owner", text, text) for text in ("a", "a" * 255, "租户😀")],
        *[("checksum", text, text) for text in ("", "c2e5db72bd7fd153f53ede5da5a06de3", "é" * 32)],
        *[(field, value, value) for field in ("size", "virtual_size") for value in (0, 1, 2**31, 2**63 - 1)],
        *[(field, value, value) for field in ("min_disk", "min_ram") for value in (0, 1, 2**31 - 1)],
        *[(field, "12", 12) for field in ("size", "virtual_size", "min_disk", "min_ram")],
        *[("size", "0", 0), ("size", "007", 7), ("size", str(2**63 - 1), 2**63 - 1)],
        *[(field, word, True) for field in ("is_public", "protected") for word in TRUE_WORDS],
        *[(field, word, False) for field in ("is_public", "protected") for word in FALSE_WORDS],
        *[("properties", {}, {}), ("properties", [], {})],
        ("properties", {"user_data": "é\n" * 100_000}, {"user_data": "é\n" * 100_000}),
        ("location", LONGEST_URL, LONGEST_URL),
    ],
)
def test_a_value_from_its_vocabulary_or_within_its_bounds_is_kept(client, field, given, stored):
    response = create(client, **{field: given})

    assert json.dumps(response.json["image"][field]) == json.dumps(stored)
    assert client.get(f"/images/{response.json['image']['id']}").json == response.json


NO_IDS = (
    *(f"urn:uuid:{ID}", f"{{{ID}}}", f"{ID}\n", f" {ID}", f"{ID} ", ID[:-1], f"{ID}0", ID.replace("c", "g")),
    *("71c675abd94f-49cd-a114-e12490b328d9", "71c675ab-d94f49cd-a114-e12490b328d9", ID.replace("-", "--")),
    *("71c675ab-d94f-49cd-a114e12490b328d9", "71c675a-bd94f-49cd-a114-e12490b328d9", f"-{ID.replace('-', '')}"),
    *("", " ", "1", "None", ID.replace("7", "７"), 1, 0, 1.5, True, False, [], [ID], {}),
)
NO_STATUSES = ("pending_delete", "deleted", "deactivated", "unknown", "", " ", "Active", "active ", "active\n")
NO_FORMATS = ("", "RAW", "Ami", "raw ", "raw\n", "bare,ovf", "docker", "ploop")
NO_VOCABULARY = (None, MISSING, 0, 1, True, [], ["active"], {})
NO_TEXTS = (0, 1.5, True, False, [], ["a"], {}, {"a": 1}, "a\0b", "\0", "\ud800", "a\udfffb", "\udc00\ud800")
NO_INTEGERS = (-1, 1.0, 1.5, 1e3, -0.5, 1e300, True, False, [], [1], {}, -(2**63), 10**40, 10**400)
NO_DIGITS = ("", " ", "-1", "+1", "1.0", "1e3", " 1", "1 ", "1\n", "1_000", "0x10", "١٢", "１２", "²", "1\0", "9" * 41)
NO_WORDS = (2, -1, 1.0, [], [True], {}, "", " ", "t", "y", "on", "off", "2", "true ", "true\n", "1.0", "ｔｒｕｅ", "\0")
NO_TIMES = (
    *("", " ", "now", "2026", "2026-11", "2026-13-01", "2026-02-30", "2026-11-24T25:00:00", "2026-11-24T04:08:61"),
    *("1969-12-31T23:59:59Z", "9999-01-01", "0000-01-01", "10000-01-01", "1970-01-01T00:00:00+01:00"),
    *("9998-12-31T23:59:59-01:00", "0001-01-01T00:00:00+14:00", "２０２６-11-24", "2026-11-24\n", "2026-11-24\0"),
    *("\ud800", 1764000000, 0, 1.5, True, False, [], {}),
)


@pytest.mark.sampled
@pytest.mark.sampled("field")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("id", value) for value in NO_IDS],
        *[("status", value) for value in (*NO_STATUSES, *NO_VOCABULARY)],
        *[(field, value) for field in ("disk_format", "container_format") for value in (*NO_FORMATS, *NO_VOCABULARY)],
        *[(field, value) for field in ("name", "owner") for value in (*NO_TEXTS, "a" * 256, "😀" * 256)],
        *[("checksum", value) for value in (*NO_TEXTS, "a" * 33)],
        *[(field, value) for field in ("size", "virtual_size") for value in (*NO_INTEGERS, *NO_DIGITS)],
        *[(field, value) for field in ("size", "virtual_size") for value in (2**63, str(2**63))],
        *[(field, value) for field in ("min_disk", "min_ram") for value in (*NO_INTEGERS, *NO_DIGITS)],
        *[(field, value) for field in ("min_disk", "min_ram") for value in (2**31, str(2**31), 2**63)],
        *[(field, value) for field in ("is_public", "protected") for value in NO_WORDS],
        *[(field, value) for field in ("created_at", "updated_at") for value in NO_TIMES],
        *[("properties", value) for value in ("", "a", 0, 1, True, [1], ["a"], [["a", "b"]], [None])],
        *[("properties", [entry]) for entry in ({}, {"value": 1}, {"name": None}, {"name": 5}, {"name": ["a"]})],
    ],
)
def test_any_other_value_is_refused_by_a_message_that_names_what_is_accepted(client, database_path, field, value):
    response = create(client, **{field: value})

    assert_refused(response, database_path, {field: [MESSAGES[field]]})
    assert response.json["detail"] == f"{field}: {MESSAGES[field]}"


NUMBERS = {"22.10": "22.10", "0": "0", "-7": "-7", "1.0": "1.0", "1E5": "1E5", "6.02e23": "6.02e23", "true": "true"}
NUMBERS |= {"false": "false", '"22.10"': "22.10", '""': "", '"null"': "null", "null": None, f"{2**70}": f"{2**70}"}
FORMS = (dict, lambda pairs: [{"name": name, "value": value} for name, value in pairs])
NAME = {"properties": ["Each name must be text of 1 to 255 characters, without NUL and halves of surrogate pairs."]}
VALUE = {"properties": ["k: Must be text without NUL and halves of surrogate pairs, a number, a boolean or null."]}


@pytest.mark.parametrize("form", ['{"version": %s}', '[{"name": "version", "value": %s}]'])
@pytest.mark.parametrize(("written", "stored"), NUMBERS.items())
def test_a_property_is_text_and_numbers_and_booleans_keep_their_json_text(client, form, written, stored):
    body = '{"image": {"status": "active", "disk_format": "raw", "container_format": "bare", "properties": %s}}'

    response = client.post("/images", data=body % form % written, content_type="application/json")

    assert response.json["image"]["properties"] == {"version": stored}


@pytest.mark.parametrize("form", FORMS)
def test_properties_are_an_object_or_a_list(client, form):
    pairs = [("arch", "x86"), ("Arch", "arm"), ("n", 1), ("b", True), ("null", None), ("😀", "日本"), ("k" * 255, "")]

    response = create(client, properties=form(pairs))

    expected = {"arch": "x86", "Arch": "arm", "n": "1", "b": "true", "null": None, "😀": "日本", "k" * 255: ""}
    assert response.json["image"]["properties"] == expected
    assert client.get(response.headers["Location"]).json["image"]["properties"] == expected


@pytest.mark.parametrize(
    ("properties", "errors"),
    [
        *[(form([(name, "x")]), NAME) for form in FORMS for name in ("", "a" * 256, "a\0b", "\ud800")],
        *[(form([("k", value)]), VALUE) for form in FORMS for value in ({}, {"a": 1}, [], [1], "a\0b", "\udfff")],
        ([{"name": "k", "value": "1"}] * 2, {"properties": ["A name must not stand in the list twice."]}),
    ],
)
def test_a_property_with_a_wrong_name_or_a_nested_value_or_named_twice_is_refused(
    client, database_path, properties, errors
):
    response = create(client, properties=properties)

    assert_refused(response, database_path, errors)


def entry(url, metadata=None, status="active"):
    return {"url": url, "metadata": metadata or {}, "status": status}


LOCATION, LOCATIONS, LOCATION_DATA = "file:///one", ["file:///two", "rbd://two/b"], [entry("swift+https://u:p@three/c")]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"location": LOCATION}, [entry("file:///one")]),
        ({"locations": LOCATIONS}, [entry("file:///two"), entry("rbd://two/b")]),
        ({"location_data": LOCATION_DATA}, LOCATION_DATA),
        ({"location": LOCATION, "locations": LOCATIONS}, [entry("file:///two"), entry("rbd://two/b")]),
        ({"location": LOCATION, "location_data": LOCATION_DATA}, LOCATION_DATA),
        ({"location": LOCATION, "locations": LOCATIONS, "location_data": LOCATION_DATA}, LOCATION_DATA),
        ({"location": LOCATION, "locations": LOCATIONS, "location_data": []}, []),
        ({"location": LOCATION, "locations": []}, []),
    ],
)
def test_of_the_three_ways_to_write_locations_the_first_present_counts(client, given, stored):
    image = create(client, **given).json["image"]

    assert image["location_data"] == stored
    assert image["location"] == (stored[0]["url"] if stored else None)


@pytest.mark.parametrize(
    ("given", "stored", "location"),
    [
        ([{"url": "x:1"}], [entry("x:1")], "x:1"),
        ([{"url": "x:1", "id": 7, "value": "x:2"}], [entry("x:1")], "x:1"),
        ([entry("x:1", {"a": {"b": [1, None, "😀"]}})], [entry("x:1", {"a": {"b": [1, None, "😀"]}})], "x:1"),
        ([entry("x:1", {}, "deleted"), entry("x:2")], [entry("x:1", {}, "deleted"), entry("x:2")], "x:2"),
        ([entry("x:1", {}, "pending_delete")], [entry("x:1", {}, "pending_delete")], None),
    ],
)
def test_locations_have_defaults_and_no_id_and_the_first_active_url_is_the_location(client, given, stored, location):
    image = create(client, location_data=given).json["image"]

    assert image["location_data"] == stored
    assert image["location"] == location


NO_URLS = ("", "a", "/var/lib", "//host/a", "1a:b", f"{LONGEST_URL}a", "file:///a\0", "file:///\ud800", 0, True, [])


@pytest.mark.sampled("field")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("location", url) for url in NO_URLS],
        *[("locations", [url]) for url in (*NO_URLS, None)],
        *[("locations", value) for value in ("file:///a", 1, True, {}, {"url": "file:///a"}, ["file:///a", "b"])],
        *[("location_data", [{"url": url}]) for url in (*NO_URLS, None)],
        *[("location_data", value) for value in ("file:///a", 1, {}, entry("x:1"), ["x:1"], [None], [{}], [[]])],
        *[("location_data", [{"url": "x:1", "metadata": metadata}]) for metadata in ("", "a", 0, 1, True, [], [{}])],
        *[("location_data", [entry("x:1", metadata)]) for metadata in ({"\0": 1}, {"a": [{"b": "\ud800"}]})],
        *[("location_data", [entry("x:1", {"a": [sign * 10**309]})]) for sign in (1, -1)],
        *[("location_data", [{"url": "x:1", "status": status}]) for status in ("", "queued", "Active", 0, True, [])],
        ("location_data", [entry("x:1"), entry("b")]),
    ],
)
def test_a_location_that_is_refused_names_its_field_and_what_is_accepted(client, database_path, field, value):
    response = create(client, **{field: value})

    assert response.status_code == 400
    assert list(response.json["errors"]) == [field]
    assert all(LOCATION_MESSAGE.fullmatch(message) for message in response.json["errors"][field])
    assert rows(database_path, "SELECT count(*) FROM image") == [(0,)]


@pytest.mark.parametrize("number", [2**64, -(10**308), 1e308, 22.10])
def test_numbers_in_metadata_stay_what_they_were(client, number):
    text = json.dumps({"n": number}, separators=(",", ":"))
    image = create(client, location_data=[entry("x:1", {"n": number})]).json["image"]

    for path in (f"/images/{image['id']}", "/images/detail?limit=1&is_public=none"):
        assert f'"metadata":{text}' in client.get(path).text


@pytest.mark.parametrize(("field", "other"), [("created_at", "updated_at"), ("updated_at", "created_at")])
@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("2026-11-24T04:08:17.767932", "2026-11-24T04:08:17.767932"),
        ("2026-11-24T04:08:17", "2026-11-24T04:08:17.000000"),
        ("2026-11-24T04:08:17Z", "2026-11-24T04:08:17.000000"),
        ("2026-11-24T04:08:17.5+05:30", "2026-11-23T22:38:17.500000"),
        ("2026-11-24T22:08:17-0330", "2026-11-25T01:38:17.000000"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000"),
        ("9998-12-31T23:59:59.999999", "9998-12-31T23:59:59.999999"),
    ],
)
def test_an_admin_gives_times_with_any_offset_and_they_are_kept_in_utc(client, field, other, given, stored):
    before = current_time()

    image = create(client, **{field: given}).json["image"]

    assert image[field] == stored
    assert before <= image[other] <= current_time()


@pytest.mark.parametrize(
    ("caller", "given", "stored"),
    [
        *[("owner", given, "owner") for given in (MISSING, None, "owner", "victim", "", 5, "a" * 256)],
        *[("admin", MISSING, None), ("admin", None, None), ("admin", "", None), ("admin", "victim", "victim")],
        *[("admin@acme", MISSING, "acme"), ("admin@acme", None, "acme"), ("admin@acme", "victim", "victim")],
    ],
)
def test_the_owner_is_the_callers_tenant_unless_an_admin_names_another(client_as, caller, given, stored):
    response = create(client_as(caller), owner=given)

    assert response.json["image"]["owner"] == stored


@pytest.mark.parametrize(
    ("caller", "given"),
    [("admin", MISSING), *[("owner", given) for given in (MISSING, None, "1999-01-01T00:00:00", "never", 5)]],
)
def test_both_times_default_to_the_same_now_and_those_from_others_than_admins_are_ignored(client_as, caller, given):
    before = current_time()

    image = create(client_as(caller), created_at=given, updated_at=given).json["image"]

    assert before <= image["created_at"] == image["updated_at"] <= current_time()
    assert len(image["created_at"]) == len("2026-11-24T04:08:17.767932")


@pytest.mark.parametrize("value", [True, "1999-01-01", 5, {}, "\0"])
def test_unknown_keys_and_marks_of_deletion_are_ignored(client, value):
    ignored = {"deleted": value, "deleted_at": value, "visibility": value, "os_hidden": value, "pk": value}

    response = create(client, **ignored, **{"": value, "😀": value})

    image = response.json["image"]
    assert set(image) == RECORD_FIELDS
    assert (image["deleted"], image["deleted_at"], image["is_public"]) == (False, None, False)
