"""Answers about inaccessible images: to the byte those about no image."""

import uuid

import pytest
from test_rights import ALL_CALLERS, EXPECTED, KINDS, ROUTES, fields_of

NOBODIES = ("anonymous", "tenantless", "stranger")
INACCESSIBLE_TO = {
    "shared": NOBODIES,
    "private": (*NOBODIES, "member", "sharer"),
    "deleted": (*NOBODIES, "member", "sharer", "owner"),
}
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "FOO")
TAKEN = {
    "/images/{id}": ("GET", "HEAD", "OPTIONS", "PUT", "DELETE"),
    "/images/{id}/members": ("GET", "HEAD", "OPTIONS", "PUT"),
    "/images/{id}/members/member": ("PUT", "DELETE"),
    "/images/{id}/undelete": ("OPTIONS", "POST"),
    "/images/{id}/history": ("GET", "HEAD", "OPTIONS"),
}
NOT_TAKEN = [(method, path) for path, taken in TAKEN.items() for method in METHODS if method not in taken]
SAME_ID = {"X-Openstack-Request-Id": "the-same"}
# More ways to name an image, with the status where it is inaccessible: (method, path, options, status).
NAMINGS = [
    *[("PUT", "/images/{id}", {"data": content}, 404) for content in ("", "{", "[]", "x" * 5000)],
    ("PUT", "/images/{id}", {"data": "a=b", "content_type": "application/x-www-form-urlencoded"}, 404),
    ("PUT", "/images/{id}", {"json": {"image": {"size": -1}, "from_state": "queued"}}, 404),
    ("PUT", "/images/{id}", {"json": {"image": {}}, "headers": {"X-Glance-Registry-Purge-Props": "true"}}, 404),
    *[("GET", "/images/{id}", {"headers": {"If-None-Match": tag}}, 404) for tag in ("*", '"1"')],
    *[(method, "/images/{id}", {"headers": {"If-Match": '"1"'}}, 404) for method in ("PUT", "DELETE")],
    ("POST", "/images/{id}/undelete", {"headers": {"If-Match": '"1"'}}, 404),
    *[("POST", "/images/{id}/undelete", {"data": content}, 404) for content in ("{", "x" * 5000)],
    *[("GET", f"/images/{{id}}/history{query}", {}, 404) for query in ("?limit=x", "/")],
    ("GET", "/images/{id}/", {}, 404),
    ("GET", "/images/{id}?limit=x&is_public=none&deleted=true", {}, 404),
    ("PUT", "/images/{id}/members", {"data": "{"}, 404),
    ("PUT", "/images/{id}/members", {"json": {"memberships": [{"member_id": ""}]}}, 404),
    ("PUT", "/images/{id}/members/member", {"data": "{"}, 404),
    *[("PUT", f"/images/{{id}}/members/{member}", {}, 404) for member in ("stranger", "a" * 256, "%FF")],
    *[("DELETE", f"/images/{{id}}/members/{member}", {}, 404) for member in ("nobody", "sharer", "%FF")],
    *[("GET", f"{path}?marker={{id}}", {}, 400) for path in ("/", "/images", "/images/detail")],
    ("GET", "/images?marker={id}&position=WyJhIl0&limit=1&sort_key=name", {}, 400),
]


def seen(client, method, path, headers=(), **options):
    """(status, headers, body): all that there is of an answer, but for the request's id."""
    answer = client.open(path, method=method, headers={**dict(headers), **SAME_ID}, **options)
    return answer.status_code, [*answer.headers], answer.data


def require_inaccessible_as_none(client, inaccessible, expected):
    """Require that every request about the image ``inaccessible`` is answered as one for no image.

    ``expected`` are the statuses: {route of ROUTES: status}.
    """
    unknown = str(uuid.uuid4())
    asked = [(*ROUTES[route][:2], {"json": ROUTES[route][2]}, status) for route, status in expected.items()]
    for method, path, options, status in [*asked, *NAMINGS]:
        answer = seen(client, method, path.format(id=inaccessible), **options)
        assert (method, path, answer[0]) == (method, path, status)
        assert answer == seen(client, method, path.format(id=unknown), **options)
        assert answer == seen(client, method, path.format(id=inaccessible.upper().replace("-", "")), **options)


LISTS = ["/", "/images", "/images/detail", "/shared-images/member", "/shared-images/sharer", "/shared-images/owner"]
QUERIES = ["limit=1", "limit=2&sort_key=name&sort_dir=asc", "limit=0", "owner=owner", "is_public=none&deleted=true"]
QUERIES += ["is_public=false", "changes-since=1970-01-01&limit=1", "property-os_distro=cirros", "size_min=0"]
QUERIES += [
    "q=cirros&count=true",
    "q=cirr&limit=1",
    "count=true&limit=1",
    "q=NOT&count=true",
    "q=cirros&is_public=none&count=1",
]


def lists_seen(client):
    """Every list, with its Link to the next page."""
    return [seen(client, "GET", f"{path}?{query}") for path in LISTS for query in QUERIES]


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", INACCESSIBLE_TO)
def test_an_inaccessible_image_is_answered_to_the_byte_as_an_unknown_id(client_as, make_image, kind):
    inaccessible = make_image(**fields_of(kind))["id"]

    for caller in INACCESSIBLE_TO[kind]:
        expected = {route: EXPECTED[kind, route][ALL_CALLERS.index(caller)] for route in ROUTES}
        require_inaccessible_as_none(client_as(caller), inaccessible, expected)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", INACCESSIBLE_TO)
def test_lists_with_an_inaccessible_image_are_to_the_byte_those_without(client_as, make_image, kind):
    for name in ("first", "second", "third"):
        make_image(name=name, is_public=True, properties={"os_distro": "cirros"})
    before = {caller: lists_seen(client_as(caller)) for caller in INACCESSIBLE_TO[kind]}

    make_image(**fields_of(kind), size=1, properties={"os_distro": "cirros"})

    assert {caller: lists_seen(client_as(caller)) for caller in INACCESSIBLE_TO[kind]} == before
    assert any("Link" in dict(headers) for _, headers, _ in before["stranger"])


@pytest.mark.parametrize("member_id", ["member", "nobody"])
def test_whether_an_inaccessible_image_has_a_member_does_not_show(client_as, make_image, member_id):
    image = make_image(**fields_of("shared"))

    response = client_as("stranger").delete(f"/images/{image['id']}/members/{member_id}")

    assert response.status_code == 404
    assert response.json["detail"] == client_as("stranger").get(f"/images/{uuid.uuid4()}").json["detail"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_a_method_that_a_path_does_not_take_is_405_for_everybody_whatever_the_image(client_as, make_image, kind):
    image_id, unknown = make_image(**fields_of(kind))["id"], str(uuid.uuid4())

    for caller in ALL_CALLERS:
        client = client_as(caller)
        for method, path in NOT_TAKEN:
            answer = seen(client, method, path.format(id=image_id))
            assert (caller, method, answer[0]) == (caller, method, 405)
            assert answer == seen(client, method, path.format(id=unknown))
