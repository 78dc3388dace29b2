"""Single images: the record, its HTTP headers, and the ETag."""

import http.client
import re
import sqlite3
import uuid

import pytest
from conftest import IMAGE

FIELDS = [
    *("id", "name", "status", "disk_format", "container_format", "size", "virtual_size", "checksum"),
    *("min_disk", "min_ram", "owner", "is_public", "protected", "location", "location_data", "properties"),
    *("created_at", "updated_at", "deleted", "deleted_at"),
]
PREFIX = "x-image-meta-"
PROPERTY_PREFIX = "x-image-meta-property-"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")


def text_of(value):
    """Return a header's value as UTF-8; WSGI and http.client decode it as Latin-1."""
    return value.encode("latin-1").decode()


def field_headers(response):
    """Return [(field, text)] of the headers of fields, in order."""
    named = [(name.lower(), text_of(value)) for name, value in response.headers.items()]
    fields = [(name, text) for name, text in named if name.startswith(PREFIX) and not name.startswith(PROPERTY_PREFIX)]
    return [(name.removeprefix(PREFIX), text) for name, text in fields]


def property_headers(headers):
    """Return [(name, text)] of the headers of properties, in order."""
    named = [(name, text_of(value)) for name, value in headers.items() if name.lower().startswith(PROPERTY_PREFIX)]
    return [(name.removeprefix(PROPERTY_PREFIX), text) for name, text in named]


# The record


def test_a_record_has_all_fields_and_no_other(client, make_image):
    image = make_image(location_data=[{"url": "file:///a", "metadata": {"k": [1, None]}}], properties={"arch": "x86"})

    response = client.get(f"/images/{image['id']}")

    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert list(response.json) == ["image"]
    assert sorted(response.json["image"]) == sorted(FIELDS)
    assert response.json["image"] == image
    assert image["location_data"] == [{"url": "file:///a", "metadata": {"k": [1, None]}, "status": "active"}]


@pytest.mark.parametrize(
    ("statuses", "location"),
    [
        ([], None),
        (["active", "active"], "file:///0"),
        (["deleted", "pending_delete", "active", "active"], "file:///2"),
        (["pending_delete", "deleted"], None),
    ],
)
def test_location_is_the_first_active_url(client, make_image, statuses, location):
    entries = [{"url": f"file:///{number}", "metadata": {}, "status": status} for number, status in enumerate(statuses)]
    image = make_image(location_data=entries)

    response = client.get(f"/images/{image['id']}")

    assert response.json["image"]["location"] == location
    assert response.json["image"]["location_data"] == entries
    assert response.headers[f"{PREFIX}location"] == (location or "")


@pytest.mark.parametrize(
    "spell", [str.upper, str.title, lambda text: text.replace("-", ""), lambda text: text.replace("-", "").upper()]
)
def test_an_image_is_found_by_any_spelling_of_its_id(client, make_image, spell):
    image = make_image(id="71c675ab-d94f-49cd-a114-e12490b328d9")

    response = client.get(f"/images/{spell(image['id'])}")

    assert (response.status_code, response.json["image"]) == (200, image)


@pytest.mark.parametrize(
    "image_id", ["nonsense", "1", "71c675ab", "71c675ab-d94f-49cd-a114-e12490b328d", "DETAIL", "%00", "%FF", "é" * 300]
)
def test_what_is_no_uuid_is_the_id_of_no_image(client, image_id):
    response = client.get(f"/images/{image_id}")

    assert (response.status_code, response.json["status"]) == (404, 404)


def test_times_are_utc_with_six_decimals_and_no_offset(client, make_image):
    now = make_image(is_deleted=True)
    restored = make_image(created_at="2020-01-02T03:04:05+02:00", updated_at="2020-01-02")

    assert all(TIME.fullmatch(now[name]) for name in ("created_at", "updated_at", "deleted_at"))
    assert restored["created_at"] == "2020-01-02T01:04:05.000000"
    assert restored["updated_at"] == "2020-01-02T00:00:00.000000"
    assert client.get(f"/images/{restored['id']}").headers[f"{PREFIX}created_at"] == restored["created_at"]


@pytest.mark.parametrize(
    "path", ["/images", "/images/detail", "/images/{id}", "/images/{id}/members", "/shared-images/acme"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_trailing_slash_is_not_a_different_page(client, make_image, path, method):
    path = path.format(id=make_image(members={"acme": True})["id"])
    headers = {"X-Openstack-Request-Id": "the-same"}

    plain, slashed = (client.open(path + slash, method=method, headers=headers) for slash in ("", "/"))

    assert (plain.status_code, slashed.status_code) == (200, 200)
    assert (slashed.data, slashed.headers) == (plain.data, plain.headers)


# Headers of fields


def test_every_scalar_field_has_its_header(client, make_image):
    identity = {"id": "71c675ab-d94f-49cd-a114-e12490b328d9", "name": "cirros", "status": "saving", "owner": "acme"}
    formats = {"disk_format": "raw", "container_format": "ovf", "checksum": "c" * 32, "location": "file:///image"}
    numbers = {"size": 2**63 - 1, "virtual_size": 0, "min_disk": 1, "min_ram": 2, "is_public": True}
    times = {"created_at": "2020-01-02T03:04:05.000000", "updated_at": "2021-01-02T03:04:05.678000"}
    fields = identity | formats | numbers | times
    image = make_image(**fields)

    response = client.get(f"/images/{image['id']}")

    defaults = {"protected": "False", "deleted": "False", "deleted_at": ""}
    expected = {name: str(value) for name, value in fields.items()} | defaults
    assert sorted(field_headers(response)) == sorted(expected.items())
    assert len(expected) == 18


def test_null_is_an_empty_header_and_booleans_are_capitalised(client, make_image):
    image = make_image(name=None, is_public=False, protected=False, properties={"nothing": None}, is_deleted=True)
    empty = ("name", "size", "virtual_size", "checksum", "owner", "location", "property-nothing")
    booleans = {"is_public": "False", "protected": "False", "deleted": "True"}

    headers = client.get(f"/images/{image['id']}").headers

    assert {name: headers[PREFIX + name] for name in empty} == dict.fromkeys(empty, "")
    assert {name: headers[PREFIX + name] for name in booleans} == booleans


def test_head_answers_the_headers_of_get_alone(client, make_image):
    image = make_image(name="日本", properties={"arch": "x86", "os": "linux"}, location="file:///image")
    headers = {"X-Openstack-Request-Id": "the-same"}

    shown = client.get(f"/images/{image['id']}", headers=headers)
    head = client.head(f"/images/{image['id']}", headers=headers)

    assert (head.status_code, head.data) == (200, b"")
    assert list(head.headers) == list(shown.headers)
    assert head.headers["Content-Length"] == str(len(shown.data))


def test_text_is_utf_8_in_headers(client, make_image):
    text = "Ümlaut 日本 🐧 \u00a0\u0085\u2028."
    image = make_image(name=text, owner=text, properties={"text": text})

    headers = client.get(f"/images/{image['id']}").headers

    assert {text_of(headers[PREFIX + name]) for name in ("name", "owner", "property-text")} == {text}


def test_control_characters_and_line_breaks_become_spaces(client, make_image):
    controls = "".join(map(chr, [*range(1, 32), 127]))
    text = f"a\r\nX-Evil: 1{controls}z"
    image = make_image(name=text, properties={"text": text})

    response = client.get(f"/images/{image['id']}")

    expected = f"a  X-Evil: 1{' ' * 32}z"
    assert [response.headers[PREFIX + name] for name in ("name", "property-text")] == [expected] * 2
    assert "X-Evil" not in response.headers
    assert response.json["image"]["name"] == text
    assert response.json["image"]["properties"] == {"text": text}


# Headers of properties


def test_property_names_are_lower_cased_and_in_order(client, make_image):
    names = ["zeta", "os.version", "a-b", "kernel_id", "a!#$%&'*+.^_`|~9", "alpha"]
    image = make_image(properties={**{name: f"of {name}" for name in names}, "Beta": "of Beta"})

    headers = property_headers(client.get(f"/images/{image['id']}").headers)

    assert sorted(headers) == sorted([*((name, f"of {name}") for name in names), ("beta", "of Beta")])
    lower_case = [name for name, _ in headers if name != "beta"]
    assert lower_case == sorted(names)


@pytest.mark.parametrize(
    "name",
    ["with space", "colon:", "line\nbreak", "\ttab", "ümlaut", "日本", "🐧", 'quo"te', "(a)", "a/b", "a=b", "\x7f"],
)
def test_a_property_name_that_is_no_header_name_is_left_out_of_the_headers_alone(client, make_image, name):
    image = make_image(properties={name: "odd", "plain": "kept"})

    response = client.get(f"/images/{image['id']}")

    assert property_headers(response.headers) == [("plain", "kept")]
    assert response.json["image"]["properties"] == {name: "odd", "plain": "kept"}


def test_of_names_that_differ_only_in_case_the_first_in_order_counts(client, make_image):
    properties = {"arch": "third", "Arch": "second", "ARCH": "first", "os": "linux"}
    image = make_image(properties=properties)

    response = client.get(f"/images/{image['id']}")

    assert property_headers(response.headers) == [("arch", "first"), ("os", "linux")]
    assert response.json["image"]["properties"] == properties


def test_property_headers_stop_at_64_lines(client, make_image):
    legal = {f"p{number:03}": str(number) for number in range(100)}
    illegal = {f"a {number}": "left out" for number in range(10)}
    doubled = {f"P{number:03}": "upper" for number in range(5)}
    image = make_image(properties=legal | illegal | doubled)

    response = client.get(f"/images/{image['id']}")

    assert [name for name, _ in property_headers(response.headers)] == [f"p{number:03}" for number in range(64)]
    assert response.json["image"]["properties"] == legal | illegal | doubled


@pytest.mark.parametrize("character", ["x", "ü"])
@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ({"a": 4000, "b": 4000, "c": 4000, "d": 4000, "e": 4000}, "abcd"),
        ({"a": 4000, "b": 4000, "c": 4000, "d": 4000, "e": 4000, "f": 1}, "abcd"),  # none after the first too large
        ({"a": 20_000, "b": 1}, ""),
        ({"a": 2, "b": 20_000, "c": 2}, "a"),
        ({"a": 16_000}, "a"),
    ],
)
def test_property_headers_stop_before_they_pass_16_kib(client, make_image, sizes, shown, character):
    properties = {name: character * (size // len(character.encode())) for name, size in sizes.items()}
    image = make_image(properties=properties)

    response = client.get(f"/images/{image['id']}")

    assert property_headers(response.headers) == [(name, properties[name]) for name in shown]
    assert response.json["image"]["properties"] == properties


# Over a real server, read by Python's http.client


def served(server, **fields):
    """Return (record of POST, headers and record of GET) over HTTP."""
    status, _, created = server.request("POST", "/images", {"image": {**IMAGE, **fields}})
    assert status == 200, created
    status, headers, shown = server.request("GET", f"/images/{created['image']['id']}")
    assert status == 200
    return created["image"], headers, shown["image"]


@pytest.mark.parametrize("value", ["short", "x" * 500, "🐧" * 200])
def test_an_image_with_300_properties_is_read_by_a_plain_client(server, value):
    properties = {f"property_{number:03}": value for number in range(300)}

    created, headers, shown = served(server, properties=properties)

    found = property_headers(headers)
    assert found == list(properties.items())[: len(found)]
    assert 1 <= len(found) <= 64
    assert len(headers) < 100
    assert shown == created
    assert shown["properties"] == properties


@pytest.mark.parametrize("character", ["\u0085", "\u00a0", "\u2028", "\u2029", "\u009f", "\ufeff", "🐧", "\U0010ffff"])
def test_odd_characters_arrive_whole(server, character):
    text = f"a{character}{character}b: c{character}"

    created, headers, shown = served(server, name=text, properties={"text": text, f"a{character}": "odd name"})

    assert text_of(headers[f"{PREFIX}name"]) == text
    assert property_headers(headers) == [("text", text)]
    assert headers[f"{PREFIX}status"] == "active"
    assert shown == created
    assert shown["name"] == text


def test_control_characters_do_not_break_a_served_response(server):
    text = "".join(map(chr, [*range(1, 32), 127]))

    created, headers, shown = served(server, name=f"a{text}b", properties={"text": f"a{text}b"})

    assert headers[f"{PREFIX}name"] == headers[f"{PROPERTY_PREFIX}text"] == f"a{' ' * 32}b"
    assert shown == created


def test_the_longest_texts_are_served_in_headers(server):
    url = "file:///" + "ü" * (4096 - 8)

    created, headers, shown = served(
        server, name="🐧" * 255, owner="日" * 255, location=url, properties={"n" * 255: "x" * 16_000}
    )

    assert text_of(headers[f"{PREFIX}name"]) == "🐧" * 255
    assert text_of(headers[f"{PREFIX}location"]) == url
    assert property_headers(headers) == [("n" * 255, "x" * 16_000)]
    assert shown == created


def test_a_served_head_has_the_headers_of_get_and_leaves_the_connection_usable(server):
    created, _, _ = served(server, name="日本", properties={"arch": "x86"})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    answers = []

    for method in ("HEAD", "GET", "HEAD"):
        connection.request(method, f"/images/{created['id']}", headers={"X-Openstack-Request-Id": "the-same"})
        response = connection.getresponse()
        headers = [(name, value) for name, value in response.getheaders() if name != "Date"]
        answers.append((response.status, headers, response.read()))
    connection.close()

    (_, _, head_body), (_, headers, body), _ = answers
    assert [status for status, _, _ in answers] == [200] * 3
    assert answers[0][1] == headers == answers[2][1]
    assert head_body == b""
    assert dict(headers)["Content-Length"] == str(len(body))


# The ETag


def test_the_etag_is_strong_and_comes_with_get_head_post_and_put(client):
    created = client.post("/images", json={"image": IMAGE})
    path = created.headers["Location"]
    first = client.get(path).headers["ETag"]
    updated = client.put(path, json={"image": {"name": "renamed"}})

    assert re.fullmatch(r'"[^"]+"', first)
    assert created.headers["ETag"] == first
    assert updated.headers["ETag"] == client.get(path).headers["ETag"] == client.head(path).headers["ETag"]
    assert updated.headers["ETag"] != first


PURGE = {"X-Glance-Registry-Purge-Props": "true"}


def test_the_etag_differs_after_each_change_and_never_comes_back(client):
    created = client.post("/images", json={"image": {**IMAGE, "properties": {"arch": "x86"}}})
    path = created.headers["Location"]
    changes = [
        *[({"name": "renamed"}, {}), ({"name": "cirros"}, {}), ({"name": "cirros"}, {}), ({}, {})],
        *[({"properties": {"arch": "arm"}}, {}), ({"properties": {"arch": "x86"}}, {}), ({}, PURGE)],
        *[({"properties": {"arch": "x86"}}, PURGE), ({"location": "file:///a"}, {}), ({"location": None}, {})],
        *[({"is_public": True}, {}), ({"is_public": False}, {}), ({"status": "queued"}, {}), ({"owner": "acme"}, {})],
    ]
    tags = [created.headers["ETag"]]

    for image, headers in changes:
        assert client.put(path, json={"image": image}, headers=headers).status_code == 200
        tags.append(client.get(path).headers["ETag"])
    client.delete(path)
    tags.append(client.get(path).headers["ETag"])

    assert len(set(tags)) == len(tags) == len(changes) + 2


def test_two_images_of_the_same_content_have_different_etags(client, make_image):
    moments = {"created_at": "2020-01-02", "updated_at": "2020-01-02"}

    tags = [client.get(f"/images/{make_image(**moments)['id']}").headers["ETag"] for _ in range(2)]

    assert tags[0] != tags[1]


def test_reading_and_refused_changes_leave_the_etag(client, make_image):
    path = f"/images/{make_image(protected=True)['id']}"
    tag = client.get(path).headers["ETag"]

    refused = [client.put(path, json={"image": {"size": -1}}).status_code, client.delete(path).status_code]
    client.get("/images/detail")

    assert refused == [400, 403]
    assert client.get(path).headers["ETag"] == tag


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("condition", "status"),
    [
        *[("{tag}", 304), ("W/{tag}", 304), ('"other", {tag}', 304), ('"other",W/{tag} , "third"', 304), ("*", 304)],
        *[('"other"', 200), ('W/"other"', 200), ('"other", "third"', 200), ('"*"', 200), ("", 200), (",", 200)],
    ],
)
def test_if_none_match_answers_304_while_the_image_is_the_same(client, make_image, method, condition, status):
    path = f"/images/{make_image(properties={'arch': 'x86'})['id']}"
    tag = client.get(path).headers["ETag"]

    response = client.open(path, method=method, headers={"If-None-Match": condition.format(tag=tag)})

    assert response.status_code == status
    assert response.headers["ETag"] == tag
    if status == 304:
        assert response.data == b""
        assert "Content-Type" not in response.headers


def test_if_none_match_answers_200_after_a_change(client, make_image):
    path = f"/images/{make_image()['id']}"
    tag = client.get(path).headers["ETag"]
    client.put(path, json={"image": {"properties": {"arch": "x86"}}})

    response = client.get(path, headers={"If-None-Match": tag})

    assert response.status_code == 200
    assert response.json["image"]["properties"] == {"arch": "x86"}


def test_if_none_match_does_not_reveal_an_unknown_image(client):
    response = client.get(f"/images/{uuid.uuid4()}", headers={"If-None-Match": "*"})

    assert response.status_code == 404


def test_a_served_304_has_no_body_and_leaves_the_connection_usable(server):
    created, headers, _ = served(server, name="日本")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    statuses = []

    for condition in (headers["ETag"], '"other"', "*"):
        connection.request("GET", f"/images/{created['id']}", headers={"If-None-Match": condition})
        response = connection.getresponse()
        statuses.append((response.status, bool(response.read())))
    connection.close()

    assert statuses == [(304, False), (200, True), (304, False)]


def test_the_etag_of_an_image_purged_from_the_file_does_not_come_back_with_its_id(client, make_image, database_path):
    image_id = str(uuid.uuid4())
    make_image(id=image_id, name="old")
    old = client.get(f"/images/{image_id}").headers["ETag"]
    connection = sqlite3.connect(database_path)
    connection.execute("DELETE FROM image WHERE id = ?", [image_id])
    connection.commit()
    connection.close()

    make_image(id=image_id, name="new")

    response = client.get(f"/images/{image_id}", headers={"If-None-Match": old})
    assert response.status_code == 200
    assert response.json["image"]["name"] == "new"
