"""Who may do what with flavor token: the table of rights, and tokens that do not count or may only read."""

from datetime import timedelta

import pytest
from conftest import IMAGE, identity
from test_rights import ALL_CALLERS, CHANGING, MATRIX, MEMBERS, ROUTES, SHARING, fields_of, send, state_of

import tokens

TOKEN_CALLERS = (*ALL_CALLERS, "read-only", "read-only admin", "expired", "revoked", "unknown")
WRITING = (*CHANGING, *SHARING)


def token_statuses(route, statuses):
    """As TABLE has it, and then those who come with a token alone."""
    owner, admin = statuses[5], statuses[6]
    reading = [403 if route in WRITING and status != 404 else status for status in (owner, admin)]
    return (*statuses, *reading, 401, 401, 401)


@pytest.fixture
def client_by_token(make_client):
    """A function: the client as one of TOKEN_CALLERS, with a token of the database's."""
    application = make_client(auth__flavor="token", auth__allow_anonymous_access="true").application
    texts = {"unknown": "registry_" + "x" * 43}

    def token_of(caller):
        if caller not in texts:
            headers = identity({"read-only": "owner", "read-only admin": "admin"}.get(caller, caller))
            lasts = timedelta(seconds=-1) if caller == "expired" else None
            options = {"is_read_only": caller.startswith("read-only"), "lasts": lasts}
            number, texts[caller] = tokens.create(headers["X-Tenant-Id"], [headers["X-Roles"]], **options)
            if caller == "revoked":
                tokens.revoke(number)
        return texts[caller]

    def make(caller):
        test_client = application.test_client()
        if caller != "anonymous":
            test_client.environ_base["HTTP_X_AUTH_TOKEN"] = token_of(caller)
        return test_client

    return make


def make_image_of_kind(admin, kind):
    """As fields_of has it, by an admin's client."""
    fields = {name: value for name, value in fields_of(kind).items() if name not in ("members", "is_deleted")}
    image = admin.post("/images", json={"image": {**IMAGE, **fields}}).json["image"]
    memberships = [{"member_id": member, "can_share": can_share} for member, can_share in MEMBERS.items()]
    admin.put(f"/images/{image['id']}/members", json={"memberships": memberships})
    if kind == "protected":
        admin.put(f"/images/{image['id']}", json={"image": {"protected": True}})
    if kind == "deleted":
        admin.delete(f"/images/{image['id']}")
    return image["id"]


@pytest.mark.parametrize(("kind", "route", "expected"), MATRIX, ids=[f"{route}-{kind}" for kind, route, _ in MATRIX])
def test_the_table_of_rights_holds_for_tokens(client_by_token, kind, route, expected):
    admin = client_by_token("admin")
    images = {caller: make_image_of_kind(admin, kind) for caller in TOKEN_CALLERS}
    before = {caller: state_of(admin, image_id) for caller, image_id in images.items()}

    statuses = {
        caller: send(client_by_token(caller), route, image_id).status_code for caller, image_id in images.items()
    }

    after = {caller: state_of(admin, image_id) for caller, image_id in images.items()}
    refused = [caller for caller in TOKEN_CALLERS if statuses[caller] >= 400]
    assert statuses == dict(zip(TOKEN_CALLERS, token_statuses(route, expected), strict=True))
    assert {caller: after[caller] for caller in refused} == {caller: before[caller] for caller in refused}


@pytest.mark.parametrize("route", ROUTES)
def test_a_protected_image_may_be_deleted_by_nobody_and_else_the_table_holds(client_by_token, route):
    (expected,) = (statuses for kind, name, statuses in MATRIX if (kind, name) == ("public", route))
    admin = client_by_token("admin")
    images = {caller: make_image_of_kind(admin, "protected") for caller in TOKEN_CALLERS}

    statuses = {
        caller: send(client_by_token(caller), route, image_id).status_code for caller, image_id in images.items()
    }

    wanted = dict(zip(TOKEN_CALLERS, token_statuses(route, expected), strict=True))
    if route == "delete":
        wanted = {caller: 403 if status == 200 else status for caller, status in wanted.items()}
    assert statuses == wanted


@pytest.mark.parametrize("path", ["/", "/images", "/images/detail", "/shared-images/member"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_lists_are_for_everybody_but_for_tokens_that_do_not_count(client_by_token, path, method):
    statuses = {caller: client_by_token(caller).open(path, method=method).status_code for caller in TOKEN_CALLERS}

    assert statuses == dict.fromkeys(TOKEN_CALLERS, 200) | dict.fromkeys(TOKEN_CALLERS[-3:], 401)


def test_only_tokens_of_a_tenant_or_an_admin_that_may_write_register_images(client_by_token):
    statuses = {
        caller: client_by_token(caller).post("/images", json={"image": IMAGE}).status_code for caller in TOKEN_CALLERS
    }

    expected = (401, 403, 200, 200, 200, 200, 200, 200, 403, 403, 401, 401, 401)
    assert statuses == dict(zip(TOKEN_CALLERS, expected, strict=True))


@pytest.mark.parametrize(
    ("kind", "callers"),
    [
        ("private", ("anonymous", "tenantless", "stranger")),
        ("deleted", ("anonymous", "tenantless", "stranger", "member", "sharer", "owner", "read-only")),
        ("private", ("expired", "revoked", "unknown")),
    ],
)
def test_a_hidden_image_is_answered_to_the_byte_as_an_unknown_id(client_by_token, kind, callers):
    hidden = make_image_of_kind(client_by_token("admin"), kind)
    headers = {"X-Openstack-Request-Id": "the-same"}

    def answers(caller, image_id):
        responses = [send(client_by_token(caller), route, image_id, headers=headers) for route in ROUTES]
        return [(response.status, [*response.headers], response.data) for response in responses]

    for caller in callers:
        of_hidden = answers(caller, hidden)
        expected = "401 UNAUTHORIZED" if caller in ("expired", "revoked", "unknown") else "404 NOT FOUND"
        assert {status for status, _, _ in of_hidden} == {expected}
        assert of_hidden == answers(caller, "00000000-0000-4000-8000-000000000000")
