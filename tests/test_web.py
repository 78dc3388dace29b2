"""Routing: a path is answered alike at every Host, whatever was requested before."""

import pytest
from conftest import IMAGE

KNOWN, OTHER = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
PATHS = [
    *("/", "", "/images", "/images/", "//images", "/images//", "/images/detail", "/images/detail/", "/nothing"),
    *(f"/images/{KNOWN}", f"/images/{KNOWN}/", f"//images/{KNOWN}", f"/images/{OTHER}", f"/images/{KNOWN.upper()}a"),
    *(f"/images/{KNOWN}/members", f"/images/{KNOWN}/members/{OTHER}", f"/images/{KNOWN}/members/{OTHER}/"),
    *(f"/images/{OTHER}/members/a/{KNOWN}", f"/shared-images/{OTHER}", f"/shared-images/a/{OTHER}", f"/{KNOWN}"),
    *(f"/nothing/{KNOWN}", f"/images/{KNOWN}%0a", f"/images/%0a{KNOWN}", f"/images/detail/{KNOWN}"),
]
METHODS = ("GET", "HEAD", "OPTIONS", "PUT", "PATCH")
ODD_HOSTS = ("LOCALHOST", "localhost.", "localhost:80", "localhost:443", "localhost:00080", "[::1]", "[0::1]:9191")


def told(client, method, path, **headers):
    """All of an answer that may not depend on what was asked before."""
    headers = {"X-Openstack-Request-Id": "a", "Content-Type": "application/json", **headers}
    response = client.open(path, method=method, headers=headers, data=b"{}" if method == "PUT" else None)
    return response.status, sorted(response.headers), response.data


@pytest.fixture
def fill():
    """Registers one image, shared with OTHER."""

    def fill_registry(client):
        assert client.post("/images", json={"image": {**IMAGE, "id": KNOWN}}).status_code == 200
        assert client.put(f"/images/{KNOWN}/members/{OTHER}").status_code == 204

    return fill_registry


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", METHODS)
def test_what_a_path_answers_does_not_depend_on_the_paths_asked_before(make_client, fill, method):
    fill(make_client())
    fresh = [told(make_client(), method, path) for path in PATHS]
    client = make_client()

    for _ in range(2):
        assert [told(client, method, path) for path in PATHS] == fresh


@pytest.mark.parametrize("host", ODD_HOSTS)
def test_a_host_that_is_ours_in_another_spelling_finds_the_same_routes(client, fill, host):
    fill(client)

    for path in ("/images", f"/images/{KNOWN}", "/nothing"):
        assert told(client, "GET", path, Host=host) == told(client, "GET", path)


@pytest.mark.parametrize("host", ["a..b", "a" * 64, ".a"])
def test_a_host_that_no_host_can_be_finds_the_same_routes_where_none_is_asked_for(make_client, host):
    client = make_client(auth__flavor="token")

    for path in ("/images", f"/images/{KNOWN}", "/nothing"):
        found = told(client, "OPTIONS", path, Host=host)
        assert found[0].startswith("404" if path == "/nothing" else "200")
        assert found == told(client, "OPTIONS", path)


def test_a_wish_to_upgrade_changes_nothing(client):
    wish = {"Connection": "Upgrade", "Upgrade": "websocket"}

    assert told(client, "GET", "/images/detail", **wish) == told(client, "GET", "/images/detail")
