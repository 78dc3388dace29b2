"""Deletion: the record stays as it was, marked deleted, for admins to see."""

import http.client
import re
import uuid

import pytest
from conftest import CALLERS, IMAGE

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
FULL = {
    "owner": "owner",
    "properties": {"arch": "x86", "nothing": None},
    "location_data": [{"url": "file:///image", "metadata": {"region": "north"}, "status": "active"}],
}


@pytest.mark.parametrize("status", ["active", "saving", "queued", "killed"])
def test_the_record_stays_as_it_was_but_for_the_mark(client, make_image, status):
    image = make_image(**FULL, status=status, is_public=True, size=7, min_ram=1)

    response = client.delete(f"/images/{image['id']}")

    deleted = response.json["image"]
    marks = {name: deleted[name] for name in ("deleted", "deleted_at", "updated_at")}
    assert response.status_code == 200
    assert list(response.json) == ["image"]
    assert deleted == image | marks
    assert marks["deleted"] is True
    assert TIME.fullmatch(marks["deleted_at"])
    assert TIME.fullmatch(marks["updated_at"])
    assert client.get(f"/images/{image['id']}").json["image"] == deleted


def test_members_stay_with_a_deleted_image(client, make_image):
    image = make_image(members={"member": False, "sharer": True})
    before = client.get(f"/images/{image['id']}/members").json

    client.delete(f"/images/{image['id']}")

    assert client.get(f"/images/{image['id']}/members").json == before


def test_deletion_moves_updated_at_and_deleted_at_is_now(client, make_image):
    image = make_image(created_at="2020-01-02T03:04:05", updated_at="2020-01-02T03:04:05")
    later = make_image()

    deleted = client.delete(f"/images/{image['id']}").json["image"]

    assert image["deleted_at"] is None
    assert deleted["created_at"] == "2020-01-02T03:04:05.000000"
    assert deleted["updated_at"] > later["updated_at"]
    assert deleted["deleted_at"] > later["updated_at"]


def test_updated_at_never_moves_backwards_on_deletion(client, make_image):
    image = make_image(updated_at="2990-01-02T03:04:05.000001")

    deleted = client.delete(f"/images/{image['id']}").json["image"]

    assert deleted["updated_at"] == "2990-01-02T03:04:05.000002"


def test_a_deleted_image_has_another_etag(client, make_image):
    path = f"/images/{make_image()['id']}"
    before = client.get(path).headers["ETag"]

    client.delete(path)

    assert client.get(path).headers["ETag"] != before


def test_the_headers_of_a_deleted_image_say_so(client, make_image):
    image = make_image(is_deleted=True)

    headers = client.get(f"/images/{image['id']}").headers

    assert headers["x-image-meta-deleted"] == "True"
    assert headers["x-image-meta-deleted_at"] == image["deleted_at"]


def test_a_deleted_image_exists_for_admins_only(client_as, make_image):
    members = {"member": False, "sharer": True}
    image = make_image(**FULL, is_public=True, members=members, is_deleted=True)
    paths = (f"/images/{image['id']}", "/images?deleted=true", "/shared-images/member", "/images")

    def seen_by(caller):
        shown, *lists = (client_as(caller).get(path) for path in paths)
        return shown.status_code, *(len(entries) for response in lists for entries in response.json.values())

    assert {caller: seen_by(caller) for caller in CALLERS} == {
        **dict.fromkeys(CALLERS, (404, 0, 0, 0)),
        "admin": (200, 1, 0, 0),
    }


def test_an_owner_deletes_and_sees_the_deleted_record_a_last_time(client_as, make_image):
    image = make_image(**FULL)
    owner = client_as("owner")

    first = owner.delete(f"/images/{image['id']}")
    second = owner.delete(f"/images/{image['id']}")

    assert (first.status_code, first.json["image"]["deleted"]) == (200, True)
    assert first.json["image"]["location_data"] == FULL["location_data"]
    assert second.status_code == 404


def test_a_second_delete_answers_200_and_changes_nothing(client, make_image):
    image = make_image(**FULL, is_deleted=True)
    before = client.get(f"/images/{image['id']}")

    response = client.delete(f"/images/{image['id']}")

    assert (response.status_code, response.json["image"]) == (200, image)
    assert client.get(f"/images/{image['id']}").headers["ETag"] == before.headers["ETag"]


@pytest.mark.parametrize(
    "change",
    [
        {"status": "deleted"},  # glance's scrubber sends this one
        {"status": "pending_delete", "location": None},
        {"name": "renamed", "deleted": False, "deleted_at": None},
        {"deleted": True, "deleted_at": "2020-01-01T00:00:00"},
        {"is_public": True, "protected": True},
    ],
)
def test_a_put_on_a_deleted_image_changes_it_and_leaves_it_deleted(client, make_image, change):
    image = make_image(is_deleted=True)

    response = client.put(f"/images/{image['id']}", json={"image": change})

    changed = response.json["image"]
    kept = {name: value for name, value in change.items() if not name.startswith("deleted")}
    assert response.status_code == 200
    assert {name: changed[name] for name in kept} == kept
    assert (changed["deleted"], changed["deleted_at"]) == (True, image["deleted_at"])
    assert client.get(f"/images/{image['id']}").json["image"] == changed


@pytest.mark.parametrize("change", [{"deleted": True}, {"status": "deleted"}, {"status": "pending_delete"}])
def test_no_put_deletes_an_image(client_as, make_image, change):
    image = make_image(owner="owner")

    response = client_as("owner").put(f"/images/{image['id']}", json={"image": change})

    assert (response.status_code, response.json["image"]["deleted"]) == (200, False)
    assert client_as("owner").get(f"/images/{image['id']}").json["image"]["deleted_at"] is None


@pytest.mark.parametrize("caller", ["owner", "admin", "admin@acme"])
def test_a_protected_image_is_not_deleted_until_it_is_unprotected(client_as, make_image, caller):
    image = make_image(owner="owner", protected=True)
    path = f"/images/{image['id']}"
    client = client_as(caller)
    before = client.get(path)

    refused = client.delete(path)
    kept = client.get(path)
    client.put(path, json={"image": {"protected": False}})
    deleted = client.delete(path)

    assert (refused.status_code, refused.json["status"]) == (403, 403)
    assert "protected" in refused.json["detail"]
    assert (kept.json, kept.headers["ETag"]) == (before.json, before.headers["ETag"])
    assert (deleted.status_code, deleted.json["image"]["deleted"]) == (200, True)


def test_a_protected_image_of_another_is_refused_as_any_other(client_as, make_image):
    protected, plain = (make_image(is_public=True, protected=protected) for protected in (True, False))

    answers = [client_as("stranger").delete(f"/images/{image['id']}").json["detail"] for image in (protected, plain)]

    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("condition", "status"),
    [("{tag}", 200), ('"other", {tag}', 200), ("*", 200), ('"other"', 412), ('"other", "third"', 412), ('"*"', 412)],
)
def test_if_match_deletes_the_record_only_as_it_was_read(client, make_image, condition, status):
    path = f"/images/{make_image()['id']}"
    tag = client.get(path).headers["ETag"]

    response = client.delete(path, headers={"If-Match": condition.format(tag=tag)})

    assert response.status_code == status
    assert client.get(path).json["image"]["deleted"] is (status == 200)
    assert (client.get(path).headers["ETag"] == tag) is (status == 412)


def test_if_match_refuses_after_a_change(client, make_image):
    path = f"/images/{make_image()['id']}"
    tag = client.get(path).headers["ETag"]
    changed = client.put(path, json={"image": {"properties": {"arch": "x86"}}})

    response = client.delete(path, headers={"If-Match": tag})

    assert (response.status_code, response.json["status"]) == (412, 412)
    assert client.get(path).json == changed.json


def test_if_match_holds_for_a_deleted_image_too(client, make_image):
    path = f"/images/{make_image(is_deleted=True)['id']}"
    tag = client.get(path).headers["ETag"]

    statuses = [client.delete(path, headers={"If-Match": condition}).status_code for condition in (tag, '"other"', "*")]

    assert statuses == [200, 412, 200]


@pytest.mark.parametrize("spell", [str, str.upper, lambda text: text.replace("-", "")])
@pytest.mark.parametrize("caller", ["stranger", "owner", "admin"])
def test_the_id_of_a_deleted_image_stays_used(client_as, make_image, spell, caller):
    image = make_image(is_deleted=True)
    before = client_as("admin").get(f"/images/{image['id']}").json

    response = client_as(caller).post("/images", json={"image": {**IMAGE, "id": spell(image["id"])}})

    assert (response.status_code, response.json["status"]) == (409, 409)
    assert client_as("admin").get(f"/images/{image['id']}").json == before


def test_an_image_is_deleted_by_any_spelling_of_its_id(client, make_image):
    image = make_image()

    response = client.delete(f"/images/{image['id'].upper().replace('-', '')}/")

    assert (response.status_code, response.json["image"]["id"]) == (200, image["id"])
    assert response.json["image"]["deleted"] is True


@pytest.mark.parametrize("image_id", [str(uuid.UUID(int=7)), "nonsense"])
def test_deleting_an_unknown_image_is_404(client, image_id):
    response = client.delete(f"/images/{image_id}")

    assert (response.status_code, response.json["status"]) == (404, 404)


def test_deleting_one_image_leaves_the_others(client, make_image):
    kept, gone = make_image(**FULL), make_image(**FULL)

    client.delete(f"/images/{gone['id']}")

    assert client.get(f"/images/{kept['id']}").json["image"] == kept
    assert [image["id"] for image in client.get("/images?is_public=none").json["images"]] == [kept["id"]]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"image": {"name": "renamed"}}', "application/json"),
        (b"{", "application/json"),
        (b"a=b", "application/x-www-form-urlencoded"),
        (b"\xff\0", None),
        (b"x" * 30_000, "text/plain"),
    ],
)
def test_a_body_of_delete_is_ignored_and_leaves_the_connection_usable(server, body, content_type):
    _, _, created = server.request("POST", "/images", {"image": IMAGE})
    path = f"/images/{created['image']['id']}"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    statuses = []

    for method, content in (("DELETE", body), ("GET", None), ("DELETE", body)):
        connection.request(method, path, content, {"Content-Type": content_type} if content and content_type else {})
        response = connection.getresponse()
        statuses.append((response.status, b'"deleted":true' in response.read()))
    connection.close()

    assert statuses == [(200, True)] * 3
    assert server.request("GET", path)[2]["image"]["name"] == IMAGE["name"]


def test_members_of_a_deleted_image_see_it_no_longer_in_what_is_shared_with_them(client_as, make_image):
    image = make_image(owner="owner", members={"member": False})
    shared = "/shared-images/member"

    before = client_as("member").get(shared).json
    client_as("owner").delete(f"/images/{image['id']}")

    assert before == {"shared_images": [{"image_id": image["id"], "can_share": False}]}
    assert client_as("member").get(shared).json == {"shared_images": []}
