"""POST /images/<id>/undelete: what comes back, and as what. tests/test_rights.py has who may."""

import pytest
from conftest import IMAGE

LOCATION = {"url": "swift+https://user:key@host/1", "metadata": {"a": "b"}, "status": "active"}
GONE = {**LOCATION, "status": "deleted"}


@pytest.mark.parametrize(
    ("status", "locations", "expected"),
    [
        *[(status, [], status) for status in ("active", "saving", "queued", "killed", "deactivated")],
        *[(status, [LOCATION], status) for status in ("active", "queued", "killed")],
        *[(status, [GONE, LOCATION], "active") for status in ("deleted", "pending_delete")],
        *[(status, [GONE, {**LOCATION, "status": "pending_delete"}], "queued") for status in ("deleted",)],
        *[(status, [], "queued") for status in ("deleted", "pending_delete")],
    ],
)
def test_a_status_that_says_that_the_bits_are_gone_becomes_another(client, make_image, status, locations, expected):
    image = make_image(location_data=locations, properties={"os": "linux"}, owner="acme", name="it")
    path = f"/images/{image['id']}"
    before = client.put(path, json={"image": {"status": status}}).json["image"]
    client.delete(path)

    response = client.post(f"{path}/undelete")

    after = response.json["image"]
    assert response.status_code == 200
    assert after == {**before, "status": expected, "updated_at": after["updated_at"]}
    assert (after["deleted"], after["deleted_at"]) == (False, None)
    assert client.get(path).json["image"] == after
    assert client.get(path).headers["ETag"] == response.headers["ETag"]


def test_updated_at_moves_and_the_etag_is_another_than_ever_before(client, make_image):
    path = f"/images/{make_image()['id']}"
    seen = [client.get(path)]

    for method, part in (("DELETE", ""), ("POST", "/undelete"), ("DELETE", ""), ("POST", "/undelete")):
        assert client.open(f"{path}{part}", method=method).status_code == 200
        seen.append(client.get(path))

    assert len({answer.headers["ETag"] for answer in seen}) == 5
    times = [answer.json["image"]["updated_at"] for answer in seen]
    assert times == sorted({*times})


def test_nothing_changes_where_it_is_not_deleted(client, make_image):
    path = f"/images/{make_image(status='queued')['id']}"
    client.put(path, json={"image": {"status": "pending_delete"}})
    before, history = client.get(path), client.get(f"{path}/history").json

    response = client.post(f"{path}/undelete")

    assert (response.status_code, response.json, response.headers["ETag"]) == (200, before.json, before.headers["ETag"])
    assert client.get(path).json == before.json
    assert client.get(f"{path}/history").json == history


def test_only_what_was_read_is_undeleted(client, make_image):
    path = f"/images/{make_image()['id']}"
    stale = client.get(path).headers["ETag"]
    present = client.delete(path).headers["ETag"] or ""
    present = client.get(path).headers["ETag"]

    refused = client.post(f"{path}/undelete", headers={"If-Match": stale})
    kept = client.get(path).json["image"]["deleted"]
    taken = client.post(f"{path}/undelete", headers={"If-Match": f'"x", {present}'})
    again = client.post(f"{path}/undelete", headers={"If-Match": present})

    assert (refused.status_code, kept, taken.status_code, again.status_code) == (412, True, 200, 412)
    assert taken.json["image"]["deleted"] is False


def test_it_is_in_the_lists_again_with_its_members_and_for_them(client_as, make_image):
    image = make_image(
        name="back",
        owner="owner",
        members={"member": False, "sharer": True},
        properties={"os": "linux"},
        is_deleted=True,
    )
    admin, member, owner = client_as("admin"), client_as("member"), client_as("owner")
    lists = (
        "/images",
        "/images/detail",
        "/images?q=lin",
        "/images?property-os=linux&sort_key=name",
        "/images?owner=owner",
    )
    inaccessible = [client.get(path).json["images"] for client in (member, owner) for path in lists]
    assert inaccessible == [[]] * 10
    assert member.get("/shared-images/member").json["shared_images"] == []

    assert admin.post(f"/images/{image['id']}/undelete").status_code == 200

    for client in (member, owner):
        assert [[shown["id"] for shown in client.get(path).json["images"]] for path in lists] == [[image["id"]]] * 5
        assert client.get(f"/images/{image['id']}").status_code == 200
    assert [entry["member_id"] for entry in owner.get(f"/images/{image['id']}/members").json["members"]] == [
        "member",
        "sharer",
    ]
    assert len(member.get("/shared-images/member").json["shared_images"]) == 1
    assert admin.get("/images?deleted=true&is_public=none").json["images"] == []


def test_who_polls_for_changes_learns_of_it(client, make_image):
    image = make_image(is_public=True, is_deleted=True)
    since = client.get(f"/images/{image['id']}").json["image"]["updated_at"]

    client.post(f"/images/{image['id']}/undelete")

    assert [shown["id"] for shown in client.get(f"/images?changes-since={since}").json["images"]] == [image["id"]]


def test_a_killed_image_comes_back_killed_and_a_protected_one_protected(client, make_image):
    killed = make_image(is_public=True, status="killed", is_deleted=True)
    path = f"/images/{make_image(is_public=True, is_deleted=True)['id']}"
    client.put(path, json={"image": {"protected": True}})

    client.post(f"/images/{killed['id']}/undelete")
    protected = client.post(f"{path}/undelete").json["image"]

    assert [image["id"] for image in client.get("/images?status=killed").json["images"]] == [killed["id"]]
    assert protected["protected"] is True
    assert client.delete(path).status_code == 403


@pytest.mark.parametrize(("options", "status"), [({}, 200), ({"json": {}}, 200), ({"json": []}, 400)])
def test_a_body_is_not_needed(client, make_image, options, status):
    path = f"/images/{make_image(is_deleted=True)['id']}"

    assert client.post(f"{path}/undelete", **options).status_code == status


def test_what_was_purged_is_gone_and_another_may_have_its_id(client, make_image):
    image = make_image(is_deleted=True)
    result = client.application.test_cli_runner().invoke(args=["purge", "--older-than", "0m", "--yes"])
    assert result.exit_code == 0, result.output

    assert client.post(f"/images/{image['id']}/undelete").status_code == 404
    again = client.post("/images", json={"image": {**IMAGE, "id": image["id"]}})
    assert again.status_code == 200
    assert [entry["action"] for entry in client.get(f"/images/{image['id']}/history").json["history"]] == ["created"]
