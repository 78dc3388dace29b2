"""Pages of a list: their order, markers and next links, and that a walk shows every image once."""

import base64
import re
from collections import Counter
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from conftest import IMAGE

import models

SORT_KEYS = ("id", "name", "status", "disk_format", "container_format", "size", "created_at", "updated_at")
NEXT_LINK = re.compile(r'<(/[^/<>"\s][^<>"\s]*|/\?[^<>"\s]*)>; rel="next"', re.ASCII)
UNKNOWN_ID = "71c675ab-d94f-49cd-a114-e12490b328d9"
NO_UUID = "Must be a uuid in hexadecimal notation, such as 71c675ab-d94f-49cd-a114-e12490b328d9."
NO_SUCH_MARKER = "Must be the id of an image that you can see."
NO_POSITION = "Must be the position of a next link, sent with its marker and sort_key."
LARGEST = 2**63 - 1

NO_LIMITS = ["", "-1", "+1", "1.0", "1e1", "0x1", " 1", "1_0", "\u0663", "x", "none"]
NO_SORT_KEYS = ["", "NAME", "pk", "owner", "min_ram", "visibility", "properties", "name,id", "-name", "name desc", "1"]
NO_UUIDS = ["", "x", "0", "null", UNKNOWN_ID[:-1], f"{UNKNOWN_ID}0", f"{{{UNKNOWN_ID}}}", f"urn:uuid:{UNKNOWN_ID}"]
NO_UUIDS += [f"{UNKNOWN_ID}\n", f" {UNKNOWN_ID}", UNKNOWN_ID.replace("7", "\u0667"), f"-{UNKNOWN_ID.replace('-', '')}"]

# Values that repeat with different periods, so that nulls, empty texts and ties meet in many ways.
NAMES = [None, "", "b", "B", "a", None, "ä", "\U0001f427", "\uffee", "a", "10", "9"]
SIZES = [None, 0, 10, LARGEST, 9, None, 0]
STATUSES = ["active", "saving", "queued", "active"]
FORMATS = [("raw", "bare"), (None, "ovf"), ("qcow2", None), (None, None), ("ami", "ami")]
MOMENTS = ["2026-11-24T04:08:17", "2026-11-24T04:08:17.000001", "1999-12-31", "2026-11-24T04:08:17"]


def next_target(response):
    """Return the reference of the next page, or None; it is relative to the server."""
    link = response.headers.get("Link")
    return None if link is None else NEXT_LINK.fullmatch(link)[1]


def walk(client, target, key="id", between=lambda page: None):
    """Return all pages along next links, as lists of ``key``."""
    pages = []
    while target:
        response = client.get(target)
        assert response.status_code == 200, response.text
        assert len(pages) < 100, "no end"
        pages.append([image[key] for image in response.json["images"]])
        target = next_target(response)
        if target:
            between([image["id"] for image in response.json["images"]])
    return pages


def in_order(images, sort_key, sort_dir):
    """Return the specified order: null below every value, ties by created_at, then id."""

    def place(image):
        return image[sort_key] is not None, image[sort_key], image["created_at"], image["id"]

    return sorted(images, key=place, reverse=sort_dir == "desc")


def chunks(sequence, size):
    return [sequence[start : start + size] for start in range(0, len(sequence), size)]


def refusal(client, query, path="/images"):
    """Return the ``errors`` of a refused page."""
    response = client.get(path, query_string=query)
    assert (response.status_code, response.mimetype) == (400, "application/problem+json"), response.text
    assert "Link" not in response.headers
    return response.json["errors"]


@pytest.fixture
def make_five(make_image):
    """Return a function that creates public images a to e and returns their ids."""
    return lambda **fields: {name: make_image(name=name, is_public=True, **fields)["id"] for name in "abcde"}


@pytest.mark.sampled
@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
@pytest.mark.parametrize("sort_key", SORT_KEYS)
def test_pages_of_any_size_are_in_order_with_nulls_and_ties(make_client, sort_key, sort_dir):
    client = make_client(api__strict_create="false")
    with models.database.atomic():  # one commit for all
        for number in range(28):
            disk_format, container_format = FORMATS[number % 5]
            image = {"disk_format": disk_format, "container_format": container_format, "is_public": True}
            image |= {"name": NAMES[number % 12], "size": SIZES[number % 7], "status": STATUSES[number % 4]}
            image |= {"created_at": MOMENTS[number % 3], "updated_at": MOMENTS[number % 4]}
            image |= {"id": f"{number * 11 % 28:08x}-0000-4000-8000-000000000000"}
            assert client.post("/images", json={"image": image}).status_code == 200
    order = f"sort_key={sort_key}&sort_dir={sort_dir}"

    whole = client.get(f"/images/detail?{order}").json["images"]
    by_one = walk(client, f"/images?{order}&limit=1")
    by_two = walk(client, f"/?{order}&limit=2")
    by_seven = walk(client, f"/images/detail?{order}&limit=7")
    filtered = walk(client, f"/images?{order}&limit=2&size_min=1")

    expected = [image["id"] for image in in_order(whole, sort_key, sort_dir)]
    assert (len(expected), [image["id"] for image in whole]) == (28, expected)
    assert (by_one, by_two, by_seven) == (chunks(expected, 1), chunks(expected, 2), chunks(expected, 7))
    sized = {image["id"] for image in whole if image["size"]}
    assert filtered == chunks([image_id for image_id in expected if image_id in sized], 2)


def test_the_newest_image_comes_first_unless_asked_otherwise(client, make_five):
    make_five()

    orders = ["", "sort_key=created_at", "sort_dir=desc", "sort_dir=asc", "sort_key=name"]
    listed = {order: "".join(walk(client, f"/images?{order}", "name")[0]) for order in orders}

    reverse = dict.fromkeys(orders, "edcba")
    assert listed == {**reverse, "sort_dir=asc": "abcde"}


@pytest.mark.sampled
@pytest.mark.parametrize("path", ["/images", "/", "/images/detail"])
@pytest.mark.parametrize("caller", ["anonymous", "tenantless", "stranger", "member", "owner", "admin", "admin@owner"])
@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
def test_every_caller_pages_through_what_it_sees_and_nothing_else(client_as, make_image, sort_dir, caller, path):
    kinds = {"public": {"is_public": True}, "shared": {"members": {"member": False}}, "private": {}}
    kinds |= {"gone": {"is_public": True, "is_deleted": True}, "other": {"owner": "another"}}
    names = [f"{number}{kind}" for number in range(3) for kind in kinds]
    for name in names:
        make_image(**{"name": name, "owner": "owner", **kinds[name[1:]]})

    pages = walk(client_as(caller), f"{path}?sort_key=name&sort_dir={sort_dir}&limit=2", "name")

    seen = {"member": ("public", "shared")} | dict.fromkeys(("owner", "admin@owner"), ("public", "shared", "private"))
    expected = [name for name in names if name[1:] in seen.get(caller, ("public",))]
    assert pages == chunks(sorted(expected, reverse=sort_dir == "desc"), 2)


@pytest.mark.parametrize(
    ("query", "length", "has_more"),
    [
        ("", 2, True),
        ("limit=0", 0, False),
        ("limit=1", 1, True),
        ("limit=3", 3, True),
        ("limit=4", 3, True),
        ("limit=0003", 3, True),
        (f"limit={LARGEST}", 3, True),
        (f"limit={LARGEST + 1}", 3, True),
        (f"limit={'9' * 100}", 3, True),
        (f"limit={'9' * 5000}", 3, True),
        (f"limit={'0' * 5000}1", 1, True),
        ("limit=3&name=a", 1, False),
        ("limit=1&name=a", 1, False),
        ("limit=0&name=a", 0, False),
    ],
)
@pytest.mark.parametrize("path", ["/images", "/", "/images/detail"])
def test_a_page_is_as_long_as_limit_says_up_to_api_limit_max(make_client, path, query, length, has_more):
    client = make_client(api__limit_param_default=2, api__api_limit_max=3)
    for name in "abcde":
        assert client.post("/images", json={"image": {**IMAGE, "name": name, "is_public": True}}).status_code == 200

    response = client.get(f"{path}?{query}")

    assert (response.status_code, len(response.json["images"])) == (200, length)
    assert ("Link" in response.headers) == has_more


def test_api_limit_max_caps_the_default_limit_too(make_client):
    client = make_client(api__limit_param_default=100, api__api_limit_max=3)
    for name in "abcde":
        client.post("/images", json={"image": {**IMAGE, "name": name, "is_public": True}})

    pages = walk(client, "/images", "name")

    assert pages == [["e", "d", "c"], ["b", "a"]]


@pytest.mark.exhaustive
def test_a_list_holds_up_to_a_thousand_images_by_default(client, make_image):
    with models.database.atomic():  # one commit for all
        for number in range(1001):
            make_image(name=str(number), is_public=True)

    walks = [walk(client, f"/images?{query}", "name") for query in ("", "limit=1000", "limit=1001", "limit=5000")]

    assert walks == [chunks([str(number) for number in range(1000, -1, -1)], 1000)] * 4


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("parameter", "values", "message"),
    [
        ("limit", NO_LIMITS, "Must be an integer from 0."),
        ("sort_dir", ["", "ASC", "up", "asc,desc", "1"], "Must be one of asc, desc."),
        ("sort_key", NO_SORT_KEYS, f"Must be one of {', '.join(SORT_KEYS)}."),
        ("marker", NO_UUIDS, NO_UUID),
        ("marker", [UNKNOWN_ID, UNKNOWN_ID.upper(), UNKNOWN_ID.replace("-", "")], NO_SUCH_MARKER),
    ],
)
@pytest.mark.parametrize("path", ["/images", "/", "/images/detail"])
def test_a_paging_parameter_is_refused_with_what_it_takes(client, make_five, path, parameter, values, message):
    make_five()

    errors = {value: refusal(client, {parameter: value}, path) for value in values}

    assert errors == {value: {parameter: [message]} for value in values}


@pytest.mark.parametrize(
    ("caller", "inaccessible"),
    [(caller, kind) for caller in ("anonymous", "tenantless", "stranger", "member") for kind in ("private", "gone")]
    + [("owner", "gone"), ("owner", "another's")],
)
def test_an_inaccessible_marker_is_refused_as_an_unknown_one_is(client_as, make_image, caller, inaccessible):
    fields = {"private": {}, "gone": {"is_public": True, "is_deleted": True}, "another's": {"owner": "another"}}
    image = make_image(**{"owner": "owner", **fields[inaccessible]})
    make_image(name="visible", is_public=True)
    client, headers = client_as(caller), {"X-Openstack-Request-Id": "same"}

    answers = [client.get(f"/images?marker={marker}", headers=headers) for marker in (image["id"], UNKNOWN_ID)]

    assert answers[0].json["errors"] == {"marker": [NO_SUCH_MARKER]}
    assert (answers[0].status_code, answers[0].data) == (400, answers[1].data)


@pytest.mark.parametrize("marker", [UNKNOWN_ID, UNKNOWN_ID.upper(), UNKNOWN_ID.replace("-", ""), UNKNOWN_ID.title()])
def test_a_marker_counts_in_any_spelling(client, make_image, marker):
    for name, image_id in [("a", None), ("b", UNKNOWN_ID), ("c", None)]:
        make_image(name=name, is_public=True, id=image_id)

    pages = walk(client, f"/images?sort_key=name&sort_dir=asc&marker={marker}", "name")

    assert pages == [["c"]]


@pytest.mark.parametrize(
    "fields",
    [{"is_deleted": True}, {"status": "killed"}, {"is_public": False}, {"size": 1}, {"owner": "another"}],
    ids=str,
)
def test_an_admins_marker_need_not_be_in_the_list_itself(client, make_image, fields):
    image = {"is_public": True, "owner": "acme", "size": 5}
    make_image(name="a", **image)
    marker = make_image(**{"name": "b", **image, **fields})["id"]
    make_image(name="c", **image)

    pages = walk(client, f"/images?sort_key=name&sort_dir=asc&size_min=5&owner=acme&marker={marker}", "name")

    assert pages == [["c"]]


def test_after_the_last_image_comes_nothing(client, make_five):
    ids = make_five()

    response = client.get(f"/images?sort_key=name&sort_dir=asc&marker={ids['e']}")

    assert (response.status_code, response.json, response.headers.get("Link")) == (200, {"images": []}, None)


def change(admin, image_id, what):
    """Update an image, or delete it if ``what`` is None."""
    url = f"/images/{image_id}"
    response = admin.delete(url) if what is None else admin.put(url, json={"image": what})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("what", [{"name": "z"}, {"name": None}, {"is_public": False}, None], ids=str)
def test_a_next_link_goes_on_where_its_marker_stood(client_as, make_five, what):
    ids = make_five()
    client = client_as("stranger")
    target = next_target(client.get("/images?sort_key=name&sort_dir=asc&limit=2"))
    change(client_as("admin"), ids["b"], what)

    page = client.get(target).json["images"]

    assert [image["id"] for image in page] == [ids["c"], ids["d"]]


@pytest.mark.parametrize(
    ("new_name", "following"), [("bb", "cde"), ("d", "e"), ("zz", ""), ("", "acde"), (None, "acde"), ("B", "acde")]
)
def test_a_bare_marker_means_the_images_present_position(client_as, make_five, new_name, following):
    ids = make_five()
    change(client_as("admin"), ids["b"], {"name": new_name})

    pages = walk(client_as("stranger"), f"/images?sort_key=name&sort_dir=asc&marker={ids['b']}", "name")

    # b was created before d: among equal names it comes first.
    assert pages == [list("de" if new_name == "d" else following)]


CHANGES = [{"name": "zz"}, None, {"is_public": False}, {"size": 10**6}, {"name": None}, {"status": "queued"}]
CHANGES += [{"size": None}, {"disk_format": "vdi", "container_format": "ovf"}, {"name": ""}, {"properties": {"a": "b"}}]


@pytest.mark.sampled
@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
@pytest.mark.parametrize("sort_key", SORT_KEYS)
def test_a_walk_shows_what_stays_exactly_once_while_others_come_go_and_change(
    client_as, make_image, sort_key, sort_dir
):
    values = [{"name": NAMES[number % 7], "size": SIZES[number % 5], "is_public": True} for number in range(45)]
    with models.database.atomic():  # one commit for all
        ids = [make_image(**fields)["id"] for fields in values]
    admin, pending, touched = client_as("admin"), list(CHANGES), []

    def disturb(page):
        if pending:
            what = pending.pop()
            for image_id in (page[-1], ids[len(pending)]):
                change(admin, image_id, what)
                touched.append(image_id)
            make_image(name="a", size=0, is_public=True, created_at="2000-01-01")
            make_image(name="zz", size=LARGEST, is_public=True)

    pages = walk(client_as("stranger"), f"/images?sort_key={sort_key}&sort_dir={sort_dir}&limit=3", between=disturb)

    shown = Counter(image_id for page in pages for image_id in page)
    steady = set(ids) - set(touched)
    assert (len(pending), len(steady) >= 25) == (0, True)
    assert {image_id: shown[image_id] for image_id in steady} == dict.fromkeys(steady, 1)


@pytest.mark.sampled
@pytest.mark.parametrize("path", ["/images", "/", "/images/detail"])
@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("name=%27%22%3E%3B%26%3D%2B%25%2C%3C", {"name": "'\">;&=+%,<"}),
        ("name=%3E;%20rel=%22prev%22", {"name": '>; rel="prev"'}),
        ("name=l%C3%ADnea+%F0%9F%90%A7%20%0D%0AX-Evil:%201", {"name": "línea 🐧 \r\nX-Evil: 1"}),
        ("property-gr%C3%B6%C3%9Fe=%E6%97%A5&property-a%26b=", {"properties": {"größe": "日", "a&b": ""}}),
        ("property-a=1&property-b=2&property-a=1", {"properties": {"a": "1", "b": "2"}}),
        ("colour=red&colour=blue&colour", {}),
        ("colour=%FF&%FE=%ED%A0%80", {}),
        ("changes-since=2000-01-01T00:00:00+02:00", {}),
        ("is_public=none&deleted=true&status=saving", {"status": "saving", "is_public": False, "is_deleted": True}),
        ("sort_key=size&sort_dir=asc&size_min=5&size_max=5&protected=no", {"size": 5}),
    ],
)
def test_a_next_link_keeps_the_query_and_leads_to_the_rest(client, make_image, path, query, fields):
    ids = [make_image(**{"is_public": True, **fields})["id"] for _ in range(3)]
    make_image(name="other")
    first = client.get(f"{path}?{query}&limit=1")
    second = client.get(next_target(first))

    targets = [urlsplit(next_target(response)) for response in (first, second)]
    pages = walk(client, f"{path}?{query}&limit=1")

    asked = parse_qsl(f"{query}&limit=1", keep_blank_values=True, errors="surrogateescape")
    for target, response in zip(targets, (first, second), strict=True):
        kept = parse_qsl(target.query, keep_blank_values=True, errors="surrogateescape")
        added = Counter(name for name, _ in kept if name in ("marker", "position"))
        assert (target.scheme, target.netloc, target.path) == ("", "", path)
        assert {pair for pair in kept if pair[0] not in added} == set(asked)
        assert added == {"marker": 1, "position": 1}
        assert dict(kept)["marker"] == response.json["images"][0]["id"]
    assert (len(pages), sorted(page[0] for page in pages)) == (3, sorted(ids))


LONGEST_NAMES = {"ascii": "n" * 255, "cjk": "日" * 255, "emoji": "🐧" * 255, "escaped": "<&+%>" * 51}


@pytest.mark.parametrize("name", LONGEST_NAMES.values(), ids=LONGEST_NAMES)
def test_a_real_server_takes_its_own_next_links_with_the_longest_names(server, name):
    for _ in range(3):
        image = {**IMAGE, "name": name, "is_public": True}
        assert server.request("POST", "/images", {"image": image})[0] == 200
    target, names = "/images?" + urlencode({"sort_key": "name", "name": name, "limit": 2}), []

    while target:
        status, headers, content = server.request("GET", target)
        assert status == 200
        names.append([image["name"] for image in content["images"]])
        target = "Link" in headers and NEXT_LINK.fullmatch(headers["Link"])[1]

    assert names == [[name, name], [name]]


def encoded(text):
    """Return a position as next links contain it."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


TAMPERED = {
    "empty": "",
    "no base64": "%%%",
    "no ASCII": "日本",
    "half of base64": "W",
    "no UTF-8": "__79_A",
    "no JSON": encoded("nonsense"),
    "no list": encoded("{}"),
    "a text": encoded('"created_at"'),
    "null": encoded("null"),
    "an empty list": encoded("[]"),
    "too short": encoded('["created_at", "MARKER"]'),
    "too long": encoded('["created_at", "2026-11-24T04:08:17.000000", "MARKER", "MARKER"]'),
    "of another order": encoded('["size", 5, "2026-11-24T04:08:17.000000", "MARKER"]'),
    "of another marker": encoded(f'["created_at", "2026-11-24T04:08:17.000000", "{UNKNOWN_ID}"]'),
    "of no marker": encoded('["created_at", "2026-11-24T04:08:17.000000", null]'),
    "nested": encoded('["created_at", ["2026-11-24T04:08:17.000000"], "MARKER"]'),
    "an object": encoded('["created_at", {"a": 1}, "MARKER"]'),
    "nested deep": encoded('["created_at", ' + "[" * 5000 + "]" * 5000 + ', "MARKER"]'),
    "nested endlessly": encoded("[" * 100_000),
    "half a surrogate pair": encoded('["created_at", "\\ud800", "MARKER"]'),
    "NUL": encoded('["created_at", "\\u0000", "MARKER"]'),
    "a huge integer": encoded(f'["created_at", {2**63}, "MARKER"]'),
    "an endless integer": encoded(f'["created_at", {"9" * 5000}, "MARKER"]'),
    "a fraction": encoded('["created_at", 1.5, "MARKER"]'),
    "no number": encoded('["created_at", NaN, "MARKER"]'),
    "a boolean": encoded('["created_at", true, "MARKER"]'),
}


@pytest.mark.sampled
@pytest.mark.parametrize("how", TAMPERED)
@pytest.mark.parametrize("path", ["/images", "/images/detail"])
def test_a_position_that_was_tampered_with_is_refused(client, make_five, path, how):
    marker = make_five()["c"]
    position = TAMPERED[how]
    if position.startswith("Wy"):  # base64 of a list
        text = base64.urlsafe_b64decode(position + "=" * (-len(position) % 4)).decode()
        position = encoded(text.replace("MARKER", marker))

    errors = refusal(client, {"marker": marker, "position": position}, path)

    assert errors == {"position": [NO_POSITION]}


@pytest.mark.parametrize("other", [{"sort_key": "size"}, {"sort_key": "id"}, {"marker": UNKNOWN_ID}, {"marker": None}])
def test_a_position_is_refused_beside_another_marker_or_order(client, make_five, other):
    make_five()
    parameters = dict(parse_qsl(urlsplit(next_target(client.get("/images?limit=2&sort_key=name"))).query))
    query = {name: value for name, value in (parameters | other).items() if value is not None}

    errors = refusal(client, query)

    assert errors == {"position": [NO_POSITION]}


def test_a_position_of_no_marker_is_refused_without_marker_too(client, make_five):
    make_five()

    errors = refusal(client, {"position": TAMPERED["of no marker"]})

    assert errors == {"position": [NO_POSITION]}


def test_a_next_link_is_never_longer_than_a_request_line_may_be(server):
    name = "\N{CAT FACE}" * 255
    for _ in range(2):
        image = {**IMAGE, "name": name, "is_public": True, "properties": {"x": name, "y": name[:100]}}
        assert server.request("POST", "/images", {"image": image})[0] == 200
    filters = {"name": name, "property-x": name, "property-y": name[:100]}
    query = urlencode({"sort_key": "name", **filters, "limit": 1})

    status, headers, page = server.request("GET", f"/images?{query}")
    target = headers["Link"].partition(">")[0].removeprefix("<")
    following = server.request("GET", target)

    assert (status, following[0]) == (200, 200)
    assert "position" not in target
    assert len(page["images"]) == len(following[2]["images"]) == 1
    assert page["images"] != following[2]["images"]
