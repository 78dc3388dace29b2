"""The list of the pages: every view has an address, and its pages are stable in both directions."""

import re
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from support.ui_pages import send, visit

import formatting

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
TIME = "2026-11-25T10:00:00.000000"


def rows(page):
    """The ids of the images in the table, in order."""
    return [link.rpartition("/")[2] for link in page.links if re.fullmatch("/ui/images/[0-9a-f-]{36}", link)]


def link_of(page, **wanted):
    return next(
        attributes["href"] for tag, attributes in page.tags if tag == "a" and wanted.items() <= attributes.items()
    )


@pytest.fixture
def many(make_image):
    """60 images: with ties, and with nulls."""
    return [make_image(name=[None, "a", "b"][n % 3], size=[None, 5, 1 << 40][n % 3])["id"] for n in range(60)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("sort_key", ["created_at", "name", "size", "status", "disk_format", "updated_at"])
@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
def test_walking_forth_and_back_shows_every_image_once_in_order(client, many, sort_key, sort_dir):
    listed = client.get(f"/images?is_public=none&sort_key={sort_key}&sort_dir={sort_dir}").json["images"]
    page = visit(client, f"/ui/images?sort_key={sort_key}&sort_dir={sort_dir}")
    forth = [rows(page)]

    while any(attributes.get("rel") == "next" for _, attributes in page.tags):
        page = visit(client, link_of(page, rel="next"))
        forth.append(rows(page))
    back = [rows(page)]
    while any(attributes.get("rel") == "prev" for _, attributes in page.tags):
        page = visit(client, link_of(page, rel="prev"))
        back.append(rows(page))

    assert [image_id for part in forth for image_id in part] == [image["id"] for image in listed]
    assert list(map(len, forth)) == [25, 25, 10]
    assert back == forth[::-1]
    assert sorted(forth[0] + forth[1] + forth[2]) == sorted(many)


def test_a_page_before_which_little_is_left_is_the_first(client, many):
    second = visit(client, link_of(visit(client, "/ui/images"), rel="next"))
    for image_id in rows(visit(client, "/ui/images"))[:5]:
        client.delete(f"/images/{image_id}")

    first = visit(client, link_of(second, rel="prev"))

    assert len(rows(first)) == 25
    assert rows(first) == rows(visit(client, "/ui/images"))
    assert not any(attributes.get("rel") == "prev" for _, attributes in first.tags)


@pytest.mark.parametrize(
    ("view", "fields"),
    [
        ("status=saving", {"status": "saving"}),
        ("status=killed", {"status": "killed"}),
        ("disk_format=iso", {"disk_format": "iso"}),
        ("visibility=public", {"is_public": True}),
        ("owner=acme", {"owner": "acme"}),
        ("size_min=10000000000", {"size": 1 << 35}),
        ("checksum=abc", {"checksum": "abc"}),
        ("property-os_distro=debian", {"properties": {"os_distro": "debian"}}),
        ("property-note=", {"properties": {"note": ""}}),
        ("q=other+one", {"name": "other one"}),
        ("min_ram=7", {"min_ram": 7}),
    ],
)
def test_a_view_has_what_fits_its_address_and_names_its_filter(client, make_image, view, fields):
    make_image()
    wanted = make_image(**fields)

    page = visit(client, f"/ui/images?{view}")

    assert rows(page) == [wanted["id"]]
    assert view.startswith("q=") or link_of(page, **{"class": "unset"}) == "/ui/images"


def test_a_search_finds_the_beginnings_of_names_values_and_ids(client, make_image):
    image = make_image(name="Debian-13 generic", properties={"os_distro": "debian", "note": "Größe XL"})
    make_image(name="other")

    for search in ("deb", "generic debian", "13 gen", "größ", image["id"][:8]):
        assert rows(visit(client, f"/ui/images?{urlencode({'q': search})}")) == [image["id"]]
    assert rows(visit(client, "/ui/images?q=ebian")) == []


def test_a_view_tells_how_many_it_has_altogether(client, many):
    first = visit(client, "/ui/images")

    assert "1–25 of 60" in first.text
    second = visit(client, link_of(first, rel="next"))
    last = visit(client, link_of(second, rel="next"))
    assert " 25 of 60" in second.text
    assert "51–60 of 60" in last.text
    assert "1–20 of 20" in visit(client, "/ui/images?name=a").text


def test_filters_add_up_and_each_can_be_taken_away(client, make_image):
    make_image(disk_format="iso")
    page = visit(client, "/ui/images?q=cirros&status=active&sort_key=name&sort_dir=asc")

    page = visit(client, next(link for link in page.links if "disk_format=qcow2" in link))
    without = link_of(page, **{"aria-label": "Without the filter Format"})

    assert rows(page) == []
    assert without == "/ui/images?q=cirros&status=active&sort_key=name&sort_dir=asc"
    assert len(rows(visit(client, without))) == 1


def test_the_search_keeps_the_filters_and_begins_at_the_first_page(client, make_image):
    make_image(name="b", status="queued")
    form = visit(client, "/ui/images?status=queued&sort_key=name&sort_dir=asc").form_to("/ui/images")

    assert form["method"] == "get"
    assert dict(form["fields"]) == {"q": "", "status": "queued", "sort_key": "name", "sort_dir": "asc"}


def test_a_column_says_how_it_is_sorted_and_its_link_turns_it_round(client, make_image):
    make_image()

    page = visit(client, "/ui/images?sort_key=name&sort_dir=asc")

    heads = [attributes for tag, attributes in page.tags if tag == "th" and "aria-sort" in attributes]
    assert [head["aria-sort"] for head in heads] == ["ascending"]
    assert link_of(page, id="sort-name") == "/ui/images?sort_key=name&sort_dir=desc"
    assert link_of(page, id="sort-size") == "/ui/images?sort_key=size&sort_dir=desc"


def test_private_images_are_listed_and_said_to_be_so(client, make_image):
    make_image(is_public=False, name="mine")

    assert "mine" in visit(client, "/ui/images").text
    assert "private" in visit(client, "/ui/images").text


def test_deleted_images_are_a_view_for_admins_only(client_as, make_image):
    image = make_image(is_public=True, owner="owner", is_deleted=True)

    assert rows(visit(client_as("admin"), "/ui/images?deleted=true")) == [image["id"]]
    assert rows(visit(client_as("owner"), "/ui/images?deleted=true")) == []


def test_htmx_gets_the_view_alone_with_its_address(client, make_image):
    make_image()

    answer = client.get("/ui/images?q=cirros&status=&sort_key=", headers={"HX-Request": "true"})
    restored = client.get("/ui/images", headers={"HX-Request": "true", "HX-History-Restore-Request": "true"})

    assert "<html" not in answer.text
    assert "<table" in answer.text
    assert answer.headers["HX-Push-Url"] == "/ui/images?q=cirros"
    assert "HX-Request" in answer.headers["Vary"]
    assert "<html" in restored.text


def test_an_empty_registry_tells_the_three_ways_to_add_an_image(client):
    page = visit(client, "/ui")

    assert "./registry scan" in page.text
    assert "/ui/images/new" in page.links
    assert "curl --json" in page.text
    assert "http://localhost/images" in page.text


def test_nothing_found_is_said_with_a_way_back(client, make_image):
    make_image()

    page = visit(client, "/ui/images?q=nowhere")

    assert "No image matches" in page.text
    assert rows(page) == []


def test_a_search_without_letters_and_digits_says_why_it_finds_nothing(client, make_image):
    make_image(name="🐧")

    page = visit(client, "/ui/images?q=🐧")

    assert rows(page) == []
    assert "Enter letters or digits to search for" in page.text
    assert len(rows(visit(client, "/ui/images?q=+"))) == 1


@pytest.mark.parametrize("view", ["size_min=x", "marker=x", "sort_key=colour", "limit=-1", "position=x", "name=%ff"])
def test_an_address_that_cannot_be_read_is_a_page_that_says_what(client, view):
    page = visit(client, f"/ui/images?{view}", 400)

    assert "Invalid request" in page.text
    assert "Request id: req-" in page.text


@pytest.mark.parametrize("path", ["/ui/nowhere", "/ui/images/x", "/ui/images/x/edit", "/ui/a/b/c"])
def test_what_is_not_there_is_a_page_too(client, path):
    assert "Not found" in visit(client, path, 404).text


@pytest.mark.sampled
@pytest.mark.parametrize("path", ["/ui", "/ui/images", "/ui/dashboard", "/ui/nowhere"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_page_that_takes_no_form_says_so_as_a_page(client, method, path):
    response = client.open(path, method=method)

    assert (response.status_code, response.mimetype) == (405, "text/html")
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


ODD = (
    "",
    "0",
    "-1",
    "9" * 50,
    "null",
    "NaN",
    "\0",
    "é",
    "\ud800",
    "%",
    "a" * 3000,
    "' OR 1=1 --",
    "*",
    '"',
    "[]",
    "..",
    "true",
)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name",
    [
        *(
            "q",
            "status",
            "disk_format",
            "visibility",
            "owner",
            "size_min",
            "size_max",
            "checksum",
            "protected",
            "deleted",
        ),
        *("changes-since", "property-", "property-a", "sort_key", "sort_dir", "limit", "marker", "position", "before"),
    ],
)
def test_odd_addresses_are_answered_by_pages_and_never_by_mistakes(client, make_image, name):
    image = make_image()
    fuller = {"marker": image["id"]} if name in ("before", "position") else {}

    statuses = {}
    for value in ODD:
        query = urlencode({**fuller, name: value}, errors="surrogatepass")
        for headers in ({}, {"HX-Request": "true"}):
            response = client.get(f"/ui/images?{query}", headers=headers)
            statuses[value] = response.status_code
            assert response.mimetype == "text/html"

    assert set(statuses.values()) <= {200, 400}


@pytest.mark.parametrize(
    ("accept", "leads"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/html", True),
        ("*/*", False),
        (None, False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("text/html;q=0.5, application/json", False),
        ("nonsense", False),
    ],
)
def test_the_root_leads_browsers_to_the_pages_and_answers_all_others_as_ever(client, make_image, accept, leads):
    make_image(is_public=True)

    answer = client.get("/?limit=1", headers={"Accept": accept} if accept else {})

    assert (answer.status_code, answer.headers.get("Location")) == ((302, "/ui/images") if leads else (200, None))
    assert leads or answer.data == client.get("/images?limit=1").data
    assert "Accept" in answer.headers.getlist("Vary")[-1]
    assert "Vary" not in client.get("/images", headers={"Accept": "text/html"}).headers


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB"),
        (1048575, "1.0 MiB"),
        (2**63 - 1, "8.0 EiB"),
    ],
)
def test_sizes_are_in_units_of_people(count, shown):
    assert formatting.format_size(count) == shown


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        ("2026-11-25T11:59:30.000000", "just now"),
        ("2026-11-25T11:58:00.000000", "2 minutes ago"),
        ("2026-11-25T11:00:00.000000", "1 hour ago"),
        ("2026-11-22T11:00:00.000000", "3 days ago"),
        ("2024-11-20T11:00:00.000000", "2 years ago"),
        ("2026-11-26T13:00:00.000000", "in 1 day"),
    ],
)
def test_times_are_as_long_ago_as_people_say(moment, shown):
    assert formatting.format_age(moment, NOW) == shown


def test_exact_sizes_and_times_stand_behind_the_short_ones(client, make_image):
    make_image(size=21430272, created_at=TIME, updated_at=TIME)

    tags = visit(client, "/ui/images").tags

    assert ("data", {"value": "21430272", "title": "21,430,272 bytes"}) in tags
    assert ("time", {"datetime": f"{TIME}Z", "title": "2026-11-25 10:00:00 UTC"}) in tags


def test_huge_and_odd_values_have_their_pages(client, make_image):
    properties = {f"name {number}": "v" * 200 for number in range(500)} | {
        "שלום": "عربى \u202e x",
        "😀": "a\r\nb\n\rc",
        "n": None,
    }
    image = make_image(name="\u202e" + "x" * 254, size=2**63 - 1, properties=properties, location="x:" + "y" * 4000)

    for place in ("", "/edit", "/delete", "/json"):
        assert client.get(f"/ui/images/{image['id']}{place}").status_code == 200
    form = visit(client, f"/ui/images/{image['id']}/edit").form_to("/edit")
    send(client, form)

    assert client.get(f"/images/{image['id']}").json["image"] == image


def test_a_dashboards_figures_are_those_of_what_its_reader_sees(client_as, make_image):
    make_image(is_public=True, size=1 << 30, status="killed", owner="owner")
    make_image(owner="owner", size=1 << 30, disk_format="raw", checksum="aa")
    make_image(owner="owner", size=1 << 30, disk_format="raw", checksum="aa")
    make_image(owner="stranger", size=1 << 30, disk_format="iso", members={"owner": False})

    texts = {
        caller: visit(client_as(caller), "/ui/dashboard").text for caller in ("admin", "owner", "stranger", "anonymous")
    }

    sizes = {caller: re.search(r"Bytes ([\d.]+ \w+)", text)[1] for caller, text in texts.items()}
    assert sizes == {"admin": "3.0 GiB", "owner": "3.0 GiB", "stranger": "1.0 GiB", "anonymous": "0 bytes"}
    assert ["raw" in texts[caller] for caller in texts] == [True, True, False, False]
    assert ["shared by several images" in texts[caller] for caller in texts] == [True, True, False, False]
    assert ["active without a location" in texts[caller] for caller in texts] == [True, False, False, False]


def test_a_dashboard_tells_what_is_wrong_with_links_to_it(client, make_image, tmp_path):
    long_ago = "2020-01-01T00:00:00.000000"
    stuck = make_image(name="hanging", status="saving", created_at=long_ago, updated_at=long_ago)
    here, gone = tmp_path / "a b.img", tmp_path / "gone.img"
    here.touch()
    make_image(name="found", location=f"file://{here}".replace(" ", "%20"))
    lost = make_image(name="lost", location=f"file://{gone}")
    make_image(name="fresh", status="queued")
    make_image(name="elsewhere", location=f"file://{tmp_path}/not mounted here/disk.img".replace(" ", "%20"))

    page = visit(client, "/ui/dashboard")

    wrong = page.text.partition("Problems")[2].partition("By format")[0]
    assert f"/ui/images/{stuck['id']}" in page.links
    assert f"/ui/images/{lost['id']}" in page.links
    assert "found" not in wrong
    assert "fresh" not in wrong
    assert "elsewhere" not in wrong


def test_a_location_that_no_url_can_be_is_no_reason_to_show_no_dashboard(client, make_image):
    make_image(name="odd", location="file://[odd/a.img")

    assert "file missing" not in visit(client, "/ui/dashboard").text


def test_nobody_over_a_network_learns_whether_a_file_is_there(client_as, make_image, tmp_path):
    make_image(name="lost", location=f"file://{tmp_path / 'gone.img'}")

    assert "file missing" not in visit(client_as("admin"), "/ui/dashboard").text


BLANK = {"spaces": "   ", "controls": "\x01\x1f\x7f", "joiners": "\u200b\u200d\ufeff", "fillers": "\u3164\u2800"}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", BLANK.values(), ids=BLANK)
def test_an_image_whose_name_is_not_to_be_seen_has_a_link_that_is(client, make_image, name):
    long_ago = "2020-01-01T00:00:00.000000"
    image = make_image(name=name, status="saving", created_at=long_ago, updated_at=long_ago)
    shown = f"blank name {image['id'][:8]}"

    for place in ("/ui/images", "/ui/dashboard", f"/ui/images/{image['id']}", f"/ui/images/{image['id']}/delete"):
        assert shown in visit(client, place).text
    send(client, visit(client, f"/ui/images/{image['id']}/delete").form_to("/delete"))
    assert f"{image['id']} is deleted" in visit(client, "/ui/images").text


@pytest.mark.parametrize("name", [" a ", "\u200b名", "-", "🐧", "\u202ex"])
def test_a_name_of_which_anything_is_to_be_seen_is_shown_as_it_is(client, make_image, name):
    make_image(name=name)

    page = visit(client, "/ui/images")

    assert name in "".join(page.texts)
    assert "blank name" not in page.text


def test_who_types_on_stays_in_one_step_of_the_history(client, make_image):
    make_image()

    def step(shown, asked):
        headers = {"HX-Request": "true", "HX-Current-URL": f"http://localhost/ui/images{shown}"}
        answer = client.get(f"/ui/images{asked}", headers=headers)
        return next(name for name in ("HX-Push-Url", "HX-Replace-Url") if name in answer.headers)

    assert step("", "?q=deb") == step("?q=deb&status=active", "?q=deb") == "HX-Push-Url"
    assert step("?q=deb", "?q=deb&sort_key=name") == step("?status=active", "?status=active&q=a") == "HX-Push-Url"
    assert step("?q=deb", "?q=debian") == step("?q=deb", "?q=") == "HX-Replace-Url"
    assert step("?q=d&status=active", "?status=active&q=deb") == "HX-Replace-Url"


@pytest.mark.parametrize(
    ("view", "place"),
    [
        (None, "/ui/images"),
        ("", "/ui/images"),
        ("?q=a+b&status=active", "/ui/images?q=a+b&status=active"),
        ("//evil.example/?a", "/ui/images?%2F%2Fevil.example%2F%3Fa="),
        ("?a=b\nX: y", "/ui/images?a=b%0AX%3A+y"),
    ],
)
def test_after_a_deletion_comes_the_view_that_the_form_names_and_no_other_place(client, make_image, view, place):
    form = visit(client, f"/ui/images/{make_image()['id']}/delete").form_to("/delete")

    response = send(client, form, view=view)

    assert response.headers["Location"] == place
