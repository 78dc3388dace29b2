"""The pages show and change what the API would, to the same callers; and no page of another site uses them."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pytest
from conftest import CALLERS, IMAGE, identity
from support.ui_pages import Page, send, visit

import auth
from storage import verifications
from ui import sessions
from ui.session_key import key_path, read_key

# What a page may lead to: pages, the reference, a part of itself, and itself with other parameters.
OWN_LINK = re.compile(r"/ui(?:[/?#].*)?|/docs|#main|\?.*")
SEES_PRIVATE = {"member", "sharer", "owner", "admin"}


@pytest.fixture
def secret(make_image):
    members = {"member": False, "sharer": True}
    return make_image(name="secret one", owner="owner", members=members, location="https://user:word@host/file?sig=abc")


@pytest.mark.parametrize("caller", CALLERS)
def test_the_reason_of_a_failed_verification_is_told_only_to_those_who_see_locations(client_as, make_image, caller):
    image = make_image(name="shown", owner="owner", is_public=True, location="file:///srv/shown.qcow2")
    verifications.store([(image, verifications.INCOMPLETE, "needs the backing file /srv/hidden.qcow2")])

    pages = [client_as(caller).get(f"/ui/images{path}").text for path in ("", f"/{image['id']}")]

    assert all("file incomplete" in page for page in pages)
    assert ["/srv/hidden.qcow2" in page for page in pages] == [caller in ("owner", "admin")] * 2


@pytest.mark.parametrize("caller", CALLERS)
def test_a_private_image_is_on_the_pages_of_those_who_see_it_and_of_nobody_else(client_as, secret, caller):
    client = client_as(caller)
    views = ["", "?q=secret+one", "?visibility=private", "?owner=owner"]

    shown = [secret["id"] in client.get(f"/ui/images{view}").text for view in views]

    assert shown == [caller in SEES_PRIVATE] * 4
    assert ('<dd><a href="/ui/images">1</a></dd>' in client.get("/ui/dashboard").text) == (caller in SEES_PRIVATE)
    assert client.get(f"/ui/images/{secret['id']}").status_code == (200 if caller in SEES_PRIVATE else 404)
    assert client.get(f"/ui/images/{secret['id']}/json").status_code == (200 if caller in SEES_PRIVATE else 404)


@pytest.mark.parametrize("caller", CALLERS)
def test_locations_are_on_the_pages_of_owner_and_admin_only_and_masked(client_as, secret, caller):
    client = client_as(caller)

    text = "".join(client.get(f"/ui/images/{secret['id']}{page}").text for page in ("", "/edit", "/delete"))

    assert "user:word" not in text
    assert "sig=abc" not in text
    assert ("//•••@host/file?sig=•••" in text) == (caller in ("owner", "admin"))
    assert ("word" in client.get(f"/ui/images/{secret['id']}/json").text) == (caller in ("owner", "admin"))


@pytest.mark.parametrize("page", ["", "/json", "/edit", "/delete"])
def test_nothing_keeps_what_a_session_was_shown(client, secret, page):
    """Lest whoever comes after a sign-out goes back to it."""
    assert client.get(f"/ui/images/{secret['id']}{page}").headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize("caller", CALLERS)
def test_a_form_does_what_the_api_would_let_its_sender_do(client_as, secret, caller):
    """With a form's token that fits, and the image's ETag: it is the rights that decide."""
    client, admin = client_as(caller), client_as("admin")
    expected = {"owner": 303, "admin": 303, "member": 403, "sharer": 403}.get(caller, 404)
    token = token_for(client)
    etag = dict(visit(admin, f"/ui/images/{secret['id']}").form_to("/protect")["fields"])["etag"]

    protected = client.post(
        f"/ui/images/{secret['id']}/protect", data={"form_token": token, "etag": etag, "protected": "1"}
    )
    shared = client.post(f"/ui/images/{secret['id']}/members", data={"form_token": token, "member_id": "x"})
    edited = client.post(f"/ui/images/{secret['id']}/edit", data={"form_token": token, "more": "1"})

    assert protected.status_code == expected
    assert shared.status_code == (303 if caller == "sharer" else expected)
    assert edited.status_code == (200 if expected == 303 else expected)
    assert admin.get(f"/images/{secret['id']}").json["image"]["protected"] == (expected == 303)


def token_for(client):
    """A form's token of this client's own, as any page with a form has it."""
    client.set_cookie(sessions.VISITOR_COOKIE, "v" * 22, path="/ui")
    with client.application.test_request_context(
        "/ui", headers={"Cookie": f"{sessions.VISITOR_COOKIE}={'v' * 22}"}
    ) as context:
        context.request.settings = client.application.settings
        return sessions.token_of("v" * 22)


def test_who_may_not_create_is_told_so(client_as):
    assert client_as("anonymous").get("/ui/images/new").status_code == 401
    assert client_as("tenantless").get("/ui/images/new").status_code == 403
    assert client_as("stranger").get("/ui/images/new").status_code == 200
    assert "New image" not in client_as("anonymous").get("/ui/images").text


def test_an_inaccessible_image_is_answered_as_an_unknown_one(client_as, secret):
    stranger = client_as("stranger")
    unknown = "00000000-0000-4000-8000-000000000000"

    pages = [
        stranger.get(f"/ui/images/{image_id}{page}", headers={"X-Openstack-Request-Id": "same"}).data.replace(
            image_id.encode(), b""
        )
        for page in ("", "/edit", "/delete", "/json")
        for image_id in (secret["id"], unknown)
    ]

    assert pages[::2] == pages[1::2]


@pytest.mark.parametrize(
    "header", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}]
)
def test_a_form_that_another_sites_page_sends_is_refused(client, make_image, header):
    image = make_image()
    form = visit(client, f"/ui/images/{image['id']}/delete").form_to("/delete")

    send(client, form, 403, headers=header)

    assert client.get(f"/images/{image['id']}").json["image"]["deleted"] is False


@pytest.mark.parametrize("wrong", [None, "", "0" * 64, "é"])
def test_a_form_without_its_token_is_refused_and_changes_nothing(client, make_image, wrong):
    image = make_image()
    page = visit(client, f"/ui/images/{image['id']}")
    forms = [visit(client, f"/ui/images/{image['id']}/{place}").form_to(place) for place in ("delete", "edit")]
    forms += [page.form_to("/protect"), page.form_to("/members"), visit(client, "/ui/images/new").form_to("/new")]

    answers = [send(client, form, 403, form_token=wrong) for form in forms]

    assert all("Check it and send it again" in answer.text for answer in answers)
    assert client.get("/images/detail?is_public=none").json["images"] == [image]


def test_a_forms_token_is_of_one_browser(client, make_image):
    image = make_image()
    form = visit(client, f"/ui/images/{image['id']}/delete").form_to("/delete")
    other = client.application.test_client()
    visit(other, "/ui/images/new")

    send(other, form, 403)
    send(client.application.test_client(), form, 403)

    send(client, form)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart/form-data; boundary=x", ""])
def test_a_form_is_a_form(client, make_image, content_type):
    image = make_image()

    response = client.post(f"/ui/images/{image['id']}/delete", data=b"form_token=x", content_type=content_type)

    assert response.status_code == 415


def test_what_is_sent_to_a_form_is_bounded(client):
    visit(client, "/ui/images/new")

    large = client.post("/ui/images/new", data={"name": "x" * 4_300_000})
    many = client.post("/ui/images/new", data={f"f{number}": "" for number in range(28_001)})
    garbled = client.post("/ui/images/new", data=b"name=%ff", content_type="application/x-www-form-urlencoded")

    assert (large.status_code, many.status_code, garbled.status_code) == (413, 400, 400)


def test_the_api_takes_no_forms_and_no_cookies(client):
    assert client.post("/images", data={"name": "x"}).status_code == 415


@pytest.mark.exhaustive
@pytest.mark.sampled
@pytest.mark.parametrize("place", ["name", "owner", "checksum", "property", "value", "member", "location"])
@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)"])
def test_no_text_becomes_code_on_any_page(client, make_image, place, text):
    fields = {place: text[:32]} if place in ("name", "owner", "checksum") else {}
    fields |= {"property": {"properties": {text: "x"}}, "value": {"properties": {"x": text}}}.get(place, {})
    fields |= {"location": text if ":" in text else f"x:{text}"} if place == "location" else {}
    image = make_image(**fields, members={text: False} if place == "member" else {})
    pages = ["/ui/images", f"/ui/images?q={text}", f"/ui/images?owner={text}", "/ui/dashboard"]
    pages += [f"/ui/images/{image['id']}{page}" for page in ("", "/edit", "/delete")]

    for page in pages:
        shown = Page(client.get(page).text)

        assert [attributes for tag, attributes in shown.tags if tag == "script" and "src" not in attributes] == []
        assert [name for tag, attributes in shown.tags for name in attributes if name.startswith("on")] == []
        assert [link for link in shown.links if not OWN_LINK.fullmatch(link)] == []
        assert [link for link in shown.links if "javascript:" in link.split("?")[0]] == []
        assert [attributes for tag, attributes in shown.tags if tag == "img" and attributes["src"] == "x"] == []


def test_no_page_has_what_its_policy_would_refuse(client, make_image):
    image = make_image()
    for page in ("/ui/images", "/ui/images/new", "/ui/dashboard", f"/ui/images/{image['id']}", "/ui/nowhere"):
        response = client.get(page)
        shown = Page(response.text)

        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert response.headers.getlist("Content-Security-Policy")[1:] == []
        assert response.headers["Content-Security-Policy"].startswith(
            "default-src 'none'; script-src 'self'; style-src 'self';"
        )
        assert [tag for tag, attributes in shown.tags if tag == "style" or "style" in attributes] == []
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "private, no-store"


def test_assets_are_served_for_good_under_their_digest_only(client):
    sources = [
        attributes.get("src") or attributes["href"]
        for tag, attributes in visit(client, "/ui").tags
        if tag in ("script", "link", "img")
    ]

    assert len(sources) == 6
    for source in sources:
        response = client.get(source)
        assert source.startswith("/ui/static/")
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.status_code == 200
        assert client.get(re.sub("/[0-9a-f]{12}/", "/000000000000/", source)).status_code == 404
    assert client.get(re.sub("[^/]+$", "..%2f..%2fregistry.py", sources[0])).status_code == 404
    assert client.get(re.sub("[^/]+$", "%2e%2e/%2e%2e/__init__.py", sources[0])).status_code == 404


@pytest.fixture
def token_client(make_client):
    """A function: (a client without identity of a registry with tokens, a token)."""

    def make(tenant="owner", roles=("member",), is_read_only=False, **options):
        client = make_client(auth__flavor="token", **options)
        return client, auth.create_token(tenant, roles, is_read_only=is_read_only)

    return make


def sign_in(client, text, place="", status=303):
    form = visit(client, f"/ui/signin?next={place}").form_to("/signin")
    return send(client, form, status, token=text)


def test_a_browser_at_the_root_is_led_to_the_pages_before_it_says_who_it_is(token_client):
    client, _ = token_client()

    assert client.get("/", headers={"Accept": "text/html"}).location == "/ui/images"
    assert client.get("/").status_code == 401


def test_who_has_no_session_is_led_to_sign_in_and_back(token_client):
    client, (_, text) = token_client()

    led = client.get("/ui/images?q=x")
    answer = sign_in(client, text, led.location.partition("next=")[2])

    assert (led.status_code, led.location) == (303, "/ui/signin?next=/ui/images?q%3Dx")
    assert answer.location == "/ui/images?q=x"
    assert client.get("/ui/images").status_code == 200
    assert client.get("/images").status_code == 401  # a cookie is nothing to the API


def test_a_session_has_the_tokens_rights_until_it_is_revoked(token_client):
    client, (number, text) = token_client("acme", ["admin"])
    sign_in(client, text)
    before = client.get("/ui/images").text

    auth.revoke_token(number)
    after = client.get("/ui/images")

    assert "admin of" in before
    assert (after.status_code, after.location) == (303, "/ui/signin?next=/ui/images")
    assert client.get_cookie(sessions.SESSION_COOKIE, path="/ui") is None


def test_a_read_only_tokens_session_only_reads(token_client):
    client, (_, text) = token_client(is_read_only=True)
    image = client.post(
        "/images", json={"image": IMAGE}, headers={"X-Auth-Token": auth.create_token("owner", [])[1]}
    ).json["image"]

    sign_in(client, text)

    page = visit(client, f"/ui/images/{image['id']}")
    assert [form["action"] for form in page.forms] == ["/ui/signout"]
    assert client.get(f"/ui/images/{image['id']}/edit").status_code == 403
    assert client.get("/ui/images/new").status_code == 403


@pytest.mark.parametrize("text", ["", "registry_" + "x" * 43, "<script>", "x" * 10_000])
def test_a_token_that_does_not_count_opens_no_session(token_client, text):
    client, _ = token_client()

    answer = sign_in(client, text, status=400)

    assert "This token is unknown" in answer.text
    assert text == "" or text not in answer.text
    assert client.get("/ui/images").status_code == 303


def test_the_session_cookie_is_kept_from_scripts_and_other_sites_and_has_no_token_in_it(token_client):
    client, (_, text) = token_client()

    answer = sign_in(client, text)
    cookie = next(line for line in answer.headers.getlist("Set-Cookie") if line.startswith(sessions.SESSION_COOKIE))

    assert text not in cookie
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/ui", "Max-Age=43200"))
    assert "Secure" not in cookie


def test_over_tls_the_cookie_never_travels_without(token_client):
    client, (_, text) = token_client()
    form = visit(client, "/ui/signin", base_url="https://localhost").form_to("/signin")

    answer = client.post("/ui/signin", data=dict(form["fields"]) | {"token": text}, base_url="https://localhost")

    assert answer.status_code == 303
    assert all("Secure" in line for line in answer.headers.getlist("Set-Cookie"))


def test_a_session_ends_when_it_has_lasted_long_enough(token_client, monkeypatch):
    client, (_, text) = token_client()
    sign_in(client, text)
    later = time.time() + sessions.LONGEST_SESSION_SECONDS + 2

    monkeypatch.setattr(time, "time", lambda: later)

    assert client.get("/ui/images").status_code == 303


def test_a_lost_key_signs_everybody_out_and_a_changed_cookie_counts_for_nothing(token_client, database_path):
    client, (_, text) = token_client()
    sign_in(client, text)
    value = client.get_cookie(sessions.SESSION_COOKIE, path="/ui").value
    start, _, signature = value.rpartition(".")
    other = "A" if signature[0] != "A" else "B"
    client.set_cookie(sessions.SESSION_COOKIE, f"{start}.{other}{signature[1:]}", path="/ui")
    changed = client.get("/ui/images").status_code
    client.set_cookie(sessions.SESSION_COOKIE, value, path="/ui")
    unchanged = client.get("/ui/images").status_code

    database_path.with_name("registry.db.key").unlink()

    assert (changed, unchanged) == (303, 200)
    assert client.get("/ui/images").status_code == 303


def test_signing_out_ends_the_session(token_client):
    client, (_, text) = token_client()
    sign_in(client, text)

    send(client, visit(client, "/ui/images").form_to("/signout"))

    assert client.get("/ui/images").status_code == 303


@pytest.mark.parametrize(
    "place",
    [
        *("//evil.example/", "https://evil.example/", "/ui\\evil", "/uix", "/images", "javascript:alert(1)"),
        *("/ui/\r\nX: y", "/ui/../../evil", "/ui/..", "/ui/images/../..", "/ui/%2e%2e/evil", "/ui/.%2E/evil"),
        *("/ui/..%2fevil", "/ui/%5c../evil", "/ui/..#x", "/ui/../evil?q=1", "/ui/./images", "/ui/..;x/evil"),
    ],
)
def test_signing_in_leads_to_no_other_place(token_client, place):
    client, (_, text) = token_client()
    form = visit(client, "/ui/signin").form_to("/signin")

    answer = send(client, form, token=text, next=place)

    assert answer.location == "/ui/images"


def test_where_anonymous_callers_may_read_so_they_may_on_the_pages(token_client):
    client, (_, text) = token_client(auth__allow_anonymous_access="true")
    token = {"X-Auth-Token": text}
    public = client.post("/images", json={"image": {**IMAGE, "is_public": True}}, headers=token).json["image"]
    inaccessible = client.post("/images", json={"image": IMAGE}, headers=token).json["image"]

    page = client.get("/ui/images").text

    assert public["id"] in page
    assert inaccessible["id"] not in page
    assert "Sign in" in page
    assert client.get("/ui/images/new").status_code == 303


def test_a_link_from_another_site_brings_a_session_back_by_asking_again(token_client):
    client, _ = token_client()

    page = client.get("/ui/images?q=x", headers={"Sec-Fetch-Site": "cross-site"})
    again = client.get("/ui/images?q=x", headers={"Sec-Fetch-Site": "same-origin"})

    assert '<meta http-equiv="refresh" content="0">' in page.text
    assert (page.status_code, again.status_code) == (200, 303)


def test_htmx_is_led_to_sign_in_whole(token_client):
    client, _ = token_client()

    answer = client.get("/ui/images?q=x", headers={"HX-Request": "true"})

    assert (answer.status_code, answer.headers["HX-Redirect"]) == (200, "/ui/signin?next=/ui/images?q%3Dx")


@pytest.mark.parametrize("flavor", ["none", "trusted-auth"])
def test_nobody_signs_in_where_it_is_known_who_asks(make_client, flavor):
    assert make_client(auth__flavor=flavor).get("/ui/signin").status_code == 404


def test_behind_a_proxy_an_unidentified_reader_is_told_so(make_client):
    client = make_client(auth__flavor="trusted-auth")

    assert client.get("/ui/images").status_code == 401
    assert client.get("/ui/images", headers=identity("stranger")).status_code == 200


def test_the_key_is_its_owners_alone_and_of_many_who_make_one_all_have_the_same(tmp_path):
    for attempt in range(10):
        section = SimpleNamespace(path=str(tmp_path / f"{attempt}.db"))
        together = Barrier(8)

        with ThreadPoolExecutor(8) as pool:
            keys = list(
                pool.map(
                    lambda _, together=together, section=section: together.wait() * 0 or read_key(section), range(8)
                )
            )

        assert len(set(keys)) == 1
        assert key_path(section).stat().st_mode & 0o777 == 0o600
    assert [path for path in tmp_path.iterdir() if path.suffix != ".key"] == []


def test_a_damaged_key_is_said_and_not_replaced(client, database_path):
    path = database_path.with_name("registry.db.key")
    path.write_text("short")

    assert client.get("/ui/images/new").status_code == 503
    assert path.read_text() == "short"
