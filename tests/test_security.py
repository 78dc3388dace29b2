"""Host validation, CSRF protection, CORS and security headers."""

import json
import socket
import sqlite3
from contextlib import closing

import pytest
from conftest import IMAGE, identity

JSON = {"Content-Type": "application/json"}
OWN_HOSTS = ("localhost", "localhost:9191", "LocalHost:1", "localhost.", "localhost:", "127.0.0.1", "127.0.0.1:9191")
OWN_HOSTS += ("127.8.9.10:80", "[::1]", "[::1]:9191", "[0:0:0:0:0:0:0:1]:9191")
FOREIGN_HOSTS = (
    "evil.example",
    "evil.example:9191",
    "localhost.evil.example",
    "evil.localhost",
    "127.0.0.1.evil.example",
)
FOREIGN_HOSTS += (
    "128.0.0.1",
    "10.0.0.5:9191",
    "0.0.0.0",
    "127.1",
    "2130706433",
    "0x7f.1",
    "[::2]",
    "[::1",
    "::1",
    "[::]",
)
FOREIGN_HOSTS += ("", " ", ":", ":9191", "localhost:x", "localhost:999999", "localhost..", "a@localhost", "localhost/")
FOREIGN_HOSTS += ("localhost, localhost", "localhost,evil.example", "localhost evil.example", "é", "l" * 30_000)
WRITES = [("POST", "/images"), ("PUT", "{}"), ("DELETE", "{}"), ("PUT", "{}/members"), ("PUT", "{}/members/a")]
WRITES += [("DELETE", "{}/members/a"), ("PATCH", "{}")]
OTHER_ORIGINS = ("http://localhost", "http://localhost:8000", "http://127.0.0.1:9191", "http://[::1]:9191", "null", "")
OTHER_ORIGINS += ("http://evil.example", "http://evil.example:9191", "localhost:9191", "file://", "://localhost:9191")
OTHER_ORIGINS += ("ftp://localhost:9191", "http://localhost:9191/", "http://localhost:9191, http://evil.example")
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
PAGE = "https://images.example.org"


def statuses(client, headers, image):
    """Of every read and write, in a list without repetitions."""
    found = [client.open(f"/images/{image['id']}", method=method, headers=headers) for method in ("GET", "HEAD")]
    found += [client.open(path, method="GET", headers=headers) for path in ("/", "/images/detail", "/nowhere")]
    return {answer.status_code for answer in found}


def write(client, method, path, image, headers):
    """The answer to a write, with a body that is complete."""
    body = {"image": {**IMAGE, "name": "changed"}, "memberships": [], "member": {}}
    path = path.format(f"/images/{image['id']}")
    return client.open(path, method=method, data=json.dumps(body), headers={**JSON, **headers})


# Host


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_this_machine_may_be_named_in_every_way(client, host):
    assert client.get("/images", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN_HOSTS, ids=lambda host: host[:30])
def test_another_host_is_refused(client, host):
    answer = client.get("/images", environ_overrides={"HTTP_HOST": host})

    assert answer.status_code == 400
    assert answer.mimetype == "application/problem+json"
    assert "trusted_hosts" in answer.json["errors"]["Host"][0]
    assert answer.json["request_id"] == answer.headers["X-Openstack-Request-Id"]


def test_another_host_reads_and_changes_nothing(client, make_image):
    image = make_image()
    headers = {"Host": "evil.example:9191", "Origin": "http://evil.example:9191", "Sec-Fetch-Site": "same-origin"}

    answers = [write(client, method, path, image, headers).status_code for method, path in WRITES]

    assert set(answers) == statuses(client, headers, image) == {400}
    assert client.options("/images", headers=headers).status_code == 400
    assert client.get(f"/images/{image['id']}").json["image"] == image


@pytest.mark.parametrize(
    ("options", "host", "status"),
    [
        ({"server__trusted_hosts": "registry, 10.0.0.5"}, "Registry:9191", 200),
        ({"server__trusted_hosts": "registry, 10.0.0.5"}, "10.0.0.5", 200),
        ({"server__trusted_hosts": "registry, 10.0.0.5"}, "localhost:9191", 200),
        ({"server__trusted_hosts": "registry, 10.0.0.5"}, "registry.evil.example", 400),
        ({"server__trusted_hosts": "[fd00::1]"}, "[fd00::1]:9191", 200),
        ({"server__bind_host": "10.0.0.5"}, "10.0.0.5:9191", 200),
        ({"server__bind_host": "10.0.0.5"}, "10.0.0.6:9191", 400),
        ({"server__bind_host": "0.0.0.0"}, "0.0.0.0:9191", 400),
        ({"server__bind_host": "::"}, "[::]:9191", 400),
        ({"auth__flavor": "trusted-auth"}, "images.example.org", 400),
        ({"auth__flavor": "trusted-auth"}, "127.0.0.1:9191", 200),
        ({"auth__flavor": "token", "auth__allow_anonymous_access": "true"}, "images.example.org", 200),
        ({"auth__flavor": "trusted-auth", "server__trusted_hosts": "registry"}, "images.example.org", 400),
        ({"auth__flavor": "trusted-auth", "server__trusted_hosts": "registry"}, "registry", 200),
    ],
)
def test_hosts_can_be_named_and_with_tokens_any_counts_unless_some_are(make_client, options, host, status):
    client = make_client(**options)

    assert client.get("/images", headers={"Host": host, **identity("owner")}).status_code == status


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /images HTTP/1.1\r\n", 400),
        (b"GET /images HTTP/1.0\r\n", 200),
        (b"GET /images HTTP/1.1\r\nHost:\r\n", 400),
        (b"GET /images HTTP/1.0\r\nHost: evil.example\r\n", 400),
        (b"GET /images HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", 400),
        (b"GET /images HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n", 400),
        (b"GET http://localhost:9191/images HTTP/1.1\r\nHost: localhost:9191\r\n", 200),
        (b"GET http://evil.example/images HTTP/1.1\r\nHost: localhost\r\n", 400),
        (b"GET http://localhost/images HTTP/1.1\r\nHost: evil.example\r\n", 400),
        (b"GET //evil.example/images HTTP/1.1\r\nHost: localhost\r\n", 404),
        (b"GET /images HTTP/1.1\r\nHost: [::1]:9191\r\n", 200),
        (b"GET /images HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Host: evil.example\r\n", 200),
    ],
)
def test_the_host_of_bytes_on_a_socket_counts(server, head, status):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head + b"Connection: close\r\n\r\n")
        answer = connection.makefile("rb").read()

    assert int(answer.split(None, 2)[1]) == status


# Origin and Sec-Fetch-Site


@pytest.mark.sampled
@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        *({"Origin": origin} for origin in OTHER_ORIGINS),
        *({"Sec-Fetch-Site": site} for site in ("cross-site", "same-site", "", "Same-Origin", "none, none")),
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:9191"},
        {"Sec-Fetch-Site": "none", "Origin": "null"},
    ],
    ids=str,
)
def test_a_write_of_another_sites_page_is_refused_and_changes_nothing(client, make_image, method, path, headers):
    image = make_image(members={"a": True})

    answer = write(client, method, path, image, {"Host": "localhost:9191", **headers})

    assert answer.status_code == 403
    assert "allowed_origins" in answer.json["detail"]
    assert client.get("/images/detail?is_public=none").json["images"] == [image]
    assert client.get(f"/images/{image['id']}/members").json["members"] == [{"member_id": "a", "can_share": True}]


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("localhost:9191", {}),
        ("localhost:9191", {"Origin": "http://localhost:9191", "Sec-Fetch-Site": "same-origin"}),
        ("localhost:9191", {"Origin": "http://localhost:9191"}),
        ("LOCALHOST:9191", {"Origin": "http://localhost:9191"}),
        ("localhost", {"Origin": "http://localhost"}),
        ("localhost:80", {"Origin": "http://localhost"}),
        ("[::1]:9191", {"Origin": "http://[::1]:9191"}),
        ("localhost", {"Origin": "https://localhost"}),  # a proxy in front has taken TLS off
        ("localhost:9191", {"Sec-Fetch-Site": "none"}),
    ],
)
def test_a_write_of_our_own_page_or_of_a_program_is_taken(client, make_image, host, headers):
    answer = write(client, "PUT", "{}", make_image(), {"Host": host, **headers})

    assert answer.status_code == 200


def test_over_tls_a_page_without_it_is_another(client, make_image):
    headers = {"Host": "localhost:9191", "Origin": "http://localhost:9191"}
    image = make_image()

    answers = [
        client.put(
            f"/images/{image['id']}", json={"image": {}}, headers=each, environ_overrides={"wsgi.url_scheme": "https"}
        )
        for each in (headers, headers | {"Origin": "https://localhost:9191"})
    ]

    assert [answer.status_code for answer in answers] == [403, 200]


def test_a_page_writes_for_no_flavor(make_client):
    client = make_client(auth__flavor="trusted-auth", server__trusted_hosts="images.example.org")
    headers = {**identity("owner"), "Host": "images.example.org", "Origin": "https://evil.example"}

    assert client.post("/images", json={"image": IMAGE}, headers=headers).status_code == 403
    headers["Origin"] = "https://images.example.org"
    assert client.post("/images", json={"image": IMAGE}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "content_type", "status"),
    [("POST", "/images", kind, 415) for kind in (None, "text/plain", "application/x-www-form-urlencoded")]
    + [("PUT", path, "text/plain", 415) for path in ("{}", "{}/members", "{}/members/b")],
)
def test_what_a_form_can_send_is_no_body(client, make_image, method, path, content_type, status):
    image = make_image()
    options = {"data": json.dumps({"image": IMAGE}), "headers": {"Content-Type": content_type} if content_type else {}}

    answer = client.open(path.format(f"/images/{image['id']}"), method=method, **options)

    assert answer.status_code == status
    assert client.get("/images/detail?is_public=none").json["images"] == [image]


# Allowed origins


def names_of_sharing(answer):
    return [name for name, _ in answer.headers if name.startswith("Access-Control") or name == "Vary"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_no_page_of_another_origin_is_let_in_by_default(client, method):
    headers = {"Origin": PAGE, "Access-Control-Request-Method": "GET"}

    assert names_of_sharing(client.open("/images", method=method, headers=headers)) == []


def test_an_allowed_origin_reads_and_writes(make_client):
    client = make_client(server__allowed_origins=f"{PAGE}, http://localhost:8000")
    headers = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}
    preflight = client.options("/images/x/members/a", headers={**headers, "Access-Control-Request-Method": "POST"})

    created = client.post("/images", json={"image": IMAGE}, headers=headers)
    refused = client.get("/images?limit=x", headers=headers)

    assert [preflight.status_code, created.status_code, refused.status_code] == [204, 200, 400]
    for answer in (preflight, created, refused):
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert answer.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in answer.headers
    assert preflight.headers["Access-Control-Allow-Methods"] == "GET, HEAD, POST, PUT, DELETE"
    assert "If-Match" in preflight.headers["Access-Control-Allow-Headers"]
    assert created.headers["Access-Control-Expose-Headers"] == "*"


@pytest.mark.parametrize("origin", [f"{PAGE}:444", f"{PAGE}.evil.example", "http://images.example.org", "null", None])
def test_an_origin_that_is_not_allowed_learns_only_that_it_varies(make_client, origin):
    client = make_client(server__allowed_origins=PAGE)
    headers = {"Origin": origin, "Access-Control-Request-Method": "GET"} if origin else {}

    for method in ("GET", "OPTIONS"):
        assert names_of_sharing(client.open("/images", method=method, headers=headers)) == ["Vary"]


# Headers


def test_every_answer_has_the_headers_that_keep_browsers_and_caches_off(client, make_image):
    image = make_image(members={"a": False})
    path = f"/images/{image['id']}"
    tag = client.get(path).headers["ETag"]
    asked = [("GET", path, {}, 200), ("HEAD", path, {}, 200), ("GET", path, {"If-None-Match": tag}, 304)]
    asked += [("OPTIONS", path, {}, 200), ("PUT", f"{path}/members/b", {}, 204), ("GET", "/images", {}, 200)]
    asked += [("GET", "/nowhere", {}, 404), ("PATCH", path, {}, 405), ("GET", "/images?limit=x", {}, 400)]
    asked += [("GET", "/", {"Host": "evil.example"}, 400), ("POST", "/images", {"Origin": "null"}, 403)]
    asked += [("POST", "/images", {}, 415), ("DELETE", path, {"If-Match": '"1"'}, 412)]

    for method, place, headers, status in asked:
        answer = client.open(place, method=method, headers=headers)

        assert answer.status_code == status
        assert {name: answer.headers.getlist(name) for name in SAFE} == {name: [value] for name, value in SAFE.items()}


def without_table(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE image RENAME TO gone")


def without_database(path):
    path.write_bytes(b"no database" * 1000)


@pytest.mark.parametrize(("harm", "status"), [(without_table, 500), (without_database, 503)])
def test_an_unforeseen_error_and_one_of_the_database_have_them_too(client, database_path, harm, status):
    harm(database_path)

    answer = client.get("/images")

    assert answer.status_code == status
    assert {name: answer.headers[name] for name in SAFE} == SAFE


@pytest.mark.exhaustive
def test_another_port_than_the_documented_one_is_our_own(start_server):
    server = start_server()

    statuses = [
        server.request("POST", "/images", {"image": IMAGE}, {"Origin": f"http://127.0.0.1:{port}"})[0]
        for port in (server.port, server.port - 1)
    ]

    assert statuses == [200, 403]
