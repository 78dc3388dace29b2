"""Bodies: the type they say they have, what is no JSON, how large they may be, and what is checked first."""

import contextlib
import http.client
import json
import socket

import pytest
from conftest import IMAGE

ID = "71c675ab-d94f-49cd-a114-e12490b328d9"
PATH = f"/images/{ID}"
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
MOST_BYTES = 1024 * 1024
MIB = 1024 * 1024
ROUTES = {
    "create": ("POST", "/images", {"image": IMAGE}, 200),
    "update": ("PUT", PATH, {"image": {"name": "new"}}, 200),
    "members": ("PUT", f"{PATH}/members", {"memberships": [{"member_id": "new"}]}, 204),
    "member": ("PUT", f"{PATH}/members/friend", {"member": {"can_share": True}}, 204),
}
every_route = pytest.mark.parametrize("route", ROUTES)
every_put = pytest.mark.parametrize("route", ["update", "members", "member"])


def send(client, route, content=None, content_type=JSON, headers=None):
    """The request of ``route`` with its own body, or with the bytes ``content``."""
    method, path, body, _ = ROUTES[route]
    content = json.dumps(body).encode() if content is None else content
    return client.open(path, method=method, data=content, content_type=content_type, headers=headers)


def state(client):
    """All that is registered, as an admin sees it."""
    images = client.get("/images/detail?is_public=none").json["images"]
    return images, client.get(PATH).headers["ETag"], client.get(f"{PATH}/members").json


def padded(body, size):
    return json.dumps(body).encode().ljust(size)


def image_text(more):
    """A creation whose image also has the JSON text ``more``."""
    return f"{json.dumps({'image': IMAGE})[:-2]}, {more}}}}}".encode()


@pytest.fixture
def image(make_image):
    return make_image(id=ID, properties={"a": "1"}, members={"friend": False})


@pytest.mark.sampled
@every_route
@pytest.mark.parametrize(
    "content_type",
    [JSON, "application/json; charset=utf-8", "Application/JSON;charset=UTF-8", 'application/json; charset="utf-8"'],
)
def test_a_body_says_that_it_is_json_in_utf_8(client, image, route, content_type):
    response = send(client, route, content_type=content_type)

    assert response.status_code == ROUTES[route][3]


@pytest.mark.sampled
@every_route
@pytest.mark.parametrize(
    ("content_type", "headers"),
    [
        *[(FORM, {}), ("multipart/form-data; boundary=x", {}), ("text/plain", {}), ("text/json", {}), ("*/*", {})],
        *[("application/octet-stream", {}), ("application/jsonx", {}), ("application/xml", {}), ("json", {})],
        *[(f"application/json; charset={charset}", {}) for charset in ("latin-1", "iso-8859-1", "utf-16", "ascii")],
        *[(JSON, {"Content-Encoding": coding}) for coding in ("gzip", "deflate", "br")],
    ],
)
def test_another_type_is_415_with_the_header_to_send(client, image, route, content_type, headers):
    before = state(client)

    response = send(client, route, content_type=content_type, headers=headers)

    assert response.status_code == 415
    assert response.mimetype == "application/problem+json"
    assert "Content-Type: application/json" in response.json["detail"]
    assert state(client) == before


@pytest.mark.parametrize("content_type", [None, ""])
def test_a_post_without_type_is_415(client, image, content_type):
    before = state(client)

    response = send(client, "create", content_type=content_type)

    assert response.status_code == 415
    assert "Content-Type: application/json" in response.json["detail"]
    assert state(client) == before


@every_put
@pytest.mark.parametrize("content_type", [None, ""])
def test_a_put_without_type_is_taken_as_json(client, image, route, content_type):
    accepted = send(client, route, content_type=content_type)
    refused = send(client, route, b"name=new", content_type=content_type)

    assert accepted.status_code == ROUTES[route][3]
    assert refused.status_code == 400
    assert list(refused.json["errors"]) == ["body"]


NO_JSON = {
    "blank": b" \n",
    "broken": b'{"image": {',
    "form": b"name=cirros&status=active",
    "single quotes": b"{'image': {}}",
    "trailing comma": b'{"image": {},}',
    "comment": b'{"image": {}} // comment',
    "two objects": b"{}{}",
    "raw newline": b'{"image": {"name": "a\nb"}}',
    "control character": b'{"image": {"name": "a\x01b"}}',
    "bad escape": b'{"image": {"name": "\\x41"}}',
    "leading zeros": b'{"image": {"size": 007}}',
    "hexadecimal": b'{"image": {"size": 0x10}}',
    "a nul byte": b"\0",
    "after it a nul byte": b'{"image": {}}\0',
    "UTF-8 with BOM": b"\xef\xbb\xbf" + json.dumps({"image": IMAGE}).encode(),
    **{coding: json.dumps({"image": IMAGE}).encode(coding) for coding in ("UTF-16", "UTF-16-LE", "UTF-32")},
    "Latin-1": '{"image": {"name": "é"}}'.encode("latin-1"),
    "half a character": b'{"image": {"name": "\xc3"}}',
    "overlong NUL": b'{"image": {"name": "\xc0\x80"}}',
    "a surrogate's bytes": b'{"image": {"name": "\xed\xa0\x80"}}',
    "beyond Unicode": b'{"image": {"name": "\xf4\x90\x80\x80"}}',
    **{f"a top-level {value}": value.encode() for value in ("null", "true", "1", '"image"', "[]", '[{"image": {}}]')},
}


@pytest.mark.sampled
@every_route
@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
def test_a_body_that_is_no_json_object_in_utf_8_is_refused(client, image, route, content):
    before = state(client)

    response = send(client, route, content)

    assert response.status_code == 400
    assert list(response.json["errors"]) == ["body"]
    assert state(client) == before


@pytest.mark.parametrize("route", ["create", "update", "members"])
def test_an_empty_body_is_refused(client, image, route):
    before = state(client)

    response = send(client, route, b"")

    assert response.status_code == 400
    assert list(response.json["errors"]) == ["body"]
    assert state(client) == before


@pytest.mark.parametrize("content_type", [None, JSON, FORM])
def test_a_member_may_be_put_without_a_body_whatever_type_it_would_have(client, image, content_type):
    response = client.put(f"{PATH}/members/new", content_type=content_type)

    assert response.status_code == 204
    assert {"member_id": "new", "can_share": False} in client.get(f"{PATH}/members").json["members"]


@pytest.mark.parametrize(
    ("route", "named", "value"),
    [
        *[(route, "image", value) for route in ("create", "update") for value in (None, [], [{}], "a", 1, True)],
        *[("members", "memberships", value) for value in (None, {}, {"member_id": "new"}, "new", 1, True)],
        *[("member", "member", value) for value in (None, [], [{}], "new", 1, True)],
    ],
)
def test_the_object_within_the_body_must_be_there_and_be_one(client, image, route, named, value):
    before = state(client)

    wrong = send(client, route, json.dumps({named: value}).encode())
    missing = send(client, route, json.dumps({"other": {}}).encode())

    assert (wrong.status_code, list(wrong.json["errors"])) == (400, [named])
    assert (missing.status_code, list(missing.json["errors"])) == (400, [named])
    assert state(client) == before


NESTINGS = {
    "whole body": b"%s",
    "image": b'{"image": %s}',
    "unknown key": image_text('"unknown": %s'),
    "name": image_text('"name": %s'),
    "properties": image_text('"properties": {"a": %s}'),
    "metadata": image_text('"location_data": [{"url": "x:1", "metadata": {"a": %s}}]'),
}


@pytest.mark.sampled
@pytest.mark.parametrize("place", NESTINGS)
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b"[", b"")])
@pytest.mark.parametrize("depth", [2_000, 100_000])
def test_nesting_thousands_deep_is_refused(client, image, place, opening, closing, depth):
    before = state(client)

    response = send(client, "create", NESTINGS[place].replace(b"%s", opening * depth + b"1" + closing * depth))

    assert response.status_code == 400
    assert state(client) == before


@pytest.mark.parametrize("place", ["unknown key", "name", "properties", "metadata"])
def test_nesting_of_any_depth_is_accepted_or_refused_but_no_error_of_the_registry(client, place):
    statuses = set()

    for depth in (*range(1, 850, 100), *range(850, 1000)):
        content = NESTINGS[place].replace(b"%s", b"[" * depth + b"]" * depth)
        statuses.add(send(client, "create", content).status_code)

    assert statuses <= {200, 400}


def test_metadata_of_some_depth_is_kept(client, image):
    nested = b'{"a":[' * 20 + b"]}" * 20

    response = send(client, "create", NESTINGS["metadata"].replace(b"%s", nested))

    assert response.json["image"]["location_data"][0]["metadata"] == {"a": json.loads(nested)}


@pytest.mark.sampled
@pytest.mark.parametrize("place", ["whole body", "image", "unknown key", "name", "properties", "metadata"])
@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity", b"nan", b"+1", b".5", b"1.", b"1e"])
def test_nan_infinity_and_broken_numbers_are_no_json_wherever_they_stand(client, image, place, constant):
    before = state(client)

    response = send(client, "create", NESTINGS[place].replace(b"%s", constant))

    assert response.status_code == 400
    assert state(client) == before


@pytest.mark.sampled
@pytest.mark.parametrize("field", ["size", "min_disk"])
@pytest.mark.parametrize(
    "number",
    [
        *("1e400", "-1e400", "1e-400", "NaN", "Infinity", "-Infinity", "1e2", "1.0", "-1"),
        *[form % ("9" * digits) for digits in (20, 4_000, 10_000) for form in ("%s", "-%s", '"%s"', "0.%s", "%s.0")],
    ],
    ids=lambda number: f"{number[:10]}_{len(number)}",
)
def test_a_number_out_of_range_or_with_a_fraction_is_refused_for_an_integer(client, image, field, number):
    before = state(client)

    response = send(client, "create", image_text(f'"{field}": {number}'))

    assert response.status_code == 400
    assert state(client) == before


@pytest.mark.parametrize("place", ["properties", "unknown key"])
def test_an_integer_of_4000_digits_is_taken_where_any_number_may_stand(client, place):
    digits = "9" * 4_000

    response = send(client, "create", NESTINGS[place].replace(b"%s", digits.encode()))

    created = response.json["image"]
    assert created["properties"] == ({"a": digits} if place == "properties" else {})


def test_of_a_key_given_twice_the_last_counts(client):
    response = send(client, "create", image_text('"name": "first", "name": "second"'))

    assert response.json["image"]["name"] == "second"


@every_route
def test_a_body_of_exactly_the_allowed_size_is_accepted_and_one_byte_more_is_413(client, image, route):
    _, _, body, accepted = ROUTES[route]
    before = state(client)

    refused = send(client, route, padded(body, MOST_BYTES + 1))
    unchanged = state(client)
    exact = send(client, route, padded(body, MOST_BYTES))

    assert refused.status_code == 413
    assert refused.mimetype == "application/problem+json"
    assert refused.json["detail"] == "The body is larger than the 1048576 bytes that [api] max_body_bytes allows."
    assert unchanged == before
    assert exact.status_code == accepted


def test_max_body_bytes_can_be_configured(make_client):
    client = make_client(api__max_body_bytes=2000)

    exact = send(client, "create", padded({"image": IMAGE}, 2000))
    refused = send(client, "create", padded({"image": IMAGE}, 2001))

    assert exact.status_code == 200
    assert refused.status_code == 413
    assert "2000 bytes" in refused.json["detail"]


IN_USE = {"image": {**IMAGE, "id": ID}}
UNPAIRED = {"disk_format": "ami", "container_format": "bare"}
ORDER_OF_CHECKS = [
    *[("update", caller, False, FORM, None, 404) for caller in ("anonymous", "tenantless", "stranger")],
    *[("update", "anonymous", True, FORM, None, 401), ("update", "tenantless", True, FORM, None, 403)],
    *[("update", "stranger", True, FORM, None, 403), ("update", "member", False, FORM, None, 403)],
    ("update", "owner", False, FORM, None, 415),
    ("update", "owner", False, JSON, None, 413),
    ("update", "owner", False, JSON, {"image": {"size": -1}, "from_state": "queued"}, 400),
    ("update", "owner", False, JSON, {"image": {"id": ID.replace("7", "8")}, "from_state": "queued"}, 400),
    ("update", "owner", False, JSON, {"image": UNPAIRED, "from_state": "queued"}, 400),
    ("update", "owner", False, JSON, {"image": {}, "from_state": "queued"}, 409),
    ("update", "owner", False, JSON, {"image": {}}, 412),
    *[("create", "anonymous", False, FORM, None, 401), ("create", "tenantless", False, FORM, None, 403)],
    ("create", "stranger", False, FORM, None, 415),
    ("create", "stranger", False, JSON, None, 413),
    ("create", "stranger", False, JSON, {"image": {**IN_USE["image"], "size": -1}}, 400),
    ("create", "stranger", False, JSON, {"image": {**IN_USE["image"], **UNPAIRED}}, 400),
    ("create", "stranger", False, JSON, IN_USE, 409),
]
for members_route in ("members", "member"):
    ORDER_OF_CHECKS += [
        *[(members_route, caller, False, FORM, None, 404) for caller in ("anonymous", "tenantless", "stranger")],
        *[(members_route, caller, True, FORM, None, 401) for caller in ("anonymous", "tenantless")],
        *[(members_route, "stranger", True, FORM, None, 403), (members_route, "member", False, FORM, None, 403)],
        *[(members_route, "sharer", False, FORM, None, 415), (members_route, "owner", False, JSON, None, 413)],
        (members_route, "owner", False, JSON, {"members": {}}, 400),
    ]


@pytest.mark.parametrize(("route", "caller", "is_public", "content_type", "body", "status"), ORDER_OF_CHECKS)
def test_of_many_faults_the_first_in_the_order_of_checks_is_told(
    client_as, make_image, route, caller, is_public, content_type, body, status
):
    """Without a body of its own a request has one that is too large and broken; and all have a stale If-Match."""
    make_image(id=ID, owner="owner", is_public=is_public, members={"member": False, "sharer": True})
    before = state(client_as("admin"))
    content = b"{" * (MOST_BYTES + 1) if body is None else json.dumps(body).encode()

    response = send(client_as(caller), route, content, content_type, {"If-Match": '"stale"'})

    assert response.status_code == status
    assert response.json["status"] == status
    assert state(client_as("admin")) == before


# Over a real socket


def request(connection, method, path, content, **options):
    connection.request(method, path, content, {"Content-Type": JSON}, **options)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


@pytest.fixture
def connection(server):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as opened:
        yield opened


def exchange(server, *parts):
    """What the server answers to these bytes until it closes the connection, which it may do before it has them all."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
        answer = b""
        with contextlib.suppress(ConnectionError):
            for part in parts:
                raw.sendall(part)
        with contextlib.suppress(ConnectionError):
            while received := raw.recv(65536):
                answer += received
    return answer


def head(length_or_coding, *more):
    lines = ("POST /images HTTP/1.1", "Host: localhost", f"Content-Type: {JSON}", length_or_coding, *more)
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


@pytest.mark.parametrize("size", [MOST_BYTES + 1, 3 * MIB, 8 * MIB])
def test_up_to_8_mib_are_read_so_that_the_client_sees_413_and_can_go_on(connection, size):
    refused = request(connection, "POST", "/images", padded({"image": IMAGE}, size))
    socket_before = connection.sock
    accepted = request(connection, "POST", "/images", padded({"image": IMAGE}, MOST_BYTES))

    assert refused[0] == 413
    assert "1048576 bytes" in refused[1]["detail"]
    assert accepted[0] == 200
    assert connection.sock is socket_before


def test_beyond_8_mib_the_answer_is_413_and_the_connection_is_closed(server):
    next_request = b"GET /images HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    answer = exchange(server, head(f"Content-Length: {9 * MIB}"), padded({"image": IMAGE}, 9 * MIB), next_request)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"1048576 bytes" in answer
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(("size", "status"), [(300, 200), (MOST_BYTES, 200), (MOST_BYTES + 1, 413), (3 * MIB, 413)])
def test_a_chunked_body_is_read_and_limited_as_any_other(connection, size, status):
    content = padded({"image": IMAGE}, size)
    chunks = [content[start : start + 100_000] for start in range(0, size, 100_000)]

    first = request(connection, "POST", "/images", iter(chunks), encode_chunked=True)
    second = request(connection, "POST", "/images", padded({"image": IMAGE}, 300))

    assert first[0] == status
    assert second[0] == 200


@pytest.mark.parametrize("chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}xx\r\n0\r\n\r\n"])
def test_a_body_in_broken_chunks_is_the_clients_mistake(server, chunks):
    answer = exchange(server, head("Transfer-Encoding: chunked", "Connection: close"), chunks)

    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(server):
    content = padded({"image": IMAGE}, 300)

    answer = exchange(server, head("Content-Length: 300", "Expect: 100-continue", "Connection: close"), content)

    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


@pytest.mark.parametrize("depth", [960, 5_000, 400_000])
def test_a_server_survives_deep_nesting(connection, depth):
    status, problem = request(connection, "POST", "/images", b"[" * depth + b"]" * depth)

    assert status == 400
    assert list(problem["errors"]) == ["body"]
