"""Forms without JavaScript: every flow from the first page to the last."""

import pytest
from support.ui_pages import Page, send, visit


def show(client, image_id):
    return client.get(f"/images/{image_id}").json["image"]


def follow(client, answer):
    return visit(client, answer.location)


def test_an_image_is_created_with_all_that_its_form_has(client):
    form = visit(client, "/ui/images/new").form_to("/new")
    fields = {"name": "debian 13", "size": "1024", "virtual_size": "2048", "checksum": "ab", "min_disk": "2"}
    fields |= {"min_ram": "512", "owner": "acme", "is_public": "true", "protected": "true"}
    fields |= {
        "locations": "file:///a.img\r\n\r\nhttps://h/b.img",
        "property_name": "os_distro",
        "property_value": "debian",
    }

    page = follow(client, send(client, form, **fields))

    (image,) = client.get("/images/detail").json["images"]
    assert "debian 13 is registered" in page.text
    numbers = {"size": 1024, "virtual_size": 2048, "min_disk": 2, "min_ram": 512}
    assert image | {"name": "debian 13", "checksum": "ab", "owner": "acme", **numbers} == image
    assert (image["is_public"], image["protected"], image["status"]) == (True, True, "active")
    assert [entry["url"] for entry in image["location_data"]] == ["file:///a.img", "https://h/b.img"]
    assert image["properties"] == {"os_distro": "debian"}
    assert "is registered" not in follow(client, type("Answer", (), {"location": f"/ui/images/{image['id']}"})).text


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("size", "many", "Must be an integer"),
        ("min_ram", "-1", "Must be an integer"),
        ("checksum", "x" * 33, "Must be text of up to 32"),
        ("name", "x" * 256, "Must be text of up to 255"),
        ("status", "ready", "Invalid image status"),
        ("disk_format", "floppy", "Must be one of"),
        ("container_format", "ami", "both must be the same"),
        ("locations", "nowhere", "Must be a URL"),
        ("name", "a\0b", "without NUL"),
    ],
)
def test_what_is_refused_is_said_beside_its_field_and_what_was_entered_is_kept(client, field, value, reason):
    form = visit(client, "/ui/images/new").form_to("/new")
    entered = {"name": "kept", "property_name": "os", "property_value": "kept too", field: value}

    page = Page(send(client, form, 400, **entered).text)

    wrong = next(attributes for _, attributes in page.tags if attributes.get("id") == f"{field}-wrong")
    marked = next(attributes for _, attributes in page.tags if attributes.get("aria-describedby") == wrong["id"])
    kept = dict(page.form_to("/new")["fields"][::-1])
    assert marked["name"] == field
    assert marked["aria-invalid"] == "true"
    assert reason in page.text
    assert (kept[field], kept["name"]) == (value, entered["name"])
    assert ("property_value", "kept too") in page.form_to("/new")["fields"]
    assert client.get("/images?is_public=none").json["images"] == []


def test_a_property_named_twice_is_refused_with_both_kept(client):
    form = visit(client, "/ui/images/new").form_to("/new")
    values = dict(form["fields"]) | {"property_name": ["a", "a"], "property_value": ["1", "2"]}

    response = client.post("/ui/images/new", data=values)

    assert response.status_code == 400
    assert "Must not occur twice" in response.text
    assert response.text.count('name="property_name" value="a"') == 2


def test_more_rows_for_properties_come_without_losing_anything(client):
    form = visit(client, "/ui/images/new").form_to("/new")

    page = Page(send(client, form, 200, name="kept", property_name="a", property_value="b", more="true").text)

    fields = page.form_to("/new")["fields"]
    assert sum(name == "property_name" for name, _ in fields) > sum(
        name == "property_name" for name, _ in form["fields"]
    )
    assert ("name", "kept") in fields
    assert ("property_value", "b") in fields


def test_an_edit_changes_what_it_changes_and_no_more(client, make_image):
    url = "https://user:word@host/a?sig=abc"
    image = make_image(
        properties={"keep": "a\r\nb", "null": None, "gone": "x"},
        size=5,
        location_data=[{"url": url, "metadata": {"k": 1}, "status": "active"}],
    )
    form = visit(client, f"/ui/images/{image['id']}/edit").form_to("/edit")
    form["fields"] = [(name, "" if value in ("gone", "x") else value) for name, value in form["fields"]]

    page = follow(client, send(client, form, name="renamed", size=""))

    changed = show(client, image["id"])
    assert "renamed is changed" in page.text
    assert changed == image | {
        "name": "renamed",
        "size": None,
        "properties": {"keep": "a\r\nb", "null": None},
        "updated_at": changed["updated_at"],
    }


def test_locations_that_look_alike_when_masked_stay_apart_and_a_changed_one_must_be_whole(client, make_image):
    urls = ["https://a:1@h/x", "https://b:2@h/x", "https://c:3@h/y"]
    image = make_image(locations=urls)
    form = visit(client, f"/ui/images/{image['id']}/edit").form_to("/edit")
    shown = dict(form["fields"])["locations"]

    refused = send(client, form, 400, locations=shown.replace("/y", "/z"))
    send(client, form, locations=shown.replace("https://•••@h/y", "https://d:4@h/z"))

    assert "Must be complete if it is new or changed" in refused.text
    stored = [entry["url"] for entry in show(client, image["id"])["location_data"]]
    assert stored == [*urls[:2], "https://d:4@h/z"]


def test_numbers_in_a_locations_metadata_stay_as_they_were_written(client, make_image):
    metadata = {"n": 100000000000000000001, "part": 0.1}
    image = make_image(location_data=[{"url": "https://h/a", "metadata": metadata}])
    form = visit(client, f"/ui/images/{image['id']}/edit").form_to("/edit")

    send(client, form, locations="https://h/a\r\nhttps://h/b")

    stored, shown = client.get(f"/images/{image['id']}"), client.get(f"/ui/images/{image['id']}/json")
    assert stored.json["image"]["location_data"][0]["metadata"] == metadata
    assert (shown.data, shown.headers["ETag"]) == (stored.data, stored.headers["ETag"])


def test_an_edit_that_changes_nothing_is_none(client, make_image):
    image = make_image(properties={"a": "b"}, location="https://u:p@h/a")

    send(client, visit(client, f"/ui/images/{image['id']}/edit").form_to("/edit"))

    assert show(client, image["id"]) == image


def test_what_a_field_of_one_line_cannot_hold_stays_as_it_was(client, make_image):
    image = make_image(name=" two\nlines ", owner=" tenant")
    form = visit(client, f"/ui/images/{image['id']}/edit").form_to("/edit")
    # As browsers do it with fields of one line.
    form["fields"] = [(name, value.replace("\n", "")) for name, value in form["fields"]]

    send(client, form, size="7")

    changed = show(client, image["id"])
    assert changed == image | {"size": 7, "updated_at": changed["updated_at"]}


def test_a_clash_shows_both_versions_and_each_field_can_be_chosen(client, make_image):
    image = make_image(name="old", size=1, properties={"a": "old", "b": "old"})
    form = visit(client, f"/ui/images/{image['id']}/edit").form_to("/edit")
    theirs = {"name": "theirs", "size": 2, "properties": {"a": "theirs"}}
    client.put(f"/images/{image['id']}", json={"image": theirs})

    page = Page(send(client, form, 412, name="mine", min_ram="7").text)
    choices = {attributes["name"]: attributes["value"] for tag, attributes in page.tags if "checked" in attributes}
    answer = send(client, page.form_to("/edit"), **{"choice name": "theirs"})

    assert "Someone else has changed" in page.text
    assert "mine" in page.text
    assert "theirs" in page.text
    assert choices == {
        "choice name": "mine",
        "choice size": "theirs",
        "choice property a": "theirs",
        "choice min_ram": "mine",
    }
    changed = show(client, image["id"])
    assert answer.status_code == 303
    assert (changed["name"], changed["size"], changed["min_ram"]) == ("theirs", 2, 7)
    assert changed["properties"] == {"a": "theirs", "b": "old"}


def test_who_keeps_its_own_in_a_clash_has_it_and_a_second_clash_is_one_again(client, make_image):
    image = make_image(name="old")
    form = visit(client, f"/ui/images/{image['id']}/edit").form_to("/edit")
    client.put(f"/images/{image['id']}", json={"image": {"name": "theirs"}})
    page = Page(send(client, form, 412, name="mine").text)
    client.put(f"/images/{image['id']}", json={"image": {"min_disk": 3}})

    page = Page(send(client, page.form_to("/edit"), 412).text)
    send(client, page.form_to("/edit"))

    changed = show(client, image["id"])
    assert (changed["name"], changed["min_disk"]) == ("mine", 3)


def test_an_image_is_shared_and_unshared(client, make_image):
    image = make_image()
    member = 'a/b "c" ü'

    form = visit(client, f"/ui/images/{image['id']}").form_to("/members")
    page = follow(client, send(client, form, member_id=member, can_share="true"))
    shared = client.get(f"/images/{image['id']}/members").json["members"]
    page = follow(client, send(client, page.form_to("/members/remove")))

    assert shared == [{"member_id": member, "can_share": True}]
    assert "no longer shared" in page.text
    assert client.get(f"/images/{image['id']}/members").json["members"] == []


def test_a_member_that_nobody_can_be_is_refused_beside_the_form(client, make_image):
    image = make_image()
    form = visit(client, f"/ui/images/{image['id']}").form_to("/members")

    page = Page(send(client, form, 400, member_id="x" * 256).text)

    assert "Must be text of 1 to 255" in page.text
    assert ("member_id", "x" * 256) in page.form_to("/members")["fields"]


def test_a_protected_image_is_not_deleted_until_it_is_unprotected(client, make_image):
    image = make_image()
    deletion = visit(client, f"/ui/images/{image['id']}/delete").form_to("/delete")
    page = follow(client, send(client, visit(client, f"/ui/images/{image['id']}").form_to("/protect")))

    assert "is protected" in page.text
    asked = visit(client, f"/ui/images/{image['id']}/delete")
    refused = Page(send(client, deletion, 403).text)
    assert all("Unprotect it before you delete it" in each.text for each in (asked, refused))
    assert "set protected to false" not in refused.text
    assert [form for form in asked.forms if form["action"].endswith("/delete")] == []
    follow(client, send(client, asked.form_to("/protect")))
    send(client, deletion, 412)  # it has changed since that page
    send(client, visit(client, f"/ui/images/{image['id']}/delete").form_to("/delete"))
    assert show(client, image["id"])["deleted"] is True


def test_a_deletion_is_confirmed_told_and_undone_by_an_admin(client, make_image):
    image = make_image(name="mistake")

    page = follow(client, send(client, visit(client, f"/ui/images/{image['id']}/delete").form_to("/delete")))

    assert "mistake is deleted" in page.text
    page = follow(client, send(client, page.form_to("/undelete")))
    assert "mistake is restored" in page.text
    assert show(client, image["id"])["deleted"] is False


def test_who_is_no_admin_is_told_that_it_cannot_be_undone(client_as, make_image):
    image = make_image(owner="owner")
    owner = client_as("owner")

    asked = visit(owner, f"/ui/images/{image['id']}/delete")
    told = follow(owner, send(owner, asked.form_to("/delete")))

    assert "Only an admin can undo it" in asked.text
    assert "Only an admin can restore it" in told.text
    assert [form for form in told.forms if form["action"].endswith("/undelete")] == []


def test_a_status_that_an_undeletion_changes_stands_in_the_history(client, make_image):
    image = make_image()
    assert client.put(f"/images/{image['id']}", json={"image": {"status": "pending_delete"}}).status_code == 200
    client.delete(f"/images/{image['id']}")

    client.post(f"/images/{image['id']}/undelete", json={})

    newest = client.get(f"/images/{image['id']}/history").json["history"][0]
    assert newest["action"] == "undeleted"
    assert newest["changes"] == [{"field": "status", "from": "pending_delete", "to": "queued"}]


def test_what_was_changed_is_told_to_the_owner_and_to_nobody_else(client_as, make_image):
    image = make_image(name="old", owner="owner", is_public=True, properties={"a": "1", "b": "2"})
    owner = client_as("owner")
    changes = {"name": "new <b>", "protected": True, "location": "https://user:word@host/a"}
    owner.put(f"/images/{image['id']}", json={"image": {**changes, "properties": {"a": "3"}}})
    owner.put(f"/images/{image['id']}/members/friend", json={"member": {"can_share": True}})

    told = visit(owner, f"/ui/images/{image['id']}").text.partition(" History ")[2]
    others = visit(client_as("stranger"), f"/ui/images/{image['id']}")

    assert "shared by owner Shared, with the right to share it, with friend" in told
    assert "updated by owner Name: old → new <b>" in told
    assert "Protected from deletion: no → yes" in told
    assert "Property a : 1 → 3" in told
    assert "created by an admin" in told
    assert "word" not in told
    assert "History" not in others.text


def test_a_quota_is_told_with_the_form_kept(client_as, make_client):
    client = make_client(auth__flavor="trusted-auth", api__image_property_quota="1")
    headers = {"X-Identity-Status": "Confirmed", "X-Tenant-Id": "acme", "X-Roles": "member"}
    client.environ_base |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    visit(client, "/ui/images/new")
    form = visit(client, "/ui/images/new").form_to("/new")
    values = dict(form["fields"]) | {"name": "kept", "property_name": ["a", "b"], "property_value": ["1", "2"]}

    response = client.post("/ui/images/new", data=values)

    assert response.status_code == 413
    assert "image_property_quota" in response.text
    assert 'value="kept"' in response.text


def test_a_damaged_database_is_a_page_that_says_so(client, make_image, database_path):
    database_path.write_bytes(b"not a database" * 1000)

    page = visit(client, "/ui/images", 503)

    assert "Temporarily unavailable" in page.text
