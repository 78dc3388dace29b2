"""Defects of glance-registry and similar services, one test each."""

import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from conftest import IMAGE, answer_to
from gunicorn.config import Config

from listing import pages
from server.connection import Connection


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("sort_key", ["size", "name"])
def test_pages_by_size_or_name_lose_no_rows_at_nulls_and_empty_texts(client, make_image, sort_key, direction):
    values = {"size": [None, 0, None, 5, 5, 0, None], "name": [None, "", "", None, "a", "", None]}[sort_key]
    expected = {make_image(**{sort_key: value}, is_public=True)["id"] for value in values}

    path, walked = f"/images?limit=1&sort_key={sort_key}&sort_dir={direction}", []
    while path:
        response = client.get(path)
        walked += [image["id"] for image in response.json["images"]]
        path = response.headers.get("Link", "").partition(">")[0].removeprefix("<")

    assert len(walked) == len(values)
    assert set(walked) == expected


@pytest.mark.parametrize("caller", ["anonymous", "tenantless"])
def test_who_has_no_tenant_sees_no_shared_images_nor_their_locations(client_as, make_image, caller):
    secret = "swift+https://user:key@host/container"
    image = make_image(owner="owner", location=secret, members={"member": True})
    ownerless = make_image(location=secret, members={"member": True})
    client = client_as(caller)

    answers = [client.get(path) for path in ("/images", "/images/detail", "/shared-images/member", "/shared-images/")]
    answers += [client.get(f"/images/{shared['id']}") for shared in (image, ownerless)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 404, 404]
    assert [answer.json for answer in answers[:3]] == [{"images": []}, {"images": []}, {"shared_images": []}]
    assert all("user:key" not in answer.text for answer in answers)


def test_a_protected_image_is_not_deleted(client, make_image):
    image = make_image(protected=True)

    response = client.delete(f"/images/{image['id']}")

    assert response.status_code == 403
    assert "protected" in response.json["detail"]
    assert client.get(f"/images/{image['id']}").json["image"] == image


def test_a_removed_member_can_be_added_again(client, make_image):
    members = f"/images/{make_image(members={'acme': True})['id']}/members"

    statuses = [client.delete(f"{members}/acme").status_code, client.put(f"{members}/acme").status_code]

    assert statuses == [204, 204]
    assert client.get(members).json == {"members": [{"member_id": "acme", "can_share": False}]}


def test_one_bad_entry_leaves_the_whole_member_list_as_it_was(client, make_image):
    members = f"/images/{make_image(members={'acme': True})['id']}/members"

    response = client.put(members, json={"memberships": [{"member_id": "initech"}, {"can_share": True}]})

    assert response.status_code == 400
    assert list(response.json["errors"]) == ["memberships"]
    assert client.get(members).json == {"members": [{"member_id": "acme", "can_share": True}]}


@pytest.mark.parametrize("field", ["is_public", "protected"])
@pytest.mark.parametrize("word", ["false", "False", "0", "no"])
def test_the_word_false_is_not_stored_as_true(client, make_image, field, word):
    image = make_image(**{field: word})

    assert image[field] is False


@pytest.mark.parametrize("word", ["true", "True", "TRUE", "1", "yes", "Yes"])
def test_the_purge_header_takes_every_word_for_true(client, make_image, word):
    path = f"/images/{make_image(properties={'old': 'x'})['id']}"

    response = client.put(path, json={"image": {"properties": {}}}, headers={"X-Glance-Registry-Purge-Props": word})

    assert response.json["image"]["properties"] == {}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("name=a:b", 200),
        ("name=in:a,b", 200),
        ("name=\N{GRINNING FACE}", 200),
        ("property-\N{GRINNING FACE}=\N{GRINNING FACE}", 200),
        ("changes-since=0001-01-01T00:00:00%2B14:00", 400),
        ("changes-since=9999-12-31T23:59:59-14:00", 400),
        ("changes-since=2026-02-30", 400),
        ("size_min=9223372036854775808", 400),
        ("size_max=1.5", 400),
        ("min_ram=1e3", 400),
        ("limit=" + "9" * 4000, 200),
        ("limit=-1", 400),
    ],
)
def test_odd_queries_are_answered_and_never_an_error_of_the_server(client, query, status):
    response = client.get(f"/images?{query}")

    assert response.status_code == status


@pytest.mark.parametrize("content", [b"[]", b"null", b"1", b'"image"', b'{"image": []}', b'{"image": null}', b"{}"])
def test_bodies_that_are_no_objects_are_refused(client, make_image, content):
    path = f"/images/{make_image()['id']}"

    answers = [
        client.post("/images", data=content, content_type="application/json"),
        client.put(path, data=content, content_type="application/json"),
    ]

    assert [answer.status_code for answer in answers] == [400, 400]


@pytest.mark.parametrize("value", ["1.5", "1e400", "9223372036854775808", "1" * 5000, "-1", "true", "NaN"])
@pytest.mark.parametrize("field", ["size", "virtual_size", "min_disk", "min_ram"])
def test_floats_and_huge_integers_are_refused(client, field, value):
    content = (
        f'{{"image": {{"status": "active", "disk_format": "raw", "container_format": "bare", "{field}": {value}}}}}'
    )

    response = client.post("/images", data=content, content_type="application/json")

    assert response.status_code == 400
    assert list(response.json["errors"]) in ([field], ["body"])
    assert client.get("/images?is_public=none").json == {"images": []}


def test_characters_of_four_bytes_are_kept(client, make_image):
    image = make_image(name="\N{PENGUIN} linux", properties={"\N{PENGUIN}": "\N{FACE WITH TEARS OF JOY}"})

    shown = client.get(f"/images/{image['id']}").json["image"]

    assert (shown["name"], shown["properties"]) == ("\N{PENGUIN} linux", {"\N{PENGUIN}": "\N{FACE WITH TEARS OF JOY}"})


def test_one_uuid_in_two_spellings_is_one_image(client, make_image, database_path):
    make_image(id="71C675ABD94F49CDA114E12490B328D9")

    response = client.post("/images", json={"image": {**IMAGE, "id": "71c675ab-d94f-49cd-a114-e12490b328d9"}})

    assert response.status_code == 409
    with sqlite3.connect(database_path) as connection:
        assert connection.execute("SELECT id FROM image").fetchall() == [("71c675ab-d94f-49cd-a114-e12490b328d9",)]
    connection.close()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "new", "size": -1},
        {"properties": {"new": "x", "bad": []}},
        {"location": "file:///new", "min_ram": "much"},
        {"name": "new", "disk_format": "ami"},
        {"name": "new", "id": "71c675ab-d94f-49cd-a114-e12490b328d9"},
    ],
)
def test_a_refused_update_changes_nothing(client, make_image, change):
    path = f"/images/{make_image(properties={'old': 'x'}, location='file:///old')['id']}"
    before = client.get(path)

    response = client.put(path, json={"image": change}, headers={"X-Glance-Registry-Purge-Props": "true"})

    after = client.get(path)
    assert response.status_code == 400
    assert (after.json, after.headers["ETag"]) == (before.json, before.headers["ETag"])


def test_of_two_writers_with_the_same_etag_one_is_told(server):
    _, headers, body = server.request("POST", "/images", {"image": IMAGE})
    path, condition = f"/images/{body['image']['id']}", {"If-Match": headers["ETag"]}

    def write(number):
        return server.request("PUT", path, {"image": {"properties": {str(number): "x"}}}, condition)[0]

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(write, range(8)))

    assert statuses == [200, *[412] * 7]
    assert len(server.request("GET", path)[2]["image"]["properties"]) == 1


def test_who_polls_for_changes_since_the_last_one_misses_none(server):
    def register(worker):
        body = {"image": {**IMAGE, "name": "polled", "is_public": True}}
        return [server.request("POST", "/images", body)[2]["image"]["id"] for _ in range(20)]

    seen, newest = set(), "1970-01-01"
    with ThreadPoolExecutor(6) as pool:
        writers = [pool.submit(register, worker) for worker in range(6)]
        is_last = False
        while not is_last:
            is_last = all(writer.done() for writer in writers)
            path = f"/images/detail?name=polled&sort_key=updated_at&sort_dir=asc&changes-since={newest}"
            for image in server.request("GET", path)[2]["images"]:
                seen.add(image["id"])
                newest = image["updated_at"]
    registered = {image_id for writer in writers for image_id in writer.result()}

    assert seen == registered


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "fields",
    [
        {"properties": {str(number): "" for number in range(60_000)}},
        {"locations": [f"a:{number}" for number in range(60_000)]},
    ],
    ids=["properties", "locations"],
)
def test_as_many_entries_as_a_body_holds_are_kept(client, make_image, fields):
    image = make_image(**fields)

    shown = client.get(f"/images/{image['id']}").json["image"]

    assert len(shown["properties"]) + len(shown["location_data"]) == 60_000


@pytest.mark.exhaustive
def test_as_many_members_as_a_body_holds_are_kept(client, make_image):
    members = f"/images/{make_image()['id']}/members"
    memberships = [{"member_id": f"{number:05}"} for number in range(40_000)]

    status = client.put(members, json={"memberships": memberships}).status_code

    assert status == 204
    assert [member["member_id"] for member in client.get(members).json["members"]] == [f"{n:05}" for n in range(40_000)]


def test_a_path_that_begins_with_two_slashes_leads_to_no_other_host(client, make_image):
    for _ in range(2):
        make_image(is_public=True)

    response = client.get("/images", query_string="limit=1", environ_overrides={"PATH_INFO": "//images"})

    assert response.status_code == 200
    assert response.headers["Link"].startswith("</images?limit=1&")


def test_a_damaged_location_is_not_told_to_the_log(client, make_image, database_path, caplog):
    image = make_image(location="swift+https://user:secret@host/container")
    with closing(sqlite3.connect(database_path)) as connection, connection:
        damage = "CAST(CAST(location_document AS BLOB) || x'0aff' AS TEXT)"
        connection.execute(f"UPDATE image SET location_document = {damage}")

    response = client.put(f"/images/{image['id']}", json={"image": {"name": "other"}})

    assert response.status_code == 503
    assert "Could not decode" in caplog.text
    assert "secret" not in caplog.text + response.text
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]


@pytest.mark.parametrize("location", ["no url with user:secret", "x" * 5000 + ":user:secret", "swift://user:secret\0"])
def test_a_refused_location_stands_in_no_answer_and_no_log(client, caplog, location):
    bodies = [{"location": location}, {"locations": [location]}, {"location_data": [{"url": location}]}]

    answers = [client.post("/images", json={"image": {**IMAGE, **body}}) for body in bodies]

    assert [answer.status_code for answer in answers] == [400, 400, 400]
    assert all("secret" not in answer.text for answer in answers)
    assert "secret" not in caplog.text


def test_any_number_of_property_filters_is_one_statement_of_bounded_length(client, make_image):
    names = [f"p{number}" for number in range(400)]
    image = make_image(is_public=True, properties=dict.fromkeys(names, 'a "b" \\ é'))
    make_image(is_public=True, properties={**dict.fromkeys(names, 'a "b" \\ é'), "p399": "other"})
    pages.page_statement.cache_clear()

    seen = []
    for count in (400, 300, 200, 100, 17):
        query = {f"property-{name}": 'a "b" \\ é' for name in names[-count:]}
        seen.append([shown["id"] for shown in client.get("/images", query_string=query).json["images"]])

    assert seen == [[image["id"]]] * 5
    assert pages.page_statement.cache_info().currsize == 1


def test_more_property_filters_than_a_statement_takes_are_refused_and_no_error_of_the_server(client, make_image):
    image = make_image(is_public=True, properties={f"p{number}": "x" for number in range(500)})
    filters = [f"property-p{number}=x" for number in range(501)]

    most = client.get(f"/images?{'&'.join(filters[:500])}")
    more = client.get(f"/images?{'&'.join(filters)}")

    assert [shown["id"] for shown in most.json["images"]] == [image["id"]]
    assert (more.status_code, more.json["errors"]) == (400, {"property-": ["Must not be more than 500 filters."]})


def test_a_head_is_read_once_however_small_the_pieces_of_its_body():
    near, far = socket.socketpair()
    head = b"PUT /images HTTP/1.1\r\nX-Long: " + b"x" * 30000 + b"\r\nContent-Length: 3\r\n\r\n"
    with near, far:
        client = Connection(Config(), near, "", "", seconds=30)
        client.received += head
        first = client.is_ready()

        client.received[: len(head)] = bytes(len(head))  # whoever looked at it again would not know it

        later = []
        for piece in (b"1", b"2", b"3"):
            client.received += piece
            later.append(client.is_ready())

    assert (first, later) == (False, [False, False, True])


@pytest.mark.parametrize(
    "host", ["l" * 64, "a..b.example", ".", "x" * 300, "a b", "\xe9", ""], ids=lambda host: host[:9]
)
def test_behind_a_proxy_no_host_keeps_a_path_from_being_found(make_client, host):
    client, asked = make_client(auth__flavor="token"), {"environ_overrides": {"HTTP_HOST": host}}

    statuses = [client.open(path, method="OPTIONS", **asked).status_code for path in ("/images", "/nowhere")]

    assert statuses == [200, 404]


def test_a_wish_to_speak_another_protocol_is_ignored(server):
    assert answer_to(server, "Connection: Upgrade", "Upgrade: websocket") == 200
