"""Identity of a caller from the headers of a trusted proxy."""

import pytest
from conftest import IMAGE, answer_to

CONFIRMED = {"X-Identity-Status": "Confirmed", "X-User-Id": "someone", "X-Tenant-Id": "acme", "X-Roles": "member"}
TRUSTED = {"auth__flavor": "trusted-auth"}
UNICODE = "büro-日本-🐧"


def as_latin_1(text):
    """UTF-8 as WSGI, and Flask's client, want the bytes of a header."""
    return text.encode().decode("latin-1")


@pytest.fixture
def trusting(make_client):
    return make_client(**TRUSTED)


@pytest.fixture
def open_to_all(make_client):
    return make_client(**TRUSTED, auth__allow_anonymous_access="true")


def register(client, headers, **fields):
    """As its answer's owner tells who was asking: an admin chooses the owner, everybody else is it."""
    return client.post("/images", json={"image": {**IMAGE, "owner": "chosen", **fields}}, headers=headers)


# X-Identity-Status


def test_a_confirmed_identity_is_taken(trusting):
    response = register(trusting, CONFIRMED)

    assert (response.status_code, response.json["image"]["owner"]) == (200, "acme")


@pytest.mark.parametrize("status", [None, "", "Invalid", "Indeterminate", "Unconfirmed", "Confirmed, Invalid", "true"])
def test_without_a_confirmed_identity_a_request_is_401(trusting, status):
    headers = {**CONFIRMED, "X-Roles": "admin", "X-Identity-Status": status}

    response = trusting.get("/images", headers={name: value for name, value in headers.items() if value is not None})

    assert (response.status_code, response.json["status"]) == (401, 401)
    assert "X-Identity-Status: Confirmed" in response.json["detail"]


@pytest.mark.parametrize("status", [None, "", "Invalid", "Indeterminate", "Unconfirmed"])
def test_where_anonymous_access_is_allowed_an_unconfirmed_identity_is_nobody(open_to_all, status):
    private = register(open_to_all, CONFIRMED).json["image"]["id"]
    public = register(open_to_all, CONFIRMED, is_public=True).json["image"]["id"]
    headers = {**CONFIRMED, "X-Roles": "admin", "X-Identity-Status": status}
    headers = {name: value for name, value in headers.items() if value is not None}

    listed = open_to_all.get("/images", headers=headers).json["images"]

    assert [image["id"] for image in listed] == [public]
    assert open_to_all.get(f"/images/{private}", headers=headers).status_code == 404
    assert register(open_to_all, headers).status_code == 401


def test_anonymous_access_is_refused_by_default(make_client):
    client = make_client(**TRUSTED)

    assert client.get("/images").status_code == 401


@pytest.mark.parametrize("headers", [{}, CONFIRMED, {"X-Roles": "nobody"}, {"X-Tenant-Id": "\xff"}])
def test_flavor_none_ignores_all_identity_headers(client, headers):
    response = register(client, headers)

    assert (response.status_code, response.json["image"]["owner"]) == (200, "chosen")


def test_a_user_id_is_not_looked_at(trusting):
    without = {name: value for name, value in CONFIRMED.items() if name != "X-User-Id"}

    responses = [register(trusting, headers) for headers in (without, {**CONFIRMED, "X-User-Id": "\xff"})]

    assert [response.json["image"]["owner"] for response in responses] == ["acme", "acme"]


# X-Roles


@pytest.mark.parametrize(
    ("roles", "is_admin"),
    [
        *[("admin", True), ("Admin", True), ("ADMIN", True), (" admin ", True), ("member,admin", True)],
        *[("member, admin", True), ("member ,\tAdMiN , reader", True), (",,admin,", True), ("admin,admin", True)],
        *[("", False), (None, False), (",", False), ("member", False), ("administrator", False)],
        *[("cloud_admin", False), ("not admin", False), ("admin;member", False), ("member admin", False)],
        *[("adm,in", False), ('"admin"', False), (as_latin_1("админ"), False), (as_latin_1("adm\u0131n"), False)],
    ],
)
def test_the_role_named_admin_in_any_case_makes_an_admin(trusting, roles, is_admin):
    headers = {name: value for name, value in {**CONFIRMED, "X-Roles": roles}.items() if value is not None}

    response = register(trusting, headers)

    assert response.status_code == 200
    assert response.json["image"]["owner"] == ("chosen" if is_admin else "acme")


@pytest.mark.parametrize(
    ("admin_role", "roles", "is_admin"),
    [
        *[("registrar", "registrar", True), ("registrar", "Member, REGISTRAR", True), ("registrar", "admin", False)],
        *[("Image_Admin", "image_admin", True), ("Image_Admin", "admin", False)],
        *[("Größe", as_latin_1("größe"), True), ("Größe", as_latin_1("GRÖSSE"), True), ("Größe", "admin", False)],
    ],
)
def test_admin_role_names_another_role(make_client, admin_role, roles, is_admin):
    client = make_client(**TRUSTED, auth__admin_role=admin_role)

    response = register(client, {**CONFIRMED, "X-Roles": roles})

    assert response.json["image"]["owner"] == ("chosen" if is_admin else "acme")


def test_an_admin_with_a_tenant_registers_for_that_tenant_and_sees_all_images(trusting):
    private = register(trusting, CONFIRMED).json["image"]["id"]
    admin = {**CONFIRMED, "X-Tenant-Id": "operators", "X-Roles": "admin"}

    created = register(trusting, admin, owner=None).json["image"]

    assert created["owner"] == "operators"
    assert trusting.get(f"/images/{private}", headers=admin).status_code == 200


def test_an_admin_without_a_tenant_registers_for_nobody(trusting):
    admin = {**CONFIRMED, "X-Tenant-Id": "", "X-Roles": "admin"}

    response = register(trusting, admin, owner=None)

    assert (response.status_code, response.json["image"]["owner"]) == (200, None)


# X-Tenant-Id


@pytest.mark.parametrize("tenant", [None, "", "  "])
def test_a_user_without_tenant_sees_public_images_and_registers_none(trusting, tenant):
    public = register(trusting, CONFIRMED, is_public=True).json["image"]["id"]
    private = register(trusting, CONFIRMED).json["image"]["id"]
    headers = {name: value for name, value in {**CONFIRMED, "X-Tenant-Id": tenant}.items() if value is not None}

    listed = trusting.get("/images", headers=headers).json["images"]

    assert [image["id"] for image in listed] == [public]
    assert trusting.get(f"/images/{private}", headers=headers).status_code == 404
    assert register(trusting, headers).status_code == 403


@pytest.mark.parametrize("tenant", ["a", UNICODE, "a b", "a,b", "日" * 255, "0" * 255])
def test_a_tenant_is_any_text_of_up_to_255_characters(trusting, tenant):
    headers = {**CONFIRMED, "X-Tenant-Id": as_latin_1(tenant)}

    response = register(trusting, headers)

    image = response.json["image"]
    assert (response.status_code, image["owner"]) == (200, tenant)
    assert trusting.get(f"/images/{image['id']}", headers=headers).json["image"] == image
    assert trusting.get(f"/images/{image['id']}", headers=CONFIRMED).status_code == 404


def test_a_tenant_of_unicode_is_the_member_of_that_name(trusting):
    image = register(trusting, CONFIRMED).json["image"]
    memberships = {"memberships": [{"member_id": UNICODE, "can_share": True}]}
    trusting.put(f"/images/{image['id']}/members", json=memberships, headers=CONFIRMED)
    headers = {**CONFIRMED, "X-Tenant-Id": as_latin_1(UNICODE)}

    shown = trusting.get(f"/images/{image['id']}", headers=headers)
    shared = trusting.get(f"/shared-images/{UNICODE}", headers=headers)

    assert shown.json["image"]["id"] == image["id"]
    assert shared.json == {"shared_images": [{"image_id": image["id"], "can_share": True}]}


@pytest.mark.parametrize(
    ("tenant", "other"), [("acme", "ACME"), ("acme", "acm"), ("é", "e\u0301"), ("a_me", "a%me"), ("ß", "ss")]
)
def test_tenants_are_compared_literally(trusting, tenant, other):
    owner, another = ({**CONFIRMED, "X-Tenant-Id": as_latin_1(text)} for text in (tenant, other))
    image = register(trusting, owner).json["image"]
    trusting.put(f"/images/{image['id']}/members/{tenant}x", headers=owner)

    assert trusting.get(f"/images/{image['id']}", headers=owner).status_code == 200
    assert trusting.get(f"/images/{image['id']}", headers=another).status_code == 404


@pytest.mark.parametrize("allows_anonymous", ["false", "true"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Tenant-Id", "0" * 256),
        ("X-Tenant-Id", as_latin_1("日" * 256)),
        ("X-Tenant-Id", "\xff"),
        ("X-Tenant-Id", "acme\xe6\x97"),
        ("X-Tenant-Id", "\xed\xa0\xbd"),  # half of a surrogate pair
        ("X-Roles", "admin,\xff"),
    ],
)
def test_an_identity_that_cannot_be_read_is_401_also_where_anonymous_access_is_allowed(
    make_client, allows_anonymous, name, value
):
    client = make_client(**TRUSTED, auth__allow_anonymous_access=allows_anonymous)

    response = client.get("/images", headers={**CONFIRMED, name: value})

    assert (response.status_code, response.content_type) == (401, "application/problem+json")
    assert name in response.json["detail"]


# Over a real server


@pytest.mark.exhaustive
def test_a_real_server_takes_identity_from_these_headers_alone(start_server):
    server = start_server(**TRUSTED)
    body = {"image": {**IMAGE, "owner": "chosen"}}

    def owner_for(headers):
        status, _, answer = server.request("POST", "/images", body, headers)
        return answer["image"]["owner"] if status == 200 else status

    tenant = {**CONFIRMED, "X-Tenant-Id": as_latin_1(UNICODE)}
    assert owner_for({**CONFIRMED, "X-Roles": "Member, Admin"}) == "chosen"
    assert owner_for(tenant) == UNICODE
    assert owner_for({**tenant, "X_Roles": "admin"}) == UNICODE  # WSGI would take an underscore for a hyphen
    assert owner_for({**CONFIRMED, "X-Tenant-Id": "\xff"}) == 401
    assert owner_for({**CONFIRMED, "X-Tenant-Id": "0" * 256}) == 401
    assert owner_for({"X_Identity_Status": "Confirmed", "X-Tenant-Id": "acme"}) == 401
    assert owner_for({}) == 401


# From whom, and how often


@pytest.mark.parametrize(
    ("peer", "proxies", "status"),
    [
        *[("127.0.0.1", None, 200), ("::1", None, 200), ("::ffff:127.0.0.1", None, 200), ("", None, 200)],
        *[("127.0.0.2", None, 401), ("10.1.2.3", None, 401), ("::ffff:10.1.2.3", None, 401), ("::2", None, 401)],
        *[("10.1.2.3", "10.1.0.0/16", 200), ("10.2.2.3", "10.1.0.0/16", 401), ("127.0.0.1", "10.1.0.0/16", 401)],
        *[("fd00::5", "10.1.0.0/16, fd00::/8", 200), ("10.1.2.3", "fd00::/8,10.1.2.3", 200)],
        *[("127.0.0.1", "", 401), ("", "", 200), ("localhost", None, 401), ("unix:", None, 401)],
        *[("fe80::1%eth0", "fe80::/10", 200), ("fe80::1%eth0", None, 401), (None, None, 401)],
    ],
)
def test_identity_headers_count_from_trusted_proxies_only(make_client, peer, proxies, status):
    client = make_client(**TRUSTED, **({} if proxies is None else {"auth__trusted_proxies": proxies}))

    response = client.get("/images", headers=CONFIRMED, environ_overrides={"REMOTE_ADDR": peer})

    assert response.status_code == status


def test_from_elsewhere_identity_headers_make_nobody_of_who_may_be_anonymous(open_to_all):
    private = register(open_to_all, CONFIRMED).json["image"]["id"]
    headers = {**CONFIRMED, "X-Roles": "admin", "X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"}
    elsewhere = {"headers": headers, "environ_overrides": {"REMOTE_ADDR": "192.0.2.1"}}

    assert open_to_all.get("/images", **elsewhere).json["images"] == []
    assert open_to_all.get(f"/images/{private}", **elsewhere).status_code == 404
    assert open_to_all.post("/images", json={"image": IMAGE}, **elsewhere).status_code == 401


@pytest.mark.exhaustive
def test_a_real_server_refuses_an_identity_header_sent_twice_and_drops_names_with_underscores(start_server):
    server = start_server(**TRUSTED)
    lines = [f"{name}: {value}" for name, value in CONFIRMED.items()]

    assert answer_to(server, *lines) == 200
    assert {line: answer_to(server, *lines, line) for line in lines} == dict.fromkeys(lines, 401)
    assert answer_to(server, *lines, "x-roles: admin") == 401
    assert answer_to(server, *lines, "Accept: */*", "Accept: */*") == 200
    assert answer_to(server, "X_Identity_Status: Confirmed", *lines[1:]) == 401
    assert answer_to(server, lines[0], "X_Tenant_Id: acme", "X_Roles: admin") == 200
    assert answer_to(server, lines[0], "X-Roles: member", "X_Roles: admin") == 200


@pytest.mark.exhaustive
def test_a_role_under_a_name_with_underscores_makes_no_admin(start_server):
    server = start_server(**TRUSTED)
    underscored = {**CONFIRMED, "X_Roles": "admin", "X_Tenant_Id": "other"}

    _, _, answer = server.request("POST", "/images", {"image": {**IMAGE, "owner": "chosen"}}, underscored)

    assert answer["image"]["owner"] == "acme"
