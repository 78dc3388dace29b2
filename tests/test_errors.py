"""Errors: every refusal is problem+json, names its request, and tells nothing of the inside."""

import contextlib
import http.client
import json
import logging
import re
import sqlite3
import uuid
from http import HTTPStatus

import pytest
from conftest import IMAGE, identity

import models

REQUEST_ID = re.compile(r"req-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
INSIDE = re.compile(
    r"traceback|File \"|\.py|select |insert |update \"|sqlite|peewee|werkzeug|flask|\bt1\b|no such", re.I
)
JSON = "application/json"
TRUSTED = {"auth__flavor": "trusted-auth", "auth__allow_anonymous_access": "true"}
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def require_problem(response, status):
    """All that is true of every error's answer; returns its JSON."""
    problem = response.json
    extras = {"errors"} if status == 400 else set()
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "detail", "request_id"} | extras
    assert (problem["type"], problem["status"]) == ("about:blank", status)
    assert problem["title"] == HTTPStatus(status).phrase
    assert isinstance(problem["detail"], str)
    assert problem["detail"]
    assert problem["request_id"] == response.headers["X-Openstack-Request-Id"]
    assert not INSIDE.search(response.text)
    assert "<" not in response.text
    return problem


# One of each kind


@pytest.fixture
def public_image(client_as, make_image):
    """The path of a public image of the owner's, protected."""
    return f"/images/{make_image(owner='owner', is_public=True, protected=True)['id']}"


@pytest.mark.parametrize(
    ("caller", "method", "path", "options", "status"),
    [
        ("owner", "POST", "/images", {"data": "{", "content_type": JSON}, 400),
        ("owner", "POST", "/images", {"data": b"\xff", "content_type": JSON}, 400),
        ("owner", "POST", "/images", {"data": "[" * 100_000, "content_type": JSON}, 400),
        ("owner", "POST", "/images", {"json": []}, 400),
        ("owner", "POST", "/images", {"json": {"image": {**IMAGE, "size": -1}}}, 400),
        ("owner", "PUT", "{public}", {"json": {"image": {"properties": {"a": {}}}}}, 400),
        ("owner", "PUT", "{public}/members", {"json": {}}, 400),
        ("owner", "PUT", "{public}/members/%00", {}, 400),
        ("owner", "GET", "/images?limit=many", {}, 400),
        ("owner", "GET", "/images/detail?marker=nonsense", {}, 400),
        ("owner", "GET", f"/?marker={UNKNOWN}", {}, 400),
        ("anonymous", "POST", "/images", {}, 401),
        ("anonymous", "PUT", "{public}", {}, 401),
        ("anonymous", "DELETE", "{public}", {}, 401),
        ("anonymous", "PUT", "{public}/members", {}, 401),
        ("tenantless", "POST", "/images", {}, 403),
        ("stranger", "DELETE", "{public}", {}, 403),
        ("owner", "DELETE", "{public}", {}, 403),  # protected
        ("owner", "GET", "/nowhere", {}, 404),
        ("owner", "GET", "/images/detail/more", {}, 404),
        ("owner", "GET", "/v1/images", {}, 404),
        ("owner", "GET", "/static/x.js", {}, 404),
        ("owner", "GET", "/%00", {}, 404),
        ("owner", "GET", "/" + "x" * 5000, {}, 404),
        ("owner", "GET", f"/images/{UNKNOWN}", {}, 404),
        ("owner", "PUT", f"/images/{UNKNOWN}", {"json": {"image": {}}}, 404),
        ("owner", "GET", f"/images/{UNKNOWN}/members", {}, 404),
        ("owner", "DELETE", "{public}/members/nobody", {}, 404),
        ("owner", "POST", "{public}", {}, 405),
        ("owner", "POST", "/images", {"json": {"image": {**IMAGE, "id": "{id}"}}}, 409),
        ("owner", "PUT", "{public}", {"json": {"image": {}, "from_state": "queued"}}, 409),
        ("owner", "PUT", "{public}", {"json": {"image": {}}, "headers": {"If-Match": '"1"'}}, 412),
        ("owner", "POST", "/images", {"data": b" " * 2**20 + b"{}", "content_type": JSON}, 413),
        ("owner", "PUT", "{public}", {"data": b" " * 2**20 + b"{}", "content_type": JSON}, 413),
        ("owner", "POST", "/images", {"data": b"{}"}, 415),
        ("owner", "POST", "/images", {"data": {"image": "x"}}, 415),
        ("owner", "PUT", "{public}", {"data": b"{}", "content_type": "text/plain"}, 415),
    ],
)
def test_every_refusal_is_a_problem_in_json(client_as, public_image, caller, method, path, options, status):
    if "json" in options:
        content = json.dumps(options["json"]).replace("{id}", public_image.rpartition("/")[2])
        options = {**options, "json": json.loads(content)}

    response = client_as(caller).open(path.format(public=public_image), method=method, **options)

    require_problem(response, status)


@pytest.mark.parametrize(
    ("image", "errors"),
    [
        ({**IMAGE, "size": -1}, {"size": ["Must be an integer from 0 to 9223372036854775807, or null."]}),
        ({**IMAGE, "min_disk": "x"}, {"min_disk": ["Must be an integer from 0 to 2147483647."]}),
        (
            {**IMAGE, "status": "x"},
            {"status": ["Invalid image status: must be one of active, saving, queued, killed."]},
        ),
        (
            {**IMAGE, "properties": {"a": [], "b": {}, "c": "kept"}},
            {
                "properties": [
                    f"{name}: Must be text without NUL and halves of surrogate pairs, a number, a boolean or null."
                    for name in "ab"
                ]
            },
        ),
    ],
)
def test_a_400_maps_every_refused_field_to_its_messages_and_tells_them_in_detail_too(client, image, errors):
    response = client.post("/images", json={"image": image})

    problem = require_problem(response, 400)
    assert problem["errors"] == errors
    assert all(field in problem["detail"] and texts[0] in problem["detail"] for field, texts in errors.items())


def test_all_refused_fields_are_named_at_once(client):
    response = client.post("/images", json={"image": {"size": -1, "name": 7}})

    problem = require_problem(response, 400)
    assert set(problem["errors"]) == {"size", "name", "status", "disk_format", "container_format"}


@pytest.mark.parametrize("caller", [None, "anonymous"])
def test_a_401_says_how_to_be_known(make_client, caller):
    options = {**TRUSTED, "auth__allow_anonymous_access": "false"} if caller is None else TRUSTED
    client = make_client(**options)

    response = client.post("/images", json={"image": IMAGE})

    require_problem(response, 401)
    assert response.headers["WWW-Authenticate"]  # RFC 9110 wants a challenge with every 401


# Other methods

ALLOWED = {
    "/": "GET, HEAD, OPTIONS",
    "/images": "GET, HEAD, POST, OPTIONS",
    "/images/": "GET, HEAD, POST, OPTIONS",
    "/images/detail": "GET, HEAD, OPTIONS",
    f"/images/{UNKNOWN}": "GET, HEAD, PUT, DELETE, OPTIONS",
    f"/images/{UNKNOWN}/members": "GET, HEAD, PUT, OPTIONS",
    f"/images/{UNKNOWN}/members/acme": "PUT, DELETE",
    "/shared-images/acme": "GET, HEAD, OPTIONS",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "FOO")


@pytest.mark.parametrize(("path", "allowed"), ALLOWED.items())
def test_any_other_method_on_a_known_path_is_405_with_allow(client, path, allowed):
    expected = set(allowed.split(", "))

    responses = {method: client.open(path, method=method) for method in METHODS if method not in expected}

    assert {method: response.status_code for method, response in responses.items()} == dict.fromkeys(responses, 405)
    assert all(set(response.headers["Allow"].split(", ")) == expected for response in responses.values())
    for method in set(responses) - {"HEAD"}:
        require_problem(responses[method], 405)


@pytest.mark.parametrize(("path", "allowed"), [pair for pair in ALLOWED.items() if "OPTIONS" in pair[1]])
def test_options_tells_the_same_methods_as_a_405(client, path, allowed):
    response = client.options(path)

    assert response.status_code == 200
    assert set(response.headers["Allow"].split(", ")) == set(allowed.split(", "))
    assert "html" not in response.headers.get("Content-Type", "")


@pytest.mark.parametrize("method", METHODS)
def test_any_method_on_an_unknown_path_is_404(client, method):
    response = client.open("/nowhere", method=method)

    assert response.status_code == 404
    assert "Allow" not in response.headers


@pytest.mark.parametrize(
    ("path", "status"),
    [("/nowhere", 404), (f"/images/{UNKNOWN}", 404), ("/images?limit=x", 400), (f"/images/{UNKNOWN}/members", 404)],
)
def test_head_answers_an_error_by_headers_alone(client, path, status):
    headers = {"X-Openstack-Request-Id": "the-same"}

    head, shown = client.head(path, headers=headers), client.get(path, headers=headers)

    assert (head.status_code, head.data) == (status, b"")
    assert head.headers == shown.headers
    assert head.headers["Content-Length"] == str(len(shown.data))


# What goes wrong on our side


@contextlib.contextmanager
def connected(database_path):
    """Another connection to the same file, behind the application's back."""
    with contextlib.closing(sqlite3.connect(database_path, isolation_level=None)) as connection:
        yield connection


def requests_of_all_kinds(image_id):
    body = {"image": {**IMAGE, "properties": {"arch": "x86"}}}
    return [
        *[
            ("GET", "/images/detail?is_public=none", None),
            ("GET", f"/images/{image_id}", None),
            ("POST", "/images", body),
        ],
        *[("PUT", f"/images/{image_id}", {"image": {"name": "renamed"}})],
        ("DELETE", f"/images/{image_id}", None),
    ]


def test_a_mistake_of_our_own_is_500_and_tells_nothing_of_the_inside(client, make_image, database_path, caplog):
    image = make_image(properties={"arch": "x86"})
    with connected(database_path) as connection:
        connection.execute("ALTER TABLE image RENAME TO gone")

    responses = [
        client.open(path, method=method, json=body) for method, path, body in requests_of_all_kinds(image["id"])
    ]
    with connected(database_path) as connection:
        connection.execute("ALTER TABLE gone RENAME TO image")

    problems = [require_problem(response, 500) for response in responses]
    assert all("no such table" not in response.text for response in responses)
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert [problem["request_id"] in line for problem, line in zip(problems, logged, strict=True)] == [True] * 5
    assert client.get("/images/detail?is_public=none").json["images"] == [image]


def test_a_served_500_is_a_problem_too(start_server, database_path):
    server = start_server()
    with connected(database_path) as connection:
        for table in ("member", "location", "property", "image"):
            connection.execute(f"DROP TABLE {table}")

    answers = [server.request("GET", path) for path in ("/images", f"/images/{UNKNOWN}", "/shared-images/acme")]

    for status, headers, problem in answers:
        assert (status, problem["status"], headers["Content-Type"]) == (500, 500, "application/problem+json")
        assert problem["request_id"] == headers["X-Openstack-Request-Id"]
        assert not INSIDE.search(problem["detail"])
    output = server.stop()
    assert all(problem["request_id"] in output for _, _, problem in answers)


WRITES = [
    ("POST", "/images", {"image": IMAGE}),
    ("PUT", "/images/{id}", {"image": {"name": "renamed"}}),
    ("DELETE", "/images/{id}", None),
    ("PUT", "/images/{id}/members", {"memberships": []}),
    ("PUT", "/images/{id}/members/new", None),
    ("DELETE", "/images/{id}/members/acme", None),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_write_is_503_with_retry_after_while_another_holds_the_lock_and_works_afterwards(
    make_client, database_path, method, path, body
):
    client = make_client(database__busy_timeout=0)
    image = client.post("/images", json={"image": IMAGE}).json["image"]
    client.put(f"/images/{image['id']}/members/acme")
    path = path.format(id=image["id"])
    seen = ("/images/detail?is_public=none", f"/images/{image['id']}", f"/images/{image['id']}/members")
    before = [client.get(page).json for page in seen]

    with connected(database_path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        locked = client.open(path, method=method, json=body)
        during = [client.get(page).json for page in seen]
        connection.execute("ROLLBACK")
    later = client.open(path, method=method, json=body)

    require_problem(locked, 503)
    assert locked.headers["Retry-After"].isdigit()
    assert during == before
    assert later.status_code in (200, 204)
    assert [client.get(page).json for page in seen] != before


# The request id


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/images", {}, 200),
        ("HEAD", "/images/detail", {}, 200),
        ("OPTIONS", "/images", {}, 200),
        ("POST", "/images", {"json": {"image": IMAGE}}, 200),
        ("GET", "{image}", {}, 200),
        ("PUT", "{image}", {"json": {"image": {}}}, 200),
        ("PUT", "{image}/members/acme", {}, 204),
        ("GET", "{image}", {"headers": {"If-None-Match": "*"}}, 304),
        ("GET", "/images?limit=x", {}, 400),
        ("GET", "/nowhere", {}, 404),
        ("HEAD", "/nowhere", {}, 404),
        ("FOO", "/images", {}, 405),
        ("DELETE", "{image}", {"headers": {"If-Match": '"1"'}}, 412),
        ("POST", "/images", {"data": "x"}, 415),
    ],
)
def test_a_request_id_comes_with_every_answer_and_the_clients_own_is_kept(
    client, make_image, method, path, options, status
):
    path = path.format(image=f"/images/{make_image()['id']}")
    headers = {**options.get("headers", {}), "X-Openstack-Request-Id": "req-of-Client-7"}

    given = client.open(path, method=method, **{**options, "headers": headers})
    drawn = client.open(path, method=method, **options)

    assert (given.status_code, drawn.status_code) == (status, status)
    assert given.headers.getlist("X-Openstack-Request-Id") == ["req-of-Client-7"]
    assert REQUEST_ID.fullmatch(drawn.headers["X-Openstack-Request-Id"])


@pytest.mark.parametrize("allows_anonymous", ["false", "true"])
def test_a_request_id_comes_with_a_401_too(make_client, allows_anonymous):
    client = make_client(**{**TRUSTED, "auth__allow_anonymous_access": allows_anonymous})

    response = client.post("/images", headers={"X-Openstack-Request-Id": "mine"})
    unread = client.post("/images", headers={**identity("owner"), "X-Tenant-Id": "\xff"})

    assert require_problem(response, 401)["request_id"] == "mine"
    assert REQUEST_ID.fullmatch(require_problem(unread, 401)["request_id"])


@pytest.mark.parametrize("request_id", ["a", "0", "-", "x" * 64, "Req-0123456789-aBc", f"req-{uuid.UUID(int=7)}"])
def test_a_valid_request_id_is_kept(client, request_id):
    response = client.get("/nowhere", headers={"X-Openstack-Request-Id": request_id})

    assert require_problem(response, 404)["request_id"] == request_id


@pytest.mark.parametrize(
    "request_id", ["", "x" * 65, "a b", "a_b", "a.b", "a\tb", "é", "\xff", "١", "a,b", '"a"', "<a>"]
)
def test_an_invalid_request_id_is_replaced(client, request_id):
    response = client.get("/nowhere", headers={"X-Openstack-Request-Id": request_id.encode().decode("latin-1")})

    assert REQUEST_ID.fullmatch(require_problem(response, 404)["request_id"])


def test_two_requests_have_different_ids(client):
    request_ids = {client.get("/images").headers["X-Openstack-Request-Id"] for _ in range(20)}

    assert len(request_ids) == 20


# Over a real server


def test_a_connection_goes_on_after_errors_and_heads_of_errors(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    asked = [("HEAD", "/nowhere"), ("GET", "/nowhere"), ("HEAD", "/images?limit=x"), ("TRACE", "/images")]
    asked += [("PROPFIND", f"/images/{UNKNOWN}"), ("HEAD", f"/images/{UNKNOWN}/members/x"), ("GET", "/images?limit=0")]
    answers = []

    for method, path in asked:
        connection.request(method, path)
        response = connection.getresponse()
        content = response.read()
        answers.append((response.status, response.getheader("Content-Type"), bool(content)))
    connection.close()

    problem = "application/problem+json"
    assert answers == [
        *[(404, problem, False), (404, problem, True), (400, problem, False), (405, problem, True)],
        *[(405, problem, True), (405, problem, False), (200, JSON, True)],
    ]


@pytest.mark.parametrize("mebibytes", [1, 2, 7])
def test_a_client_reads_the_413_while_its_body_is_thrown_away(server, mebibytes):
    body = {"image": {**IMAGE, "name": "x" * (mebibytes * 2**20)}}

    status, headers, problem = server.request("POST", "/images", body)

    assert (status, problem["status"]) == (413, 413)
    assert headers["Content-Type"] == "application/problem+json"
    assert "1048576" in problem["detail"]


def test_a_full_disk_is_507_and_changes_nothing(client, make_image):
    image = make_image()
    path = f"/images/{image['id']}"
    pages = models.database.execute_sql("PRAGMA page_count").fetchone()[0]
    models.database.execute_sql(f"PRAGMA max_page_count = {pages}")
    too_much = {"properties": {str(number): "x" * 5000 for number in range(20)}}

    full = client.put(path, json={"image": {"name": "new", **too_much}})

    assert (full.status_code, full.json["title"]) == (507, "Insufficient Storage")
    assert client.get(path).json["image"] == image
    models.database.execute_sql("PRAGMA max_page_count = 100000")
    assert client.put(path, json={"image": too_much}).status_code == 200


def test_a_path_cannot_forge_a_line_of_the_log(make_client, database_path, caplog):
    client = make_client(database__busy_timeout=0)
    path = f"/images/{client.post('/images', json={'image': IMAGE}).json['image']['id']}/members"

    with connected(database_path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        response = client.put(f"{path}/a%0A[CRITICAL]%20forged")
        connection.execute("ROLLBACK")

    assert response.status_code == 503
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]
