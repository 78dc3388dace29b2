"""Access rights: every route for every caller, inaccessible images, and the order of the checks."""

import re
import uuid

import pytest
from conftest import CALLERS, IMAGE, identity

ALL_CALLERS = (*CALLERS, "admin@acme")
MEMBERS = {"member": False, "sharer": True}
LOCATION_DATA = [{"url": "swift://user:secret@host/image", "metadata": {"region": "north"}, "status": "active"}]
REDACTED_LOCATIONS = (None, [])
SHOWN_LOCATIONS = (LOCATION_DATA[0]["url"], LOCATION_DATA)

ROUTES = {
    "show": ("GET", "/images/{id}", None),
    "head": ("HEAD", "/images/{id}", None),
    "update": ("PUT", "/images/{id}", {"image": {"name": "renamed"}}),
    "delete": ("DELETE", "/images/{id}", None),
    "list members": ("GET", "/images/{id}/members", None),
    "head members": ("HEAD", "/images/{id}/members", None),
    "replace members": ("PUT", "/images/{id}/members", {"memberships": [{"member_id": "newcomer"}]}),
    "add member": ("PUT", "/images/{id}/members/newcomer", None),
    "change member": ("PUT", "/images/{id}/members/member", {"member": {"can_share": True}}),
    "remove member": ("DELETE", "/images/{id}/members/member", None),
    "undelete": ("POST", "/images/{id}/undelete", None),
    "history": ("GET", "/images/{id}/history", None),
    "head history": ("HEAD", "/images/{id}/history", None),
    "options": ("OPTIONS", "/images/{id}", None),
    "members' options": ("OPTIONS", "/images/{id}/members", None),
    "undelete's options": ("OPTIONS", "/images/{id}/undelete", None),
    "history's options": ("OPTIONS", "/images/{id}/history", None),
}
OPTIONS = ("options", "members' options", "undelete's options", "history's options")
READING = ("show", "head", "list members", "head members")
CHANGING = ("update", "delete")
SHARING = ("replace members", "add member", "change member", "remove member")
UNDELETING = ("undelete",)
HISTORY = ("history", "head history")

# One status per caller: anonymous, tenantless, stranger, member, sharer, owner, admin, admin with a tenant.
TABLE = [
    ("public", READING, (200, 200, 200, 200, 200, 200, 200, 200)),
    ("protected", READING, (200, 200, 200, 200, 200, 200, 200, 200)),
    ("shared", READING, (404, 404, 404, 200, 200, 200, 200, 200)),
    ("private", READING, (404, 404, 404, 404, 404, 200, 200, 200)),
    ("deleted", READING, (404, 404, 404, 404, 404, 404, 200, 200)),
    ("public", CHANGING, (401, 403, 403, 403, 403, 200, 200, 200)),
    ("protected", ("update",), (401, 403, 403, 403, 403, 200, 200, 200)),
    ("protected", ("delete",), (401, 403, 403, 403, 403, 403, 403, 403)),
    ("shared", CHANGING, (404, 404, 404, 403, 403, 200, 200, 200)),
    ("private", CHANGING, (404, 404, 404, 404, 404, 200, 200, 200)),
    ("deleted", CHANGING, (404, 404, 404, 404, 404, 404, 200, 200)),
    ("public", SHARING, (401, 401, 403, 403, 204, 204, 204, 204)),
    ("protected", SHARING, (401, 401, 403, 403, 204, 204, 204, 204)),
    ("shared", SHARING, (404, 404, 404, 403, 204, 204, 204, 204)),
    ("private", SHARING[:-1], (404, 404, 404, 404, 404, 204, 204, 204)),
    ("private", SHARING[-1:], (404, 404, 404, 404, 404, 404, 404, 404)),  # who is no member cannot be removed
    ("deleted", SHARING, (404, 404, 404, 404, 404, 404, 204, 204)),
    ("public", HISTORY, (401, 403, 403, 403, 403, 200, 200, 200)),
    ("protected", HISTORY, (401, 403, 403, 403, 403, 200, 200, 200)),
    ("shared", HISTORY, (404, 404, 404, 403, 403, 200, 200, 200)),
    ("private", HISTORY, (404, 404, 404, 404, 404, 200, 200, 200)),
    ("deleted", HISTORY, (404, 404, 404, 404, 404, 404, 200, 200)),
    ("public", UNDELETING, (401, 403, 403, 403, 403, 403, 200, 200)),
    ("protected", UNDELETING, (401, 403, 403, 403, 403, 403, 200, 200)),
    ("shared", UNDELETING, (404, 404, 404, 403, 403, 403, 200, 200)),
    ("private", UNDELETING, (404, 404, 404, 404, 404, 403, 200, 200)),
    ("deleted", UNDELETING, (404, 404, 404, 404, 404, 404, 200, 200)),
    *[(kind, OPTIONS, (200,) * 8) for kind in ("public", "protected", "shared", "private", "deleted")],
]
READS = ("GET", "HEAD", "OPTIONS")
LISTS = ("/", "/images", "/images/detail", "/shared-images/*")
FOR_ALL = (*LISTS, "/healthcheck", "/metrics", "/docs", "/docs/rapidoc.js", "/openapi.json", "/versions")
MATRIX = [(kind, route, statuses) for kind, routes, statuses in TABLE for route in routes]
EXPECTED = {(kind, route): statuses for kind, route, statuses in MATRIX}
KINDS = ("public", "protected", "shared", "private", "deleted")


def fields_of(kind):
    """What make_image takes for an image of the owner's of one of KINDS, with members, but for a private one."""
    fields = {"owner": "owner", "location_data": LOCATION_DATA, "members": () if kind == "private" else MEMBERS}
    fields |= {"protected": kind == "protected", "is_deleted": kind == "deleted"}
    return fields | {"is_public": kind not in ("shared", "private")}


def send(client, route, image_id, **options):
    method, path, body = ROUTES[route]
    return client.open(path.format(id=image_id), method=method, json=body, **options)


def state_of(client, image_id):
    """All that an admin sees of an image."""
    return [client.get(f"/images/{image_id}{part}").json for part in ("", "/members", "/history")]


@pytest.mark.parametrize(("kind", "route", "expected"), MATRIX, ids=[f"{route}-{kind}" for kind, route, _ in MATRIX])
def test_the_table_of_rights_holds_and_who_is_refused_changes_nothing(client_as, make_image, kind, route, expected):
    images = {caller: make_image(**fields_of(kind)) for caller in ALL_CALLERS}
    admin = client_as("admin")
    before = {caller: state_of(admin, image["id"]) for caller, image in images.items()}

    statuses = {caller: send(client_as(caller), route, image["id"]).status_code for caller, image in images.items()}

    after = {caller: state_of(admin, image["id"]) for caller, image in images.items()}
    refused = [caller for caller in ALL_CALLERS if statuses[caller] >= 400]
    assert statuses == dict(zip(ALL_CALLERS, expected, strict=True))
    assert {caller: after[caller] for caller in refused} == {caller: before[caller] for caller in refused}


def test_only_a_tenants_user_or_an_admin_registers_images(client_as):
    statuses = {}
    for caller in ALL_CALLERS:
        statuses[caller] = client_as(caller).post("/images", json={"image": IMAGE}).status_code

    assert statuses == dict(zip(ALL_CALLERS, (401, 403, 200, 200, 200, 200, 200, 200), strict=True))
    assert len(client_as("admin").get("/images?is_public=none").json["images"]) == 6


@pytest.mark.sampled
@pytest.mark.parametrize("caller", ALL_CALLERS)
@pytest.mark.parametrize("path", [path.replace("*", "member") for path in LISTS])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_lists_are_for_everybody(client_as, caller, path, method):
    response = client_as(caller).open(path, method=method)

    assert response.status_code == 200


def test_the_table_of_rights_has_every_route_and_image(client):
    assert set(EXPECTED) == {(kind, route) for kind in KINDS for route in ROUTES}
    assert len(EXPECTED) == len(MATRIX)
    assert routes_of(client.application) == judged()


def test_a_planted_route_is_found_to_be_in_no_table(client):
    client.application.add_url_rule("/images/<image_id:image_id>/leak", "leak", lambda image_id: "", methods=["GET"])

    assert routes_of(client.application) - judged() == {(method, "/images/*/leak") for method in READS}


def routes_of(application):
    """{(method, path)} of all that is no page: those have their own tests (tests/test_ui_rights.py)."""
    rules = [rule for rule in application.url_map.iter_rules() if not rule.endpoint.startswith("ui")]
    return {(method, re.sub("<.*?>", "*", rule.rule)) for rule in rules for method in rule.methods}


def judged():
    """What has rows in the table, what is for everybody (lists, and what names no image), and registering."""
    of_images = {(method, path.format(id="*")) for method, path, _ in ROUTES.values()}
    of_images = {(method, re.sub("/members/.+", "/members/*", path)) for method, path in of_images}
    return of_images | {(method, path) for path in FOR_ALL for method in READS} | {("POST", "/images")}


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("route", ROUTES)
def test_with_flavor_none_everybody_is_an_admin_whatever_the_identity_headers_say(client, make_image, kind, route):
    as_admin = dict(zip(ALL_CALLERS, EXPECTED[kind, route], strict=True))["admin"]
    images = {caller: make_image(**fields_of(kind)) for caller in ALL_CALLERS}

    statuses = {
        caller: send(client, route, image["id"], headers=identity(caller)).status_code
        for caller, image in images.items()
    }

    assert statuses == dict.fromkeys(ALL_CALLERS, as_admin)


@pytest.mark.parametrize("caller", CALLERS)
def test_with_flavor_none_an_image_is_registered_by_an_admin_without_a_tenant(client, caller):
    headers = identity(caller)

    unowned = client.post("/images", json={"image": IMAGE}, headers=headers)
    owned = client.post("/images", json={"image": {**IMAGE, "owner": "somebody"}}, headers=headers)

    assert (unowned.status_code, owned.status_code) == (200, 200)
    assert unowned.json["image"]["owner"] is None
    assert owned.json["image"]["owner"] == "somebody"


@pytest.mark.parametrize("caller", ["anonymous", "tenantless", "stranger"])
def test_an_image_without_owner_is_nobodys(client_as, make_image, caller):
    public, private = make_image(is_public=True), make_image(is_public=False)
    expected = 401 if caller == "anonymous" else 403

    assert client_as(caller).get(f"/images/{private['id']}").status_code == 404
    assert client_as(caller).put(f"/images/{public['id']}", json={"image": {"name": "mine"}}).status_code == expected
    assert client_as(caller).delete(f"/images/{public['id']}").status_code == expected


def test_an_owner_may_not_give_an_image_away_and_an_admin_may(client_as, make_image):
    image = make_image(owner="owner")
    body = {"image": {"owner": "stranger"}}

    by_owner = client_as("owner").put(f"/images/{image['id']}", json=body)
    by_admin = client_as("admin").put(f"/images/{image['id']}", json=body)

    assert (by_owner.status_code, by_owner.json["image"]["owner"]) == (200, "owner")
    assert (by_admin.status_code, by_admin.json["image"]["owner"]) == (200, "stranger")
    assert client_as("owner").get(f"/images/{image['id']}").status_code == 404


# Who sees locations


def locations_shown(client, image_id, headers=None):
    """{route: (location, location_data)} in every answer that has a full record, and the header's value."""
    shown = client.get(f"/images/{image_id}", headers=headers)
    listed = client.get("/images/detail", headers=headers).json["images"]
    records = {"show": shown.json["image"], "detail": next(image for image in listed if image["id"] == image_id)}
    found = {route: (image["location"], image["location_data"]) for route, image in records.items()}
    heads = [shown, client.head(f"/images/{image_id}", headers=headers)]
    return found, [response.headers["x-image-meta-location"] for response in heads]


@pytest.mark.parametrize(
    ("caller", "is_shown"),
    [
        *[("anonymous", False), ("tenantless", False), ("stranger", False), ("member", False), ("sharer", False)],
        *[("owner", True), ("admin", True), ("admin@acme", True)],
    ],
)
def test_locations_are_shown_to_owner_and_admin_only(client_as, make_image, caller, is_shown):
    image = make_image(**{**fields_of("public"), "owner": "acme" if caller == "admin@acme" else "owner"})
    expected = SHOWN_LOCATIONS if is_shown else REDACTED_LOCATIONS

    found, headers = locations_shown(client_as(caller), image["id"])

    assert found == {"show": expected, "detail": expected}
    assert headers == [expected[0] or ""] * 2


@pytest.mark.parametrize("caller", ALL_CALLERS)
def test_all_see_locations_where_expose_locations_is_all(make_client, caller):
    options = {"auth__flavor": "trusted-auth", "auth__allow_anonymous_access": "true"}
    client = make_client(**options, api__expose_locations="all")
    body = {"image": {**IMAGE, "is_public": True, "location_data": LOCATION_DATA}}
    image = client.post("/images", json=body, headers=identity("owner")).json["image"]

    found, headers = locations_shown(client, image["id"], identity(caller))

    assert found == {"show": SHOWN_LOCATIONS, "detail": SHOWN_LOCATIONS}
    assert headers == [SHOWN_LOCATIONS[0]] * 2


@pytest.mark.parametrize("caller", ["owner", "admin"])
def test_who_may_write_an_image_sees_its_locations_in_the_answer(client_as, caller):
    client = client_as(caller)

    created = client.post("/images", json={"image": {**IMAGE, "location_data": LOCATION_DATA}})
    path = created.headers["Location"]
    updated = client.put(path, json={"image": {"name": "renamed"}})
    deleted = client.delete(path)

    shown = [response.json["image"] for response in (created, updated, deleted)]
    assert [(image["location"], image["location_data"]) for image in shown] == [SHOWN_LOCATIONS] * 3


def test_the_etag_with_locations_redacted_is_another_than_with_locations_shown(client_as, make_image):
    path = f"/images/{make_image(**fields_of('public'))['id']}"
    tags = {caller: client_as(caller).get(path).headers["ETag"] for caller in ALL_CALLERS}

    shown = {tags[caller] for caller in ("owner", "admin", "admin@acme")}
    redacted = {tags[caller] for caller in ("anonymous", "tenantless", "stranger", "member", "sharer")}

    assert (len(shown), len(redacted)) == (1, 1)
    assert shown != redacted
    assert client_as("stranger").get(path, headers={"If-None-Match": shown.pop()}).status_code == 200
    assert client_as("owner").get(path, headers={"If-None-Match": redacted.pop()}).status_code == 200


# The order of the checks: identity, route, method, visibility, rights, body, state

EVERY_PATH = [
    *[("GET", "/"), ("GET", "/images"), ("HEAD", "/images"), ("GET", "/images/detail"), ("POST", "/images")],
    *[("GET", "/images/{id}"), ("HEAD", "/images/{id}"), ("PUT", "/images/{id}"), ("DELETE", "/images/{id}")],
    *[("GET", "/images/{id}/members"), ("PUT", "/images/{id}/members"), ("PUT", "/images/{id}/members/member")],
    *[("DELETE", "/images/{id}/members/member"), ("GET", "/shared-images/member"), ("GET", "/nowhere")],
    *[("POST", "/images/{id}/undelete"), ("GET", "/images/{id}/history"), ("GET", "/images?q=x&count=true")],
    *[("PATCH", "/images/{id}"), ("PUT", "/images/detail"), ("FOO", "/nowhere")],
]


def test_without_identity_every_request_is_refused_before_anything_else_is_looked_at(make_client):
    client = make_client(auth__flavor="trusted-auth", auth__allow_anonymous_access="false")
    public = {"image": {**IMAGE, "is_public": True}}
    image = client.post("/images", json=public, headers=identity("owner")).json["image"]

    statuses = {
        (method, path): client.open(path.format(id=image["id"]), method=method, data="{").status_code
        for method, path in EVERY_PATH
    }

    assert statuses == dict.fromkeys(EVERY_PATH, 401)
    assert client.get(f"/images/{image['id']}", headers=identity("owner")).json["image"] == image


def test_an_anonymous_caller_reads_public_images_where_that_is_allowed(client_as, make_image):
    public, private = make_image(name="public", is_public=True), make_image(name="private", is_public=False)
    client = client_as("anonymous")

    assert [image["name"] for image in client.get("/images").json["images"]] == ["public"]
    assert client.get(f"/images/{public['id']}").status_code == 200
    assert client.get(f"/images/{private['id']}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/images", "/images/detail", "/images/{id}", "/images/{id}/members", "/images/{id}/history"),
        "/shared-images/member",
    ],
)
def test_options_needs_no_identity_and_works_wherever_get_does(make_client, path):
    client = make_client(auth__flavor="trusted-auth", auth__allow_anonymous_access="false")

    response = client.options(path.format(id=uuid.uuid4()))

    assert (response.status_code, response.data) == (200, b"")
    assert {"GET", "HEAD", "OPTIONS"} <= set(response.headers["Allow"].split(", "))


def test_options_on_an_unknown_path_is_404_without_identity_too(make_client):
    client = make_client(auth__flavor="trusted-auth", auth__allow_anonymous_access="false")

    assert client.options("/nowhere").status_code == 404


INACCESSIBLE, PUBLIC = "inaccessible", "public"
FORM = {"content_type": "application/x-www-form-urlencoded"}
JSON = {"content_type": "application/json"}
HUGE = b" " * 2000
STALE = {"headers": {"If-Match": '"stale"'}}


@pytest.mark.parametrize(
    ("caller", "method", "path", "options", "status"),
    [
        ("stranger", "FOO", "/nowhere", {}, 404),  # route before method
        ("stranger", "PATCH", "/images/{inaccessible}", {}, 405),  # method before visibility
        ("stranger", "POST", "/images/{inaccessible}/members", {}, 405),
        ("stranger", "GET", "/images/{inaccessible}/members/member", {}, 405),
        ("stranger", "PUT", "/images/{inaccessible}", {"data": HUGE, **FORM}, 404),  # visibility before the body
        ("stranger", "PUT", "/images/{inaccessible}/members", {"data": HUGE, **FORM}, 404),
        ("stranger", "PUT", "/images/{inaccessible}/members/x", {"data": HUGE, **FORM}, 404),
        ("anonymous", "PUT", "/images/{inaccessible}", {"data": "{", **JSON}, 404),  # visibility before rights
        ("anonymous", "PUT", "/images/{public}", {"data": HUGE, **FORM}, 401),  # rights before the body
        ("stranger", "PUT", "/images/{public}", {"data": HUGE, **FORM}, 403),
        ("stranger", "PUT", "/images/{public}", {"data": "{", **JSON, **STALE}, 403),
        ("stranger", "DELETE", "/images/{public}", STALE, 403),  # rights before state
        ("stranger", "PUT", "/images/{public}/members", {"data": HUGE, **FORM}, 403),
        ("stranger", "PUT", "/images/{public}/members/x", {"data": HUGE, **FORM}, 403),
        ("stranger", "DELETE", "/images/{public}/members/nobody", {}, 403),
        ("anonymous", "POST", "/images", {"data": HUGE, **FORM}, 401),
        ("tenantless", "POST", "/images", {"data": HUGE, **FORM}, 403),
        ("owner", "POST", "/images", {"data": HUGE, **FORM}, 415),  # the body's type, then size, then content
        ("owner", "POST", "/images", {"data": HUGE, **JSON}, 413),
        ("owner", "POST", "/images", {"data": "{", **JSON}, 400),
        ("owner", "PUT", "/images/{public}", {"data": HUGE, **FORM, **STALE}, 415),  # the body before state
        ("owner", "PUT", "/images/{public}", {"data": HUGE, **JSON, **STALE}, 413),
        ("owner", "PUT", "/images/{public}", {"data": "{", **JSON, **STALE}, 400),
        ("owner", "PUT", "/images/{public}", {"json": {"image": {"size": -1}, "from_state": "queued"}, **STALE}, 400),
        ("owner", "PUT", "/images/{public}", {"json": {"image": {"disk_format": "ami"}}, **STALE}, 400),
        ("owner", "PUT", "/images/{public}", {"json": {"image": {"size": 1}, "from_state": "queued"}}, 409),
        ("owner", "PUT", "/images/{public}", {"json": {"image": {"size": 1}}, **STALE}, 412),
        ("owner", "DELETE", "/images/{public}", STALE, 412),
        ("stranger", "GET", "/images/{inaccessible}/undelete", {}, 405),
        ("stranger", "POST", "/images/{inaccessible}/history", {}, 405),
        ("stranger", "POST", "/images/{inaccessible}/undelete", {"data": HUGE, **FORM}, 404),
        ("anonymous", "POST", "/images/{public}/undelete", {"data": HUGE, **FORM}, 401),
        ("stranger", "POST", "/images/{public}/undelete", {"data": HUGE, **FORM}, 403),
        ("owner", "POST", "/images/{public}/undelete", {"data": HUGE, **FORM, **STALE}, 403),
        ("owner", "POST", "/images/{inaccessible}/undelete", {"data": "{", **JSON}, 403),
        ("admin", "POST", "/images/{public}/undelete", {"data": HUGE, **FORM, **STALE}, 415),
        ("admin", "POST", "/images/{public}/undelete", {"data": HUGE, **JSON, **STALE}, 413),
        ("admin", "POST", "/images/{public}/undelete", {"data": "{", **JSON, **STALE}, 400),
        ("admin", "POST", "/images/{public}/undelete", STALE, 412),
    ],
)
def test_checks_come_in_order_and_a_refused_request_changes_nothing(make_client, caller, method, path, options, status):
    settings = {"auth__flavor": "trusted-auth", "auth__allow_anonymous_access": "true", "api__max_body_bytes": 1024}
    client = make_client(**settings)
    paths = {}
    for name in (INACCESSIBLE, PUBLIC):
        body = {"image": {**IMAGE, "is_public": name == PUBLIC, "name": name}}
        paths[name] = client.post("/images", json=body, headers=identity("owner")).json["image"]["id"]
    before = [state_as_admin(client, image_id) for image_id in paths.values()]
    headers = {**identity(caller), **options.get("headers", {})}

    response = client.open(path.format(**paths), method=method, **{**options, "headers": headers})

    assert response.status_code == status
    assert [state_as_admin(client, image_id) for image_id in paths.values()] == before
    assert len(client.get("/images?is_public=none", headers=identity("admin")).json["images"]) == 2


def state_as_admin(client, image_id):
    headers = identity("admin")
    paths = [f"/images/{image_id}{part}" for part in ("", "/members", "/history")]
    return [client.get(path, headers=headers).json for path in paths]
