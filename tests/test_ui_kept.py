"""Refused forms: they keep their input, and show the reason and the next step."""

import sqlite3
from contextlib import closing

import pytest
from conftest import IMAGE
from support.ui_pages import Page, send, visit

import auth


def edit_form(client, image):
    return visit(client, f"/ui/images/{image['id']}/edit").form_to("/edit")


def kept(answer, ending="/edit"):
    """The fields of the form that came back."""
    return dict(Page(answer.text).form_to(ending)["fields"][::-1])


@pytest.fixture
def locked(database_path):
    """A context: another program holds the database's lock."""

    def lock():
        connection = closing(sqlite3.connect(database_path, isolation_level=None))
        connection.thing.execute("BEGIN IMMEDIATE")
        return connection

    return lock


@pytest.mark.parametrize("ending", ["/edit", "/new"])
def test_a_locked_database_costs_no_text(make_client, make_image_of, locked, ending):
    client = make_client(database__busy_timeout=0)
    form = (
        edit_form(client, make_image_of(client)) if ending == "/edit" else visit(client, "/ui/images/new").form_to("")
    )

    with locked():
        refused = send(client, form, 503, name="typed", property_name="a", property_value="long text")
    again = Page(refused.text).form_to(ending)

    assert "The database is locked" in refused.text
    assert "Retry-After" in refused.headers
    assert {**kept(refused, ending), "name": "typed", "property_value": "long text"} == kept(refused, ending)
    send(client, again)
    assert client.get("/images?name=typed&is_public=none").json["images"] != []


@pytest.fixture
def make_image_of():
    def make(client, **fields):
        return client.post("/images", json={"image": {**IMAGE, **fields}}).json["image"]

    return make


def test_a_small_form_that_the_database_refuses_is_on_the_images_page_again(make_client, make_image_of, locked):
    client = make_client(database__busy_timeout=0)
    image = make_image_of(client)
    form = visit(client, f"/ui/images/{image['id']}").form_to("/members")

    with locked():
        refused = send(client, form, 503, member_id="typed", can_share="true")

    assert "The database is locked" in refused.text
    assert kept(refused, "/members")["member_id"] == "typed"
    assert kept(refused, "/members")["can_share"] == "true"


def test_a_form_of_an_earlier_session_is_shown_again_and_can_be_sent(client, make_image):
    form = edit_form(client, make_image())

    refused = send(client, form, 403, name="typed", form_token="0" * 64)
    send(client, Page(refused.text).form_to("/edit"))

    assert client.get("/images?name=typed&is_public=none").json["images"] != []


def test_what_is_too_large_is_kept_too(client, make_image):
    form = edit_form(client, make_image())
    text = "ä" * 600_000

    refused = send(client, form, 413, checksum=text)

    assert "max_body_bytes" in refused.text
    assert kept(refused)["checksum"] == text


@pytest.mark.parametrize("ending", ["/edit", "/new"])
def test_a_session_that_ends_meanwhile_costs_no_text(make_client, make_image_of, ending):
    client = make_client(auth__flavor="token")
    number, first = auth.create_token("owner", ["member"])
    _, second = auth.create_token("owner", ["member"])
    image = client.post("/images", json={"image": IMAGE}, headers={"X-Auth-Token": first}).json["image"]
    sign_in(client, first)
    form = visit(client, f"/ui/images/{image['id']}/edit" if ending == "/edit" else "/ui/images/new").form_to(ending)
    auth.revoke_token(number)

    refused = send(client, form, 401, name="typed")
    sign_in(client, second)
    again = send(client, Page(refused.text).form_to(ending), 403)
    send(client, Page(again.text).form_to(ending))

    assert "Your session has ended" in refused.text
    assert any(link.startswith("/ui/signin") for link in Page(refused.text).links)
    assert client.get("/images?name=typed", headers={"X-Auth-Token": second}).json["images"] != []


def sign_in(client, text):
    send(client, visit(client, "/ui/signin").form_to("/signin"), token=text)


def test_who_is_led_to_sign_in_because_the_session_ended_is_told_so_once(make_client):
    client = make_client(auth__flavor="token")
    number, text = auth.create_token("owner", ["member"])
    sign_in(client, text)
    auth.revoke_token(number)

    led = client.get("/ui/images")

    assert "Your session has ended" in visit(client, led.location).text
    assert "Your session has ended" not in visit(client, led.location).text


def test_who_is_signed_in_is_so_on_every_page_and_needs_no_sign_in(make_client):
    client = make_client(auth__flavor="token")
    sign_in(client, auth.create_token("owner", ["member"])[1])
    unknown = "00000000-0000-4000-8000-000000000000"

    for page in (f"/ui/images/{unknown}", "/ui/nowhere"):
        assert [form["action"] for form in visit(client, page, 404).forms] == ["/ui/signout"]
    assert client.get("/ui/signin?next=/ui/dashboard").location == "/ui/dashboard"


def test_a_deleted_image_is_not_edited_but_said_to_be_deleted(client, make_image):
    image = make_image()
    form = edit_form(client, image)
    client.delete(f"/images/{image['id']}")

    asked = visit(client, f"/ui/images/{image['id']}/edit", 409)
    refused = send(client, form, 409, name="typed")
    page = Page(refused.text)
    send(client, page.form_to("/undelete"))
    clash = Page(send(client, page.form_to("/edit"), 412).text)
    send(client, clash.form_to("/edit"))

    assert "The image is deleted: undelete it first" in asked.text
    assert asked.form_to("/undelete")
    assert "The image is deleted: undelete it first" in page.text
    assert "Somebody else" not in refused.text
    assert client.get(f"/images/{image['id']}").json["image"]["name"] == "typed"


def test_an_image_that_is_gone_for_its_editor_costs_no_text(client_as, make_image):
    image = make_image(owner="owner")
    owner = client_as("owner")
    form = edit_form(owner, image)
    client_as("admin").delete(f"/images/{image['id']}")

    refused = send(owner, form, 404, name="typed")

    assert "was deleted, or is no longer shared" in refused.text
    assert kept(refused)["name"] == "typed"


def test_a_value_without_a_name_is_refused_and_kept(client, make_image):
    image = make_image(properties={"a": "b"})
    form = edit_form(client, image)
    form["fields"] = [(name, "" if value == "a" else value) for name, value in form["fields"]]

    refused = send(client, form, 400)

    assert "The value b has no name" in refused.text
    assert kept(refused)["property_value"] == "b"
    assert client.get(f"/images/{image['id']}").json["image"]["properties"] == {"a": "b"}


def test_all_that_is_wrong_is_said_at_once_with_lines_and_links_to_the_fields(client):
    form = visit(client, "/ui/images/new").form_to("/new")
    form["fields"] += [("property_name", "a"), ("property_value", "1"), ("property_name", "a"), ("property_value", "2")]

    page = Page(send(client, form, 400, size="many", locations="file:///a\r\n/srv/a.qcow2").text)

    assert "a: Must not occur twice." in page.text
    assert "Line 2: Must be a URL with a scheme, such as file:///" in page.text
    assert "Must be an integer" in page.text
    assert [link for link in page.links if link.startswith("#")][1:] == ["#size", "#locations", "#properties"]
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert {"size", "locations", "properties"} <= ids


def test_refusals_add_no_rows(client):
    form = visit(client, "/ui/images/new").form_to("/new")

    once = Page(send(client, form, 400, size="many").text).form_to("/new")
    twice = Page(send(client, once, 400).text).form_to("/new")

    assert len(form["fields"]) == len(once["fields"]) == len(twice["fields"])


def test_a_blank_tenant_is_told_so(client, make_image):
    form = visit(client, f"/ui/images/{make_image()['id']}").form_to("/members")

    refused = send(client, form, 400, member_id="  ")

    assert "Must not be blank" in refused.text
    assert "surrogate" not in refused.text


@pytest.mark.parametrize("place", ["protect", "members", "members/remove", "undelete"])
def test_the_address_of_a_form_leads_to_its_image(client, make_image, place):
    image = make_image()

    answer = client.get(f"/ui/images/{image['id']}/{place}")

    assert (answer.status_code, answer.location) == (303, f"/ui/images/{image['id']}")
    assert client.get(f"/ui/images/00000000-0000-4000-8000-000000000000/{place}").status_code == 404


def test_an_error_page_of_a_form_leads_back_to_its_image(client_as, make_image):
    image = make_image(owner="owner", is_public=True)

    refused = client_as("stranger").post(f"/ui/images/{image['id']}/protect", data={})

    assert refused.status_code == 403
    assert f"/ui/images/{image['id']}" in Page(refused.text).links


@pytest.mark.exhaustive
@pytest.mark.parametrize("properties", [{"a": "ü" * 150_000}, {f"name {number}": "v" for number in range(2600)}])
def test_a_large_image_is_renamed(make_client, make_image_of, properties):
    client = make_client(api__image_property_quota="-1")
    image = make_image_of(client, properties=properties)

    send(client, edit_form(client, image), name="renamed")

    assert client.get(f"/images/{image['id']}").json["image"]["name"] == "renamed"


@pytest.mark.exhaustive
def test_an_image_that_no_form_can_carry_says_how_it_is_changed(make_client, make_image_of):
    client = make_client(api__image_property_quota="-1")
    image = make_image_of(client, properties={f"{number}": "v" for number in range(9_001)})

    page = visit(client, f"/ui/images/{image['id']}/edit", 413)

    assert "too large for a form" in page.text
    assert "curl -X PUT" in page.text


def test_a_status_that_deletes_is_not_chosen_but_stays_where_it_is(client, make_image):
    usual, leaving = make_image(), make_image()
    client.put(f"/images/{leaving['id']}", json={"image": {"status": "pending_delete"}})

    pages = [client.get(f"/ui/images/{image['id']}/edit").text for image in (usual, leaving)]

    assert "pending_delete" not in pages[0]
    assert ">deleted<" not in pages[0]
    assert "<option selected>pending_delete</option>" in pages[1]


def test_the_history_speaks_as_the_page_does(make_client, make_image_of):
    client = make_client(api__image_history_limit="4")
    image = make_image_of(client)
    path = f"/images/{image['id']}"
    client.put(path, json={"image": {"is_public": True}})
    client.put(path, json={"image": {"is_public": False, "size": 1536}})
    client.put(f"{path}/members/friend")
    whole = visit(client, f"/ui{path}").text
    client.delete(f"{path}/members/friend")

    page = client.get(f"/ui{path}").text
    told = Page(page).text

    assert "Visibility: public → private" in told
    assert "Size: nothing → 1.5 KiB" in told
    assert 'title="1,536 bytes"' in page
    assert "Shared with friend" in told
    assert "No longer shared with friend" in told
    assert "Older changes are not kept" in told
    assert "Older changes are not kept" not in whole


def test_a_clash_speaks_as_the_form_does(client_as, make_image):
    image = make_image(owner="owner")
    owner = client_as("owner")
    form = edit_form(owner, image)
    owner.put(f"/images/{image['id']}", json={"image": {"is_public": True, "min_ram": 5}})

    page = Page(send(owner, form, 412, min_ram="7", size="3").text)

    assert "Public no unchanged by you yes" in page.text
    assert "Memory needed, in MB 7 5" in page.text
    assert "Owner" not in page.text


def test_what_is_told_afterwards_is_what_was_done(client, make_image):
    image = make_image(name="mine")

    shared = send(client, visit(client, f"/ui/images/{image['id']}").form_to("/members"), member_id="friend")
    told = visit(client, shared.location).text
    unchanged = send(client, edit_form(client, image))

    assert "mine is shared with friend ." in told
    assert "mine is unchanged" in visit(client, unchanged.location).text


def test_long_values_fold_and_masked_locations_are_not_copied(client, make_image):
    image = make_image(properties={"long": "x" * 3000}, location="https://user:word@host/a")

    page = visit(client, f"/ui/images/{image['id']}")

    assert "All 3,000 characters" in page.text
    assert "data-copy>https" not in client.get(f"/ui/images/{image['id']}").text
