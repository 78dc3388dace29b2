"""PUT /images/<id>: what a change touches, what it refuses, and what it must not lose."""

import threading

import pytest
from conftest import IMAGE

ID = "71c675ab-d94f-49cd-a114-e12490b328d9"
STATUSES = ("active", "saving", "queued", "killed", "pending_delete", "deleted", "deactivated")
PURGE = "X-Glance-Registry-Purge-Props"
PAIR = ["If either format is one of ari, aki, ami, both must be the same."]
FULL = {"id": ID, "size": 5, "virtual_size": 6, "checksum": "c2e5db72bd7fd153f53ede5da5a06de3", "owner": "acme"}
FULL |= {"min_disk": 7, "min_ram": 8, "properties": {"arch": "x86", "kernel": "5"}}
FULL |= {"location_data": [{"url": "file:///a", "metadata": {"a": 1}, "status": "active"}]}
PATH = f"/images/{ID}"


def change(client, headers=None, from_state=None, **fields):
    body = {"image": fields} | ({"from_state": from_state} if from_state else {})
    return client.put(PATH, json=body, headers=headers)


def snapshot(client):
    """Everything that a client can see of the image."""
    response = client.get(PATH)
    own_headers = [pair for pair in response.headers if pair[0] != "X-Openstack-Request-Id"]
    return response.json, response.headers["ETag"], own_headers


def assert_refused(response, status, errors=None):
    assert response.status_code == status
    assert response.json.get("errors") == errors


@pytest.mark.parametrize(
    ("field", "given", "stored"),
    [
        *[("name", "new 😀", "new 😀"), ("name", "", ""), ("name", "a" * 255, "a" * 255)],
        *[("status", status, status) for status in STATUSES],
        *[("disk_format", "raw", "raw"), ("container_format", "ovf", "ovf")],
        *[("size", 0, 0), ("size", str(2**63 - 1), 2**63 - 1), ("virtual_size", "9", 9)],
        *[("checksum", "", ""), ("min_disk", 0, 0), ("min_ram", 2**31 - 1, 2**31 - 1)],
        *[("is_public", "YES", True), ("protected", "1", True), ("owner", "other", "other")],
        ("properties", {"arch": "arm", "new": 1.50}, {"arch": "arm", "kernel": "5", "new": "1.5"}),
    ],
)
def test_a_change_touches_what_it_names_and_leaves_the_rest(client, make_image, field, given, stored):
    image = make_image(**FULL)

    response = change(client, **{field: given})

    changed = response.json["image"]
    assert response.status_code == 200
    assert changed == {**image, field: stored, "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > image["updated_at"]
    assert client.get(PATH).json == response.json


def test_the_answer_has_the_etag_that_get_gives_and_every_change_has_another(client, make_image):
    make_image(**FULL)
    tags = [client.get(PATH).headers["ETag"]]

    for name in ("b", "c", "cirros"):
        response = change(client, name=name)
        tags.append(response.headers["ETag"])
        assert client.get(PATH).headers["ETag"] == tags[-1]

    assert len(set(tags)) == 4


@pytest.mark.parametrize("form", [dict, lambda pairs: [{"name": name, "value": value} for name, value in pairs]])
def test_properties_are_merged_by_name(client, make_image, form):
    make_image(**FULL)

    response = change(client, properties=form([("kernel", None), ("Arch", "arm"), ("new", True)]))

    expected = {"arch": "x86", "kernel": None, "Arch": "arm", "new": "true"}
    assert response.json["image"]["properties"] == expected


@pytest.mark.sampled
@pytest.mark.parametrize("word", ["true", "True", "TRUE", "tRuE", "1", "yes", "Yes", "YES"])
@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"properties": {"kernel": "6", "new": "1"}}, {"kernel": "6", "new": "1"}),
        ({"properties": [{"name": "new", "value": "1"}]}, {"new": "1"}),
        ({"properties": {}}, {}),
        ({"name": "only the name"}, {}),
        ({}, {}),
    ],
)
def test_with_the_purge_header_the_properties_named_become_all_there_are(client, make_image, word, fields, left):
    make_image(**FULL)

    response = change(client, headers={PURGE: word}, **fields)

    assert response.status_code == 200
    assert response.json["image"]["properties"] == left
    assert client.get(PATH).json == response.json


@pytest.mark.parametrize("word", ["false", "False", "0", "no", "", "on", "y", "t", "2", "truee", "true, false"])
def test_with_another_word_in_the_purge_header_properties_are_merged(client, make_image, word):
    make_image(**FULL)

    response = change(client, headers={PURGE: word}, properties={"new": "1"})

    assert response.json["image"]["properties"] == {"arch": "x86", "kernel": "5", "new": "1"}


@pytest.mark.parametrize("field", ["name", "size", "virtual_size", "checksum", "owner"])
def test_null_clears_a_field_that_can_be_null(client, make_image, field):
    image = make_image(**FULL)

    changed = change(client, **{field: None}).json["image"]

    assert changed == {**image, field: None, "updated_at": changed["updated_at"]}


def test_a_null_location_clears_the_locations(client, make_image):
    make_image(**FULL)

    changed = change(client, location=None).json["image"]

    assert (changed["location"], changed["location_data"]) == (None, [])


@pytest.mark.parametrize(
    ("field", "accepted"),
    [
        ("status", "Invalid image status: must be one of " + ", ".join(STATUSES)),
        ("disk_format", "ari, aki, ami, raw, iso, vhd, vdi, qcow2, vmdk"),
        ("container_format", "ari, aki, ami, bare, ovf"),
        ("min_disk", "an integer from 0 to 2147483647"),
        ("min_ram", "an integer from 0 to 2147483647"),
        ("is_public", "true, false, 1, 0, yes, no"),
        ("protected", "true, false, 1, 0, yes, no"),
        ("properties", "an object of name → value, or a list of {name, value}"),
    ],
)
def test_null_is_refused_for_a_field_that_cannot_be_null(client, make_image, field, accepted):
    make_image(**FULL)
    before = snapshot(client)

    response = change(client, **{field: None})

    assert response.status_code == 400
    assert list(response.json["errors"]) == [field]
    assert accepted in response.json["errors"][field][0]
    assert snapshot(client) == before


@pytest.mark.parametrize(
    ("fields", "urls"),
    [
        ({"location": "x:1"}, ["x:1"]),
        ({"locations": ["x:1", "x:2"]}, ["x:1", "x:2"]),
        ({"location_data": [{"url": "x:1"}]}, ["x:1"]),
        ({"location_data": [{"url": "x:1"}], "locations": ["x:2"], "location": "x:3"}, ["x:1"]),
        ({"locations": [], "location": "x:3"}, []),
        ({"location_data": []}, []),
    ],
)
def test_locations_named_replace_those_there_were(client, make_image, fields, urls):
    make_image(**FULL)

    changed = change(client, **fields).json["image"]

    assert changed["location_data"] == [{"url": url, "metadata": {}, "status": "active"} for url in urls]
    assert changed["location"] == (urls[0] if urls else None)


@pytest.mark.parametrize(
    ("before", "fields", "is_accepted"),
    [
        (("qcow2", "bare"), {"disk_format": "ami"}, False),
        (("qcow2", "bare"), {"container_format": "aki"}, False),
        (("qcow2", "bare"), {"disk_format": "ami", "container_format": "aki"}, False),
        (("qcow2", "bare"), {"disk_format": "ami", "container_format": "ami"}, True),
        (("qcow2", "bare"), {"disk_format": "qcow2", "container_format": "ovf"}, True),
        (("ami", "ami"), {"container_format": "bare"}, False),
        (("ami", "ami"), {"disk_format": "raw"}, False),
        (("ami", "ami"), {"disk_format": "aki"}, False),
        (("ami", "ami"), {"disk_format": "ami"}, True),
        (("ami", "ami"), {"disk_format": "raw", "container_format": "ovf"}, True),
    ],
)
def test_amazons_formats_must_be_a_pair_in_the_merged_record(client, make_image, before, fields, is_accepted):
    image = make_image(**FULL, disk_format=before[0], container_format=before[1])
    untouched = snapshot(client)

    response = change(client, **fields)

    if is_accepted:
        assert response.json["image"] == {**image, **fields, "updated_at": response.json["image"]["updated_at"]}
    else:
        assert_refused(response, 400, {"disk_format": PAIR, "container_format": PAIR})
        assert snapshot(client) == untouched


@pytest.mark.parametrize(
    ("before", "fields", "is_accepted"),
    [
        ({}, {"disk_format": "ami"}, True),
        ({"disk_format": "ami"}, {"container_format": "ami"}, True),
        ({"disk_format": "ami"}, {"container_format": None}, True),
        ({"disk_format": "ami"}, {"container_format": "bare"}, False),
        ({"container_format": "bare"}, {"disk_format": "aki"}, False),
        ({"disk_format": "raw", "container_format": "bare"}, {"disk_format": None}, True),
        ({"disk_format": "raw", "container_format": "bare"}, {"container_format": "ami", "disk_format": None}, True),
    ],
)
def test_relaxed_formats_can_be_null_and_null_pairs_with_any(make_client, before, fields, is_accepted):
    relaxed = make_client(api__strict_create="false")
    image = relaxed.post("/images", json={"image": {"id": ID, **before}}).json["image"]
    untouched = snapshot(relaxed)

    response = change(relaxed, **fields)

    if is_accepted:
        assert response.json["image"] == {**image, **fields, "updated_at": response.json["image"]["updated_at"]}
    else:
        assert_refused(response, 400, {"disk_format": PAIR, "container_format": PAIR})
        assert snapshot(relaxed) == untouched


def test_from_state_lets_the_change_happen_while_the_status_is_that(client, make_image):
    make_image(id=ID, status="queued")

    first = change(client, from_state="queued", status="saving")
    second = change(client, from_state="saving", status="active")

    assert (first.json["image"]["status"], second.json["image"]["status"]) == ("saving", "active")


@pytest.mark.parametrize("from_state", [status for status in STATUSES if status != "active"])
def test_another_from_state_is_a_conflict(client, make_image, from_state):
    make_image(**FULL)
    before = snapshot(client)

    response = change(client, from_state=from_state, headers={PURGE: "true"}, status="killed", properties={"a": "b"})

    assert_refused(response, 409)
    assert response.json["detail"] == "The image's status is active, which is not the from_state of the request."
    assert snapshot(client) == before


@pytest.mark.parametrize("value", [None, ID, ID.upper(), ID.replace("-", "")])
def test_a_null_id_and_the_images_own_in_any_spelling_are_ignored(client, make_image, value):
    make_image(**FULL)

    response = change(client, id=value, name="new")

    assert response.status_code == 200
    assert (response.json["image"]["id"], response.json["image"]["name"]) == (ID, "new")


@pytest.mark.parametrize(
    "value", [ID.replace("7", "8"), f"urn:uuid:{ID}", f"{{{ID}}}", f"{ID}\n", "x", "", 0, 1, False, True, [], {}]
)
def test_another_id_is_refused(client, make_image, value):
    make_image(**FULL)
    before = snapshot(client)

    response = change(client, id=value, name="new")

    assert response.status_code == 400
    assert list(response.json["errors"]) == ["id"]
    assert snapshot(client) == before


@pytest.mark.sampled
@pytest.mark.parametrize("caller", ["admin", "owner"])
@pytest.mark.parametrize("value", ["1999-01-01T00:00:00", "garbage", None, True, 5, {}, "\0"])
def test_times_and_marks_of_deletion_are_ignored_from_everybody(client_as, make_image, caller, value):
    image = make_image(**{**FULL, "owner": "owner"})
    ignored = dict.fromkeys(("created_at", "updated_at", "deleted", "deleted_at", "unknown"), value)

    changed = change(client_as(caller), **ignored, name="new").json["image"]

    assert changed == {**image, "name": "new", "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > image["updated_at"]


@pytest.mark.parametrize(
    ("caller", "given", "stored"),
    [
        *[("owner", given, "owner") for given in ("other", "", None, 5, "a" * 256, "\0")],
        *[("admin", "other", "other"), ("admin", None, None), ("admin", "", None), ("admin@acme", "other", "other")],
    ],
)
def test_the_owner_changes_only_by_an_admin(client_as, make_image, caller, given, stored):
    make_image(**{**FULL, "owner": "owner"})

    response = change(client_as(caller), owner=given, name="new")

    assert response.status_code == 200
    assert (response.json["image"]["owner"], response.json["image"]["name"]) == (stored, "new")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "new"},
        {"properties": {"arch": "arm"}},
        {"properties": {"new": "1"}},
        {"location": "x:1"},
        {"location": None},
        {"is_public": True},
        {"status": "killed"},
    ],
)
def test_every_change_moves_updated_at_and_the_etag_and_only_that_time(client, make_image, fields):
    image = make_image(**FULL)
    tag = client.get(PATH).headers["ETag"]

    response = change(client, **fields)

    assert response.json["image"]["updated_at"] > image["updated_at"]
    assert response.json["image"]["created_at"] == image["created_at"]
    assert response.headers["ETag"] != tag


@pytest.mark.parametrize(
    ("imported", "expected"),
    [
        ("2999-01-01T00:00:00.000000", "2999-01-01T00:00:00.000001"),
        ("9998-12-31T23:59:59.999999", "9999-01-01T00:00:00.000000"),
    ],
)
def test_updated_at_never_moves_backwards(client, make_image, imported, expected):
    make_image(**FULL, updated_at=imported)

    response = change(client, name="new")

    assert response.json["image"]["updated_at"] == expected


def test_changes_in_quick_succession_have_rising_times(client, make_image):
    make_image(**FULL)

    times = [change(client, properties={"n": number}).json["image"]["updated_at"] for number in range(30)]

    assert times == sorted(set(times))


@pytest.mark.sampled
@pytest.mark.parametrize("headers", [{}, {PURGE: "true"}])
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": "a" * 256}, "name"),
        ({"status": "unknown"}, "status"),
        ({"disk_format": ""}, "disk_format"),
        ({"container_format": "docker"}, "container_format"),
        *[({"size": 2**63}, "size"), ({"virtual_size": -1}, "virtual_size")],
        ({"checksum": "a" * 33}, "checksum"),
        *[({"min_disk": 1.0}, "min_disk"), ({"min_ram": True}, "min_ram")],
        *[({"is_public": "maybe"}, "is_public"), ({"protected": 2}, "protected")],
        ({"owner": 5}, "owner"),
        ({"properties": {"arch": {}, "new": "1"}}, "properties"),
        ({"properties": {"": "x", "new": "1"}}, "properties"),
        ({"location_data": [{"url": "x:1"}, {"url": "no scheme"}]}, "location_data"),
        ({"location": ""}, "location"),
    ],
)
def test_a_refused_change_changes_nothing(client, make_image, headers, fields, named):
    make_image(**FULL)
    before = snapshot(client)
    valid = {"name": "new", "size": 1, "properties": {"new": "1"}, "location": "x:9", "is_public": True}

    response = change(client, headers=headers, **{**valid, **fields})

    assert response.status_code == 400
    assert list(response.json["errors"]) == [named]
    assert snapshot(client) == before


@pytest.mark.parametrize("form", ["%s", '"x", %s', '"x" , %s, "y"', "*"])
def test_if_match_lets_a_change_happen_to_the_record_that_was_read(client, make_image, form):
    make_image(**FULL)
    tag = client.get(PATH).headers["ETag"]

    response = change(client, headers={"If-Match": form.replace("%s", tag)}, name="new")

    assert response.status_code == 200
    assert response.json["image"]["name"] == "new"


@pytest.mark.parametrize("form", ['"x"', '"x", "y"', "W/%s", '"x", W/%s'])
def test_if_match_with_other_tags_or_weak_ones_is_412(client, make_image, form):
    make_image(**FULL)
    before = snapshot(client)

    response = change(client, headers={"If-Match": form.replace("%s", before[1]), PURGE: "true"}, name="new")

    assert_refused(response, 412)
    assert response.json["title"] == "Precondition Failed"
    assert snapshot(client) == before


def test_a_tag_is_stale_after_any_change_also_one_back_to_the_same_content(client, make_image):
    make_image(**FULL)
    tag = client.get(PATH).headers["ETag"]
    change(client, name="new")
    change(client, name=IMAGE["name"])

    response = change(client, headers={"If-Match": tag}, name="newer")

    assert_refused(response, 412)
    assert client.get(PATH).json["image"]["name"] == IMAGE["name"]


def test_the_tags_of_creation_and_of_each_change_serve_for_the_next(client):
    tag = client.post("/images", json={"image": {**IMAGE, "id": ID}}).headers["ETag"]

    for name in ("a", "b", "c"):
        response = change(client, headers={"If-Match": tag}, name=name)
        assert response.status_code == 200
        tag = response.headers["ETag"]


def test_of_writers_that_read_the_same_record_one_succeeds_and_the_others_get_412(server):
    _, _, created = server.request("POST", "/images", {"image": IMAGE})
    path = f"/images/{created['image']['id']}"
    tag = server.request("GET", path)[1]["ETag"]
    barrier, statuses = threading.Barrier(6), {}

    def write(name):
        barrier.wait()
        statuses[name] = server.request("PUT", path, {"image": {"name": name}}, {"If-Match": tag})[0]

    writers = [threading.Thread(target=write, args=(f"writer {number}",)) for number in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert sorted(statuses.values()) == [200, 412, 412, 412, 412, 412]
    assert statuses[server.request("GET", path)[2]["image"]["name"]] == 200


def test_is_public_shows_the_image_to_everybody_and_hides_it_again(client_as, make_image):
    make_image(**{**FULL, "owner": "owner"})
    owner, stranger = client_as("owner"), client_as("stranger")

    seen = [stranger.get(PATH).status_code]
    for is_public in (True, False, "yes", "no"):
        change(owner, is_public=is_public)
        seen.append(stranger.get(PATH).status_code)

    assert seen == [404, 200, 404, 200, 404]


@pytest.mark.parametrize("from_state", [1, True, ["active"], {"status": "active"}])
def test_a_from_state_that_is_no_text_is_refused(client, make_image, from_state):
    path = f"/images/{make_image()['id']}"

    response = client.put(path, json={"image": {"name": "new"}, "from_state": from_state})

    assert response.status_code == 400
    assert list(response.json["errors"]) == ["from_state"]
    assert client.get(path).json["image"]["name"] == "cirros"
