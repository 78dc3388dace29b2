"""GET /images/<id>/history: what each change leaves, who did it, how much is kept. test_rights.py has who sees it."""

import pytest
from conftest import IMAGE, identity

SECRET = "swift+https://user:pAssw0rd@host/1"
ANONYMOUS_ADMIN = {"tenant": None, "is_admin": True}


@pytest.fixture
def history_of(client):
    """A function: the history of an image, newest first, as an admin sees it."""

    def read(image_id, by=client):
        response = by.get(f"/images/{image_id}/history")
        assert response.status_code == 200
        return response.json["history"]

    return read


def test_an_image_begins_with_its_creation(client, make_image, history_of):
    image = make_image(name="it", properties={"a": "b"}, location=SECRET)

    entry = {"at": image["created_at"], "action": "created", "by": ANONYMOUS_ADMIN, "changes": []}
    assert history_of(image["id"]) == [entry]


# (what a PUT of {"name": "old", "size": 1, "properties": {"a": "1", "b": null}} changes, the entry's changes)
CHANGES = {
    "nothing": ({}, []),
    "the same again": ({"name": "old", "size": 1, "properties": {"a": "1", "b": None}}, []),
    "name": ({"name": "new"}, [{"field": "name", "from": "old", "to": "new"}]),
    "to null": ({"name": None, "size": None}, [*[{"field": "name", "from": "old", "to": None}],
                                               {"field": "size", "from": 1, "to": None}]),
    "from null": ({"checksum": "c"}, [{"field": "checksum", "from": None, "to": "c"}]),
    "numbers": ({"min_disk": 2, "min_ram": 3, "virtual_size": 2**63 - 1}, [
        {"field": "virtual_size", "from": None, "to": 2**63 - 1},
        {"field": "min_disk", "from": 0, "to": 2}, {"field": "min_ram", "from": 0, "to": 3}]),
    "status": ({"status": "killed"}, [{"field": "status", "from": "active", "to": "killed"}]),
    "formats": ({"disk_format": "ami", "container_format": "ami"}, [
        {"field": "disk_format", "from": "qcow2", "to": "ami"},
        {"field": "container_format", "from": "bare", "to": "ami"}]),
    "owner": ({"owner": "acme"}, [{"field": "owner", "from": None, "to": "acme"}]),
    "public": ({"is_public": True}, [{"field": "visibility", "from": "shared", "to": "public"}]),
    "protected": ({"protected": True}, [{"field": "protected", "from": False, "to": True}]),
    "a property's value": ({"properties": {"a": "2"}}, [{"field": "property", "name": "a", "from": "1", "to": "2"}]),
    "a property from null": ({"properties": {"b": ""}}, [{"field": "property", "name": "b", "from": None, "to": ""}]),
    "a property to null": ({"properties": {"a": None}}, [{"field": "property", "name": "a", "from": "1", "to": None}]),
    "a new property": ({"properties": {"c": "3"}}, [{"field": "property", "name": "c", "to": "3"}]),
    "a new property that is null": ({"properties": {"c": None}}, [{"field": "property", "name": "c", "to": None}]),
    "locations": ({"location": f"{SECRET}2"}, [{"field": "locations"}]),
    "no locations": ({"location_data": []}, [{"field": "locations"}]),
    "the same locations": ({"location": SECRET}, []),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "changes"), CHANGES.values(), ids=CHANGES)
def test_an_update_is_told_by_what_it_changed(client, make_image, history_of, fields, changes):
    image = make_image(name="old", size=1, properties={"a": "1", "b": None}, location=SECRET)

    changed = client.put(f"/images/{image['id']}", json={"image": fields}).json["image"]

    newest, *_ = history_of(image["id"])
    expected = {"at": changed["updated_at"], "action": "updated", "by": ANONYMOUS_ADMIN, "changes": changes}
    assert newest == expected
    assert "pAssw0rd" not in client.get(f"/images/{image['id']}/history").text


def test_purged_properties_have_no_to(client, make_image, history_of):
    image = make_image(properties={"a": "1", "b": None, "c": "3"})
    headers = {"X-Glance-Registry-Purge-Props": "true"}

    client.put(f"/images/{image['id']}", json={"image": {"properties": {"c": "3"}}}, headers=headers)

    removed = [{"field": "property", "name": "a", "from": "1"}, {"field": "property", "name": "b", "from": None}]
    assert history_of(image["id"])[0]["changes"] == removed


def test_delete_and_undelete_are_told_once_each(client, make_image, history_of):
    path = f"/images/{make_image()['id']}"

    for method, part in (("DELETE", ""), ("DELETE", ""), ("POST", "/undelete"), ("POST", "/undelete"), ("DELETE", "")):
        client.open(f"{path}{part}", method=method)

    entries = history_of(path.rpartition("/")[2])
    assert [(entry["action"], entry["changes"]) for entry in entries] == [
        *[("deleted", []), ("undeleted", []), ("deleted", []), ("created", [])]
    ]
    assert entries[0]["at"] == client.get(path).json["image"]["deleted_at"]


def test_an_undelete_that_changes_the_status_says_so(client, make_image, history_of):
    path = f"/images/{make_image()['id']}"
    client.put(path, json={"image": {"status": "pending_delete"}})
    client.delete(path)

    client.post(f"{path}/undelete")

    changes = [{"field": "status", "from": "pending_delete", "to": "queued"}]
    assert history_of(path.rpartition("/")[2])[0]["changes"] == changes


def test_sharing_is_told_by_members(client, make_image, history_of):
    path = f"/images/{make_image()['id']}/members"
    both = {"memberships": [{"member_id": "a", "can_share": True}, {"member_id": "b"}]}
    asked = [("PUT", "", both), ("PUT", "", both), ("PUT", "/a", {"member": {"can_share": False}}), ("PUT", "/a", None)]
    asked += [("PUT", "/c", None), ("DELETE", "/b", None), ("PUT", "", {"memberships": [{"member_id": "d"}]})]
    asked += [("PUT", "", {"memberships": []}), ("DELETE", "/d", None)]

    for method, part, body in asked:
        client.open(f"{path}{part}", method=method, json=body)

    entries = [(entry["action"], entry["changes"]) for entry in history_of(path.split("/")[2])]
    assert entries == [
        ("unshared", [member("d", was=False)]),
        ("shared", [member("a", was=False), member("c", was=False), member("d", now=False)]),
        ("unshared", [member("b", was=False)]),
        ("shared", [member("c", now=False)]),
        ("shared", [member("a", was=True, now=False)]),
        ("shared", [member("a", now=True), member("b", now=False)]),
        ("created", []),
    ]


def member(name, **sides):
    words = {"was": "from", "now": "to"}
    return {"field": "member", "name": name, **{words[side]: can_share for side, can_share in sides.items()}}


def test_what_is_refused_leaves_no_entry(client, make_image, history_of):
    image = make_image(protected=True)
    path = f"/images/{image['id']}"
    before = history_of(image["id"])

    answers = [
        client.delete(path),
        client.put(path, json={"image": {"size": -1}}),
        client.put(path, json={"image": {"size": 1}}, headers={"If-Match": '"x"'}),
        client.put(path, json={"image": {"size": 1}, "from_state": "queued"}),
        client.delete(f"{path}/members/nobody"),
        client.put(f"{path}/members", json={"memberships": [{"member_id": ""}]}),
    ]

    assert [answer.status_code for answer in answers] == [403, 400, 412, 409, 404, 400]
    assert history_of(image["id"]) == before


def test_an_entry_says_who_did_it(client_as):
    image = client_as("owner").post("/images", json={"image": IMAGE}).json["image"]
    path = f"/images/{image['id']}"
    client_as("owner").put(f"{path}/members/sharer", json={"member": {"can_share": True}})
    client_as("sharer").put(f"{path}/members/friend")
    client_as("admin").put(path, json={"image": {"name": "x"}})
    client_as("admin@acme").delete(path)

    told = client_as("admin").get(f"{path}/history").json["history"]

    people = [("acme", True), (None, True), ("sharer", False), ("owner", False), ("owner", False)]
    assert [entry["by"] for entry in told] == [{"tenant": who, "is_admin": is_admin} for who, is_admin in people]
    assert [entry["at"] for entry in told] == sorted((entry["at"] for entry in told), reverse=True)


def test_a_new_owner_sees_it_and_the_former_one_no_longer(client_as, make_image):
    path = f"/images/{make_image(owner='owner', is_public=True)['id']}"
    client_as("admin").put(path, json={"image": {"owner": "stranger"}})

    assert client_as("stranger").get(f"{path}/history").status_code == 200
    assert client_as("owner").get(f"{path}/history").status_code == 403


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_the_newest_changes_are_kept_and_no_more(make_client, limit):
    client = make_client(api__image_history_limit=limit)
    image_id = client.post("/images", json={"image": {**IMAGE, "name": "0"}}).json["image"]["id"]
    other = client.post("/images", json={"image": IMAGE}).json["image"]["id"]

    for number in range(1, 5):
        client.put(f"/images/{image_id}", json={"image": {"name": str(number)}})

    names = [change["to"] for entry in told(client, image_id) for change in entry["changes"]]
    assert names == ["4", "3", "2", "1"][:limit]
    assert len(told(client, image_id)) == min(limit, 5)
    assert len(told(client, other)) == 1


def told(client, image_id):
    return client.get(f"/images/{image_id}/history").json["history"]


def test_none_is_kept_where_the_limit_is_0_and_a_lower_one_counts_from_the_next_change_on(make_client):
    client = make_client(api__image_history_limit=0)
    image_id = client.post("/images", json={"image": IMAGE}).json["image"]["id"]
    client.put(f"/images/{image_id}/members/friend")
    client.delete(f"/images/{image_id}")
    assert told(client, image_id) == []

    client = make_client(api__image_history_limit=5)
    for number in range(5):
        client.put(f"/images/{image_id}", json={"image": {"name": str(number)}})
    assert len(told(client, image_id)) == 5

    client = make_client(api__image_history_limit=2)
    assert len(told(client, image_id)) == 5
    client.put(f"/images/{image_id}", json={"image": {"name": "last"}})
    assert [entry["changes"][0]["to"] for entry in told(client, image_id)] == ["last", "4"]


def test_long_texts_are_cut(client, make_image, history_of):
    image = make_image(name="n" * 255, properties={"a": "x" * 255, "b": "y" * 256})

    client.put(f"/images/{image['id']}", json={"image": {"name": "m", "properties": {"a": "é" * 9000, "b": ""}}})

    assert history_of(image["id"])[0]["changes"] == [
        {"field": "name", "from": "n" * 255, "to": "m"},
        {"field": "property", "name": "a", "from": "x" * 255, "to": f"{'é' * 255}…"},
        {"field": "property", "name": "b", "from": f"{'y' * 255}…", "to": ""},
    ]


def test_of_hundreds_of_changes_at_once_the_first_are_kept(client, make_image, history_of):
    image = make_image(properties={f"p{number:03}": "before" for number in range(500)})
    after = {f"p{number:03}": "after" for number in range(500)}

    assert client.put(f"/images/{image['id']}", json={"image": {"name": "x", "properties": after}}).status_code == 200

    changes = history_of(image["id"])[0]["changes"]
    assert len(changes) == 200
    assert changes[0]["field"] == "name"
    assert changes[1:] == [
        {"field": "property", "name": f"p{number:03}", "from": "before", "to": "after"} for number in range(199)
    ]


def test_purge_removes_it_and_an_import_begins_none(client, make_image, tmp_path):
    kept, gone = make_image(), make_image(is_deleted=True)
    file, runner = tmp_path / "records.ndjson", client.application.test_cli_runner()

    assert runner.invoke(args=["purge", "--older-than", "0m", "--yes"]).exit_code == 0
    assert runner.invoke(args=["export", str(file)]).exit_code == 0
    assert client.get(f"/images/{gone['id']}/history").status_code == 404
    assert [entry["action"] for entry in told(client, kept["id"])] == ["created"]
    assert runner.invoke(args=["import", str(file), "--on-conflict", "replace"]).exit_code == 0
    assert told(client, kept["id"]) == []

    client.put(f"/images/{kept['id']}", json={"image": {}})
    assert [entry["action"] for entry in told(client, kept["id"])] == ["updated"]


def test_no_entry_has_a_location(client_as):
    owner = client_as("owner")
    image_id = owner.post("/images", json={"image": {**IMAGE, "location": SECRET}}).json["image"]["id"]
    owner.put(f"/images/{image_id}", json={"image": {"location": "https://pAssw0rd@elsewhere/2"}})
    owner.put(f"/images/{image_id}", json={"image": {"location_data": []}})

    shown = [client_as(caller).get(f"/images/{image_id}/history") for caller in ("owner", "admin")]

    assert all(len(answer.json["history"]) == 3 and "pAssw0rd" not in answer.text for answer in shown)


def test_with_flavor_none_whatever_the_identity_headers_say_it_was_an_admin(client, make_image, history_of):
    image = make_image()

    client.put(f"/images/{image['id']}", json={"image": {}}, headers=identity("owner"))

    assert history_of(image["id"])[0]["by"] == ANONYMOUS_ADMIN
