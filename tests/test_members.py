"""Members: with whom an image is shared, and what is shared with whom."""

import http.client
import uuid
from urllib.parse import quote

import pytest
from conftest import CALLERS, IMAGE

LONGEST = "é" * 255
TOO_LONG = "é" * 256


def members_of(client, image_id):
    """{member_id: can_share} as the client sees them."""
    response = client.get(f"/images/{image_id}/members")
    assert response.status_code == 200, response.text
    return {entry["member_id"]: entry["can_share"] for entry in response.json["members"]}


# Reading


def test_members_are_listed_with_exactly_two_keys(client, make_image):
    image = make_image(members={"acme": True})

    response = client.get(f"/images/{image['id']}/members")

    assert response.json == {"members": [{"member_id": "acme", "can_share": True}]}


NONE, OWN, ALL = {}, {"member": False}, {"member": False, "sharer": True, "third": False}


@pytest.mark.parametrize(
    ("caller", "of_public", "of_private"),
    [
        ("anonymous", NONE, None),
        ("tenantless", NONE, None),
        ("stranger", NONE, None),
        ("member", OWN, OWN),
        ("sharer", ALL, ALL),
        ("owner", ALL, ALL),
        ("admin", ALL, ALL),
        ("admin@acme", ALL, ALL),
    ],
)
def test_each_caller_reads_the_members_that_it_may_know(client_as, make_image, caller, of_public, of_private):
    public = make_image(owner="owner", is_public=True, members=ALL)
    private = make_image(owner="owner", is_public=False, members=ALL)
    client = client_as(caller)

    assert members_of(client, public["id"]) == of_public
    if of_private is None:
        assert client.get(f"/images/{private['id']}/members").status_code == 404
    else:
        assert members_of(client, private["id"]) == of_private


def test_members_of_a_deleted_image_stay_for_admins_to_see(client_as, make_image):
    image = make_image(owner="owner", members=ALL, is_deleted=True)

    statuses = {caller: client_as(caller).get(f"/images/{image['id']}/members").status_code for caller in CALLERS}

    assert statuses == dict.fromkeys(CALLERS, 404) | {"admin": 200}
    assert members_of(client_as("admin"), image["id"]) == ALL


# Replacing all


def test_replacing_makes_the_named_ones_the_whole_set(client, make_image):
    image = make_image(members={"gone": True, "kept": False})
    memberships = [{"member_id": "kept", "can_share": True}, {"member_id": "new", "status": "accepted"}]

    response = client.put(f"/images/{image['id']}/members", json={"memberships": memberships})

    assert (response.status_code, response.data) == (204, b"")
    assert "Content-Type" not in response.headers
    assert members_of(client, image["id"]) == {"kept": True, "new": False}


@pytest.mark.parametrize("count", [0, 1, 2000])
def test_a_replacement_may_name_none_or_many(client, make_image, count):
    image = make_image(members={"one": True, "two": False})
    memberships = {f"tenant-{number}": number % 2 == 0 for number in range(count)}
    body = {"memberships": [{"member_id": name, "can_share": can_share} for name, can_share in memberships.items()]}

    response = client.put(f"/images/{image['id']}/members", json=body)

    assert response.status_code == 204
    assert members_of(client, image["id"]) == memberships


A_TEXT = {
    "memberships": ["1.member_id: Must be text of 1 to 255 characters, without NUL and halves of surrogate pairs."]
}
A_BOOLEAN = {
    "memberships": ["1.can_share: Must be a boolean, or one of the words true, false, 1, 0, yes, no in any case."]
}


@pytest.mark.parametrize(
    ("entry", "errors"),
    [
        ({"member_id": ""}, A_TEXT),
        ({"member_id": TOO_LONG}, A_TEXT),
        ({"member_id": None}, A_TEXT),
        ({"can_share": True}, A_TEXT),
        ({"member_id": 7}, A_TEXT),
        ({"member_id": ["acme"]}, A_TEXT),
        ({"member_id": "nul\0"}, A_TEXT),
        ({"member_id": "half \ud83d"}, A_TEXT),
        ({"member_id": "first"}, {"memberships": ["1.member_id: Must not be named twice."]}),
        ({"member_id": "x", "can_share": "maybe"}, A_BOOLEAN),
        ({"member_id": "x", "can_share": 1}, A_BOOLEAN),
        ({"member_id": "x", "can_share": []}, A_BOOLEAN),
    ],
)
def test_one_bad_entry_and_the_whole_replacement_is_refused(client, make_image, entry, errors):
    image = make_image(members={"before": True})
    body = {"memberships": [{"member_id": "first"}, entry, {"member_id": "last"}]}

    response = client.put(f"/images/{image['id']}/members", json=body)

    assert response.status_code == 400
    assert response.json["errors"] == errors
    assert members_of(client, image["id"]) == {"before": True}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "memberships"),
        ({"memberships": None}, "memberships"),
        ({"memberships": {"member_id": "x"}}, "memberships"),
        ({"memberships": "x"}, "memberships"),
        ({"memberships": [{"member_id": "x"}, "y"]}, "memberships"),
        ({"memberships": [{"member_id": "x"}, None]}, "memberships"),
        ({"memberships": [{"member_id": "x"}, ["y"]]}, "memberships"),
        ({"members": [{"member_id": "x"}]}, "memberships"),
        ([{"member_id": "x"}], "body"),
        (None, "body"),
    ],
)
def test_a_replacement_that_is_no_list_of_members_is_refused(client, make_image, body, field):
    image = make_image(members={"before": True})

    response = client.put(f"/images/{image['id']}/members", json=body, content_type="application/json")

    assert response.status_code == 400
    assert list(response.json["errors"]) == [field]
    assert members_of(client, image["id"]) == {"before": True}


@pytest.mark.parametrize(
    ("word", "can_share"),
    [
        *[(True, True), ("true", True), ("TRUE", True), ("1", True), ("Yes", True)],
        *[(False, False), ("false", False), ("False", False), ("0", False), ("NO", False)],
    ],
)
def test_can_share_takes_booleans_and_the_words_for_them(client, make_image, word, can_share):
    image = make_image(members={"all": not can_share, "one": not can_share})
    path = f"/images/{image['id']}/members"

    replaced = client.put(
        path, json={"memberships": [{"member_id": "all", "can_share": word}, {"member_id": "one"}]}
    ).status_code
    changed = client.put(f"{path}/one", json={"member": {"can_share": word}}).status_code

    assert (replaced, changed) == (204, 204)
    assert members_of(client, image["id"]) == {"all": can_share, "one": can_share}


def test_an_omitted_can_share_keeps_an_existing_members_value_and_is_false_for_a_new_one(client, make_image):
    image = make_image(members={"sharing": True, "plain": False})
    memberships = [{"member_id": name} for name in ("sharing", "plain", "new")]

    response = client.put(f"/images/{image['id']}/members", json={"memberships": memberships})

    assert response.status_code == 204
    assert members_of(client, image["id"]) == {"sharing": True, "plain": False, "new": False}


# Adding, changing and removing one


@pytest.mark.parametrize(
    ("before", "body", "after"),
    [
        ({}, None, False),
        ({}, {"member": {}}, False),
        ({}, {"member": {"can_share": True}}, True),
        ({}, {"member": {"can_share": False}}, False),
        ({"acme": True}, None, True),
        ({"acme": True}, {"member": {}}, True),
        ({"acme": True}, {"member": {"can_share": False}}, False),
        ({"acme": False}, None, False),
        ({"acme": False}, {"member": {"can_share": True, "unknown": 1}}, True),
    ],
)
def test_put_adds_or_changes_one_member_and_leaves_the_others(client, make_image, before, body, after):
    image = make_image(members={"other": True, **before})

    response = client.put(f"/images/{image['id']}/members/acme", json=body)

    assert (response.status_code, response.data) == (204, b"")
    assert "Content-Type" not in response.headers
    assert members_of(client, image["id"]) == {"other": True, "acme": after}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "member"),
        ({"can_share": True}, "member"),
        ({"member": None}, "member"),
        ({"member": True}, "member"),
        ({"member": []}, "member"),
        ({"member": {"can_share": "maybe"}}, "can_share"),
        ({"member": {"can_share": 1}}, "can_share"),
        ([], "body"),
        ("can_share", "body"),
    ],
)
def test_put_of_one_refuses_a_body_of_another_shape(client, make_image, body, field):
    image = make_image(members={"acme": True})

    response = client.put(f"/images/{image['id']}/members/acme", json=body)

    assert response.status_code == 400
    assert list(response.json["errors"]) == [field]
    assert members_of(client, image["id"]) == {"acme": True}


@pytest.mark.parametrize("path", ["/members", "/members/acme"])
def test_a_body_that_says_it_is_a_form_is_refused(client, make_image, path):
    image = make_image()
    content_type = "application/x-www-form-urlencoded"

    response = client.put(f"/images/{image['id']}{path}", data='{"member": {}}', content_type=content_type)

    assert response.status_code == 415
    assert "Content-Type: application/json" in response.json["detail"]
    assert members_of(client, image["id"]) == {}


def test_delete_removes_one_member_and_leaves_the_others(client, make_image):
    image = make_image(members={"acme": True, "other": True})

    response = client.delete(f"/images/{image['id']}/members/acme")

    assert (response.status_code, response.data) == (204, b"")
    assert members_of(client, image["id"]) == {"other": True}


def test_deleting_an_unknown_member_is_404_in_the_words_that_clients_look_for(client, make_image):
    image = make_image(members={"acme": True})

    first = client.delete(f"/images/{image['id']}/members/nobody")
    client.delete(f"/images/{image['id']}/members/acme")
    again = client.delete(f"/images/{image['id']}/members/acme")

    assert (first.status_code, again.status_code) == (404, 404)
    assert "Membership could not be found" in first.json["detail"]
    assert "Membership could not be found" in again.json["detail"]


@pytest.mark.parametrize("body", [None, {"member": {"can_share": False}}])
def test_a_removed_member_can_be_added_again_and_begins_anew(client, make_image, body):
    image = make_image(members={"acme": True})
    path = f"/images/{image['id']}/members/acme"
    client.delete(path)

    response = client.put(path, json=body)

    assert response.status_code == 204
    assert members_of(client, image["id"]) == {"acme": False}


def test_a_new_member_sees_the_image_and_a_removed_one_no_longer(client_as, make_image):
    image = make_image(owner="owner")
    path = f"/images/{image['id']}"

    client_as("owner").put(f"{path}/members/acme")
    added = client_as("acme").get(path).status_code
    client_as("owner").delete(f"{path}/members/acme")
    removed = client_as("acme").get(path).status_code

    assert (added, removed) == (200, 404)


def test_members_move_neither_etag_nor_updated_at(client, make_image):
    image = make_image(members={"acme": False})
    path = f"/images/{image['id']}"
    before = client.get(path)

    client.put(f"{path}/members/acme", json={"member": {"can_share": True}})
    client.put(f"{path}/members/new")
    client.delete(f"{path}/members/new")
    client.put(f"{path}/members", json={"memberships": [{"member_id": "other"}]})
    after = client.get(path)

    assert members_of(client, image["id"]) == {"other": False}
    assert after.headers["ETag"] == before.headers["ETag"]
    assert after.json == before.json


# Member ids in the path, over a real server: what a client escapes arrives unescaped

ODD_IDS = [
    *["bücher-日本-🐧", "e\u0301", "a/b", "a//b", "a b", "a%b", "a%2Fb", "a?b#c", "..", "a;b=c", "a\u0085\u2028b"],
    *["line\nbreak", "\nleading", "/leading", "detail", "members", "'; DROP TABLE member; --", "\ufffd", LONGEST],
]


def send(server, method, path):
    """(status, body), the path sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def register(server, *members):
    _, headers, _ = server.request("POST", "/images", {"image": IMAGE})
    memberships = [{"member_id": member} for member in members]
    assert server.request("PUT", f"{headers['Location']}/members", {"memberships": memberships})[0] == 204
    return headers["Location"]


def served_members(server, path):
    return server.request("GET", f"{path}/members")[2]["members"]


@pytest.mark.parametrize("member_id", ODD_IDS, ids=ascii)
def test_any_text_of_1_to_255_characters_is_a_member_id_in_every_route(server, member_id):
    path = register(server)
    escaped = quote(member_id, safe="")

    added = send(server, "PUT", f"{path}/members/{escaped}")
    listed = served_members(server, path)
    _, _, shared = server.request("GET", f"/shared-images/{escaped}")
    removed = send(server, "DELETE", f"{path}/members/{escaped}")

    assert (added, removed) == ((204, b""), (204, b""))
    assert listed == [{"member_id": member_id, "can_share": False}]
    assert path in [f"/images/{entry['image_id']}" for entry in shared["shared_images"]]
    assert served_members(server, path) == []


def test_a_replacement_takes_any_text_of_1_to_255_characters(client, make_image):
    image = make_image(members=dict.fromkeys(ODD_IDS, False))

    assert members_of(client, image["id"]) == dict.fromkeys(ODD_IDS, False)


@pytest.mark.parametrize("escaped", [quote(TOO_LONG), "nul%00", "%00", "%FF", "a%C3", "%ED%A0%BD"])
def test_what_can_be_no_member_id_is_refused_in_the_path(server, escaped):
    path = register(server)

    status, body = send(server, "PUT", f"{path}/members/{escaped}")

    assert status == 400
    assert b'"errors":{"member_id":' in body
    assert served_members(server, path) == []


def test_bytes_that_are_not_utf_8_name_no_member_that_there_is(server):
    path = register(server, "\ufffd", "a\ufffd")

    removed, _ = send(server, "DELETE", f"{path}/members/%FF")
    status, shared = send(server, "GET", "/shared-images/a%FF")

    assert removed in (400, 404)
    assert [entry["member_id"] for entry in served_members(server, path)] == ["a\ufffd", "\ufffd"]
    assert status == 400 or shared == b'{"shared_images":[]}'


def test_a_trailing_slash_after_members_is_the_same_page(client, make_image):
    image = make_image(members={"before": True})

    response = client.put(f"/images/{image['id']}/members/", json={"memberships": [{"member_id": "acme"}]})

    assert response.status_code == 204
    assert members_of(client, image["id"]) == {"acme": False}


def test_a_trailing_slash_after_a_member_is_the_same_page(client, make_image):
    image = make_image(members={"gone": False})
    path = f"/images/{image['id']}/members"

    statuses = [client.put(f"{path}/acme/").status_code, client.delete(f"{path}/gone/").status_code]

    assert statuses == [204, 204]
    assert members_of(client, image["id"]) == {"acme": False}


# Shared images


@pytest.fixture
def shared(make_image):
    """Ids by name; all are shared with "member", who may share on those of the owner."""
    members = {"member": True, "sharer": True}
    return {
        "owner's": make_image(owner="owner", members=members)["id"],
        "owner's public": make_image(owner="owner", is_public=True, members=members)["id"],
        "owner's deleted": make_image(owner="owner", members=members, is_deleted=True)["id"],
        "stranger's": make_image(owner="stranger", members={"member": False})["id"],
        "nobody's": make_image(owner=None, members={"member": False})["id"],
        "another's": make_image(owner="owner", members={"third": False})["id"],
    }


EVERYTHING = {"owner's": True, "owner's public": True, "stranger's": False, "nobody's": False}
SHARED_BY_OWNER = {"owner's": True, "owner's public": True}


@pytest.mark.parametrize(
    ("caller", "member_id", "expected"),
    [
        ("anonymous", "member", {}),
        ("tenantless", "member", {}),
        ("stranger", "member", {"stranger's": False}),
        ("member", "member", EVERYTHING),
        ("sharer", "member", {}),
        ("owner", "member", SHARED_BY_OWNER),
        ("admin", "member", EVERYTHING),
        ("admin@acme", "member", EVERYTHING),
        ("sharer", "sharer", SHARED_BY_OWNER),
        ("member", "sharer", {}),
        ("owner", "third", {"another's": False}),
        ("admin", "nobody", {}),
        ("admin", "Member", {}),
    ],
)
def test_shared_images_are_those_that_the_caller_may_know_and_never_deleted_ones(
    client_as, shared, caller, member_id, expected
):
    response = client_as(caller).get(f"/shared-images/{member_id}")

    named = {image_id: name for name, image_id in shared.items()}
    entries = response.json["shared_images"]
    assert response.status_code == 200
    assert {named[entry["image_id"]]: entry["can_share"] for entry in entries} == expected
    assert all(set(entry) == {"image_id", "can_share"} for entry in entries)


def test_a_member_s_name_is_read_only_where_its_image_may_be_seen(server):
    status, _ = send(server, "DELETE", f"/images/{uuid.uuid4()}/members/%FF")

    assert status == 404
