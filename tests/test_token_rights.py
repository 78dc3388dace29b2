"""Access rights with flavor token: the table of rights, and invalid and read-only tokens."""

from datetime import timedelta

import pytest
from conftest import IMAGE, identity
from test_leaks import INACCESSIBLE_TO, NOT_TAKEN, lists_seen, require_inaccessible_as_none, seen
from test_rights import (
    ALL_CALLERS,
    CHANGING,
    EXPECTED,
    KINDS,
    OPTIONS,
    ROUTES,
    SHARING,
    UNDELETING,
    fields_of,
    send,
    state_of,
)

import auth

TOKEN_CALLERS = (*ALL_CALLERS, "read-only", "read-only admin", "expired", "revoked", "unknown")
OWNER, ADMIN = ALL_CALLERS.index("owner"), ALL_CALLERS.index("admin")
REFUSED = ("expired", "revoked", "unknown")
WRITING = (*CHANGING, *SHARING, *UNDELETING)


def token_statuses(kind, route):
    """As TABLE has it, and then those who come with a token alone."""
    statuses, shown = EXPECTED[kind, route], EXPECTED[kind, "show"]
    if route in OPTIONS:
        return (200,) * len(TOKEN_CALLERS)
    reading = [403 if route in WRITING and shown[who] == 200 else statuses[who] for who in (OWNER, ADMIN)]
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
            number, texts[caller] = auth.create_token(headers["X-Tenant-Id"], [headers["X-Roles"]], **options)
            if caller == "revoked":
                auth.revoke_token(number)
        return texts[caller]

    def make(caller):
        test_client = application.test_client()
        if caller != "anonymous":
            test_client.environ_base["HTTP_X_AUTH_TOKEN"] = token_of(caller)
        return test_client

    return make


def make_image_of_kind(admin, kind, **more):
    """As fields_of has it, by an admin's client."""
    fields = fields_of(kind) | more
    members, is_deleted = fields.pop("members"), fields.pop("is_deleted")
    image = admin.post("/images", json={"image": {**IMAGE, **fields}}).json["image"]
    memberships = [{"member_id": member, "can_share": can_share} for member, can_share in dict(members).items()]
    admin.put(f"/images/{image['id']}/members", json={"memberships": memberships})
    if is_deleted:
        admin.delete(f"/images/{image['id']}")
    return image["id"]


@pytest.mark.exhaustive
@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("route", ROUTES)
def test_the_table_of_rights_holds_for_tokens(client_by_token, kind, route):
    admin = client_by_token("admin")
    images = {caller: make_image_of_kind(admin, kind) for caller in TOKEN_CALLERS}
    before = {caller: state_of(admin, image_id) for caller, image_id in images.items()}

    statuses = {
        caller: send(client_by_token(caller), route, image_id).status_code for caller, image_id in images.items()
    }

    after = {caller: state_of(admin, image_id) for caller, image_id in images.items()}
    refused = [caller for caller in TOKEN_CALLERS if statuses[caller] >= 400]
    assert statuses == dict(zip(TOKEN_CALLERS, token_statuses(kind, route), strict=True))
    assert {caller: after[caller] for caller in refused} == {caller: before[caller] for caller in refused}


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_a_method_that_a_path_does_not_take_is_405_but_for_tokens_that_do_not_count(client_by_token, kind):
    image_id = make_image_of_kind(client_by_token("admin"), kind)

    for caller in TOKEN_CALLERS:
        expected = 401 if caller in REFUSED else 405
        for method, path in NOT_TAKEN:
            is_unasked = method == "OPTIONS"  # that needs no identity
            answer = seen(client_by_token(caller), method, path.format(id=image_id))
            assert (caller, method, answer[0]) == (caller, method, 405 if is_unasked else expected)


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


def refused_by_token(kind, caller):
    """{route: status} of an image that is inaccessible to the caller."""
    owner = {"read-only": "owner"}.get(caller, caller)
    return {route: EXPECTED[kind, route][ALL_CALLERS.index(owner)] for route in ROUTES}


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", INACCESSIBLE_TO)
def test_an_inaccessible_image_is_answered_to_the_byte_as_an_unknown_id(client_by_token, kind):
    inaccessible = make_image_of_kind(client_by_token("admin"), kind)

    for caller in (*INACCESSIBLE_TO[kind], *(["read-only"] if kind == "deleted" else [])):
        require_inaccessible_as_none(client_by_token(caller), inaccessible, refused_by_token(kind, caller))


@pytest.mark.parametrize("kind", KINDS)
def test_who_comes_with_a_token_that_does_not_count_learns_of_no_image(client_by_token, kind):
    image_id, unknown = make_image_of_kind(client_by_token("admin"), kind), "00000000-0000-4000-8000-000000000000"

    for caller in REFUSED:
        client = client_by_token(caller)
        for method, path, body in ROUTES.values():
            answer = seen(client, method, path.format(id=image_id), json=body)
            assert answer[0] == (200 if method == "OPTIONS" else 401)
            assert answer == seen(client, method, path.format(id=unknown), json=body)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", INACCESSIBLE_TO)
def test_lists_with_an_inaccessible_image_are_to_the_byte_those_without(client_by_token, kind):
    admin = client_by_token("admin")
    for name in ("first", "second", "third"):
        make_image_of_kind(admin, "public", name=name, owner=None, members=(), properties={"os_distro": "cirros"})
    callers = (*INACCESSIBLE_TO[kind], *REFUSED)
    before = {caller: lists_seen(client_by_token(caller)) for caller in callers}

    make_image_of_kind(admin, kind, size=1, properties={"os_distro": "cirros"})

    assert {caller: lists_seen(client_by_token(caller)) for caller in callers} == before
    assert any("Link" in dict(headers) for _, headers, _ in before["stranger"])
