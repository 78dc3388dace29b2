"""Quotas of properties, members, locations and images; and allowed location schemes."""

import threading

import pytest
from conftest import IMAGE, identity

SECRET = "swift+https://user:pAssw0rd@host/container/image"


@pytest.fixture
def make_clients(make_client):
    """A function: (the owner's client, an admin's) behind a proxy, with options."""

    def make(**options):
        application = make_client(auth__flavor="trusted-auth", **options).application
        clients = []
        for caller in ("owner", "admin"):
            client = application.test_client()
            for name, value in identity(caller).items():
                client.environ_base[f"HTTP_{name.upper().replace('-', '_')}"] = value
            clients.append(client)
        return clients

    return make


def create(client, **fields):
    return client.post("/images", json={"image": {**IMAGE, **fields}})


def change(client, image_id, headers=(), **fields):
    return client.put(f"/images/{image_id}", json={"image": fields}, headers=dict(headers))


def names(number):
    return {f"name {position}": "x" for position in range(number)}


def urls(number):
    return [f"https://host/{position}" for position in range(number)]


def members(number):
    return [{"member_id": f"tenant {position}"} for position in range(number)]


def require_refused(answer, option, quota):
    assert answer.status_code == 413
    assert f"[api] {option} allows {quota} " in answer.json["detail"]


@pytest.mark.parametrize(
    ("option", "field", "many", "quota"),
    [("image_property_quota", "properties", names, 128), ("image_location_quota", "locations", urls, 10)],
)
def test_an_image_has_as_many_properties_and_locations_as_the_default_allows(make_clients, option, field, many, quota):
    owner, admin = make_clients()

    created = create(owner, **{field: many(quota)})

    assert created.status_code == 200
    image_id = created.json["image"]["id"]
    require_refused(create(owner, **{field: many(quota + 1)}), option, quota)
    require_refused(change(owner, image_id, **{field: many(quota + 1)}), option, quota)
    assert owner.get(f"/images/{image_id}").json["image"] == created.json["image"]
    assert change(admin, image_id, **{field: many(quota + 1)}).status_code == 200
    assert create(admin, **{field: many(quota + 1)}).status_code == 200


def test_an_image_has_as_many_members_as_the_default_allows(make_clients):
    owner, admin = make_clients()
    path = f"/images/{create(owner).json['image']['id']}/members"

    assert owner.put(path, json={"memberships": members(128)}).status_code == 204
    require_refused(owner.put(path, json={"memberships": members(129)}), "image_member_quota", 128)
    require_refused(owner.put(f"{path}/more"), "image_member_quota", 128)
    assert owner.put(f"{path}/tenant 1", json={"member": {"can_share": True}}).status_code == 204
    assert len(owner.get(path).json["members"]) == 128
    assert admin.put(f"{path}/more").status_code == 204
    require_refused(owner.put(f"{path}/yet%20more"), "image_member_quota", 128)
    assert owner.put(path, json={"memberships": [*members(128), {"member_id": "more"}]}).status_code == 204


def test_what_is_above_a_quota_already_may_be_changed_and_reduced_but_not_added_to(make_clients):
    owner, admin = make_clients(api__image_property_quota=2, api__image_location_quota=2)
    image_id = create(admin, owner="owner", properties=names(4), locations=urls(4)).json["image"]["id"]
    purge = {"X-Glance-Registry-Purge-Props": "true"}

    assert change(owner, image_id, name="other").status_code == 200
    assert change(owner, image_id, properties={"name 1": "y"}).status_code == 200
    require_refused(change(owner, image_id, properties={"more": "y"}), "image_property_quota", 2)
    require_refused(change(owner, image_id, purge, properties=names(5)), "image_property_quota", 2)
    require_refused(change(owner, image_id, locations=urls(5)), "image_location_quota", 2)
    assert change(owner, image_id, purge, properties=names(3)).status_code == 200
    assert change(owner, image_id, locations=urls(3)).status_code == 200
    require_refused(change(owner, image_id, locations=urls(4)), "image_location_quota", 2)


def test_minus_1_is_no_limit_and_0_is_none(make_clients):
    options = {f"api__image_{kind}_quota": -1 for kind in ("property", "member", "location")}
    owner, _ = make_clients(**options)
    created = create(owner, properties=names(200), locations=urls(20))
    memberships = {"memberships": members(200)}

    assert created.status_code == 200
    assert owner.put(f"/images/{created.json['image']['id']}/members", json=memberships).status_code == 204
    owner, _ = make_clients(**dict.fromkeys(options, 0))
    require_refused(create(owner, properties=names(1)), "image_property_quota", 0)
    assert create(owner).status_code == 200


def test_a_tenant_has_as_many_images_as_its_quota_deleted_ones_aside(make_clients):
    owner, admin = make_clients(api__user_image_quota=2)
    first, _ = (create(owner).json["image"]["id"] for _ in range(2))

    require_refused(create(owner), "user_image_quota", 2)
    assert change(owner, first, name="other").status_code == 200
    assert create(admin, owner="owner").status_code == 200
    assert create(admin, owner="stranger").status_code == 200
    require_refused(create(owner), "user_image_quota", 2)
    for image in owner.get("/images").json["images"][:2]:
        assert owner.delete(f"/images/{image['id']}").status_code == 200
    assert create(owner).status_code == 200
    require_refused(create(owner), "user_image_quota", 2)


def test_with_flavor_none_everybody_is_an_admin_and_has_no_quota(make_client):
    options = {f"api__image_{kind}_quota": 0 for kind in ("property", "member", "location")}
    client = make_client(api__user_image_quota=1, **options)

    answers = [create(client, properties=names(2), locations=["file:///a"]).status_code for _ in range(3)]

    assert answers == [200] * 3


@pytest.mark.exhaustive
def test_tenants_who_race_over_both_workers_do_not_pass_their_quota(start_server):
    server = start_server(auth__flavor="trusted-auth", api__user_image_quota=5)
    start, statuses = threading.Barrier(8), []

    def race():
        start.wait(30)
        statuses.extend(server.request("POST", "/images", {"image": IMAGE}, identity("owner"))[0] for _ in range(4))

    racers = [threading.Thread(target=race) for _ in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)

    assert sorted(statuses) == [200] * 5 + [413] * 27
    assert len(server.request("GET", "/images", headers=identity("owner"))[2]["images"]) == 5


# Locations


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "FILE:///a", "filesystem:///a", "swift+config://a", "ftp://a", "x:y"]
)
def test_only_an_admin_gives_locations_of_any_scheme(make_clients, url):
    owner, admin = make_clients()
    image_id = create(owner).json["image"]["id"]
    shapes = ({"location": url}, {"locations": ["https://a", url]}, {"location_data": [{"url": url}]})

    for shape in shapes:
        for answer in (create(owner, **shape), change(owner, image_id, **shape)):
            assert answer.status_code == 400
            assert "swift+https" in answer.json["errors"]["location"][0]
            assert url not in answer.text
        assert create(admin, **shape).status_code == 200
    assert owner.get(f"/images/{image_id}").json["image"]["location_data"] == []


def test_a_location_that_an_admin_gave_may_stay_when_the_owner_sends_the_record_back(make_clients):
    owner, admin = make_clients()
    image = create(admin, owner="owner", location="file:///a").json["image"]

    assert change(owner, image["id"], **image).status_code == 200
    assert change(owner, image["id"], locations=["file:///a", "https://a"]).status_code == 200
    assert change(owner, image["id"], locations=["file:///b"]).status_code == 400


def test_schemes_can_be_allowed(make_clients):
    owner, _ = make_clients(api__location_schemes="file")

    assert create(owner, location="FILE:///a").status_code == 200
    assert create(owner, location="https://a").status_code == 400


@pytest.mark.exhaustive
def test_locations_stand_in_no_log(start_server, monkeypatch):
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--log-level debug --access-logfile - --error-logfile -")
    server = start_server()
    _, _, created = server.request("POST", "/images", {"image": {**IMAGE, "location": SECRET}})
    path = f"/images/{created['image']['id']}"

    server.request("GET", path)
    server.request("GET", "/images/detail?is_public=none")
    server.request("PUT", path, {"image": {"location": f"{SECRET}/2"}})
    server.request("PUT", path, {"image": {"location": f"{SECRET}\0"}})
    server.request("POST", "/images", {"image": {**IMAGE, "id": created["image"]["id"], "location": SECRET}})
    server.request("DELETE", path)
    log = server.stop()

    assert f"GET {path} HTTP/1.1" in log
    assert "[DEBUG]" in log
    assert "pAssw0rd" not in log
