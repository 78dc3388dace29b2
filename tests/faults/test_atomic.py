"""Promise 2: a refused or failed request has changed nothing, and when the trouble is over all is well again."""

import resource
import sqlite3
import subprocess
from contextlib import closing, contextmanager

import pytest
from conftest import IMAGE

from faults.conftest import rounds
from storage import search_index

LOCATION = [{"url": "http://store/1", "metadata": {"k": "v"}, "status": "active"}]
NOT_THERE = "11111111-2222-3333-4444-555555555555"


def stored(path):
    """All rows of all tables, the index of words' own ones included."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert {"image", "change", "words", "indexed", "search_data", "token"} <= {*tables}
        return {table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}


@pytest.fixture
def client(make_client, monkeypatch):
    """Here every change forgets one, and every new image's words go into the index at once."""
    monkeypatch.setattr(search_index, "INDEXED_TOGETHER", 1)
    return make_client(api__image_history_limit=1)


@pytest.fixture
def image(make_image):
    return make_image(
        id="aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        owner="owner",
        is_public=True,
        properties={"os": "linux", "arch": "x86"},
        location_data=LOCATION,
        members={"member": False, "sharer": True},
    )


PATH = "/images/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
NEW = {"properties": {"os": "bsd", "new": "1"}, "locations": ["http://store/2"], "name": "new"}
PURGE = {"X-Glance-Registry-Purge-Props": "true"}
TEXT = {"Content-Type": "text/plain"}
MANY_PROPERTIES = {"properties": {f"{number}": "x" for number in range(129)}}
MANY_MEMBERS = {"memberships": [{"member_id": f"{number}"} for number in range(129)]}
LARGE = {"properties": {"large": "x" * 2_000_000}}
REFUSED = [
    ("admin", "POST", "/images", {"image": {**IMAGE, **NEW, "status": "odd"}}, {}, 400),
    ("admin", "POST", "/images", {"image": {**IMAGE, **NEW, "id": PATH[8:]}}, {}, 409),
    ("admin", "POST", "/images", {"image": {**IMAGE, **NEW, "disk_format": "ami"}}, {}, 400),
    ("tenantless", "POST", "/images", {"image": {**IMAGE, **NEW}}, {}, 403),
    ("anonymous", "POST", "/images", {"image": {**IMAGE, **NEW}}, {}, 401),
    ("admin", "PUT", PATH, {"image": {**NEW, "min_ram": -1}}, PURGE, 400),
    ("admin", "PUT", PATH, {"image": {**NEW, "disk_format": "ami"}}, PURGE, 400),
    ("admin", "PUT", PATH, {"image": {**NEW, "id": NOT_THERE}}, PURGE, 400),
    ("admin", "PUT", PATH, {"image": NEW, "from_state": "queued"}, PURGE, 409),
    ("admin", "PUT", PATH, {"image": NEW}, {**PURGE, "If-Match": '"1-other"'}, 412),
    ("admin", "PUT", PATH, {"image": {"properties": {"os": "bsd", "nested": {}}}}, PURGE, 400),
    ("admin", "PUT", f"/images/{NOT_THERE}", {"image": NEW}, PURGE, 404),
    ("member", "PUT", PATH, {"image": NEW}, PURGE, 403),
    ("owner", "POST", "/images", {"image": {**IMAGE, **MANY_PROPERTIES}}, {}, 413),
    ("owner", "PUT", PATH, {"image": {**NEW, **MANY_PROPERTIES}}, {}, 413),
    ("owner", "PUT", PATH, {"image": {**NEW, "locations": [f"http://{number}" for number in range(11)]}}, PURGE, 413),
    ("owner", "PUT", f"{PATH}/members", MANY_MEMBERS, {}, 413),
    ("admin", "PUT", PATH, {"image": {**NEW, **LARGE}}, PURGE, 413),
    ("admin", "PUT", PATH, {"image": NEW}, {**PURGE, **TEXT}, 415),
    ("admin", "PUT", f"{PATH}/members", {"memberships": []}, TEXT, 415),
    ("owner", "POST", f"{PATH}/undelete", None, {}, 403),
    ("admin", "POST", f"{PATH}/undelete", None, {"If-Match": '"1-other"'}, 412),
    ("admin", "POST", f"/images/{NOT_THERE}/undelete", None, {}, 404),
    ("admin", "DELETE", PATH, None, {"If-Match": '"1-other"'}, 412),
    ("sharer", "DELETE", PATH, None, {}, 403),
    ("admin", "PUT", f"{PATH}/members", {"memberships": [{"member_id": "new"}, {"member_id": ""}]}, {}, 400),
    ("admin", "PUT", f"{PATH}/members", {"memberships": [{"member_id": "new"}, {"member_id": "new"}]}, {}, 400),
    ("member", "PUT", f"{PATH}/members", {"memberships": []}, {}, 403),
    ("admin", "PUT", f"{PATH}/members/new", {"member": {"can_share": "maybe"}}, {}, 400),
    ("anonymous", "PUT", f"{PATH}/members/new", None, {}, 401),
    ("admin", "DELETE", f"{PATH}/members/new", None, {}, 404),
    ("stranger", "DELETE", f"{PATH}/members/member", None, {}, 403),
]


@pytest.mark.parametrize(("caller", "method", "path", "body", "headers", "status"), REFUSED)
def test_a_refused_request_changes_nothing(
    client_as, image, database_path, caller, method, path, body, headers, status
):
    before = stored(database_path)

    response = client_as(caller).open(path, method=method, json=body, headers=headers)

    assert response.status_code == status, response.text
    assert stored(database_path) == before


CHANGES = {
    "create": ("POST", "/images", {"image": {**IMAGE, **NEW}}, {}, 200),
    "update": ("PUT", PATH, {"image": NEW}, PURGE, 200),
    "delete": ("DELETE", PATH, None, {}, 200),
    "undelete": ("POST", f"{PATH}/undelete", None, {}, 200),
    "replace members": ("PUT", f"{PATH}/members", {"memberships": [{"member_id": "new"}]}, {}, 204),
    "put member": ("PUT", f"{PATH}/members/new", {"member": {"can_share": True}}, {}, 204),
    "remove member": ("DELETE", f"{PATH}/members/member", None, {}, 204),
}
# Every table that a change writes to, and how.
STATEMENTS = [
    *(("create", "INSERT", table) for table in ("image", "property", "location", "words", "change")),
    ("create", "UPDATE", "indexed"),
    *(("update", statement, table) for table in ("property", "location") for statement in ("DELETE", "INSERT")),
    *(("update", "UPDATE", table) for table in ("image", "words")),
    *((change, "UPDATE", "image") for change in ("delete", "undelete")),
    *(("replace members", statement, "member") for statement in ("DELETE", "INSERT")),
    *(("put member", "INSERT", "member"), ("remove member", "DELETE", "member")),
    *((change, statement, "change") for change in CHANGES if change != "create" for statement in ("INSERT", "DELETE")),
]


@pytest.mark.parametrize(("change", "statement", "table"), STATEMENTS)
def test_a_change_that_fails_at_any_statement_changes_nothing(client, image, database_path, change, statement, table):
    method, path, body, headers, done = CHANGES[change]
    if change == "undelete":
        assert client.delete(PATH).status_code == 200
    before = stored(database_path)
    # AFTER: something has been written when it fails.
    fault = f"CREATE TRIGGER fault AFTER {statement} ON {table} BEGIN SELECT RAISE(FAIL, 'a fault of the test'); END"
    with closing(sqlite3.connect(database_path)) as connection:
        connection.execute(fault)

    response = client.open(path, method=method, json=body, headers=headers)

    assert response.status_code in (409, 500), response.text
    assert stored(database_path) == before
    with closing(sqlite3.connect(database_path)) as connection:
        connection.execute("DROP TRIGGER fault")
    assert client.open(path, method=method, json=body, headers=headers).status_code == done
    assert stored(database_path) != before


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own of 1 MiB, and a function that gives it more."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"a small tmpfs needs root: {mount.stderr.strip()}")
    yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=16m", folder], check=True)
    subprocess.run(["umount", "--lazy", folder], check=True)


def write_until_it_fails(server, filler):
    """The status that a create was refused with, and its headers, after as many as fit."""
    for number in range(5000):
        image = {**IMAGE, "name": str(number), "properties": {"filler": filler}}
        status, headers, body = server.request("POST", "/images", {"image": image})
        if status != 200:
            return status, headers, body
    raise AssertionError("it never fails")


def require_harmless(server, path, statuses, headers_needed=()):
    """While the trouble lasts: every change is refused, changes nothing, and reads are answered."""
    before = stored(path)
    larger = {"image": {**NEW, "properties": {"os": "b" * 60_000}}}
    memberships = {"memberships": [{"member_id": f"{number}" * 60} for number in range(100, 900)]}
    changes = [
        ("POST", "/images", {"image": {**IMAGE, **larger["image"]}}, {}),
        ("PUT", PATH, larger, PURGE),
        ("PUT", f"{PATH}/members", memberships, {}),
    ]
    for method, url, body, headers in changes:
        status, answered, problem = server.request(method, url, body, headers)
        assert status in statuses, (method, url, status, problem)
        assert set(headers_needed) <= set(answered.keys())
        assert stored(path) == before
        assert server.request("GET", PATH)[0] == server.request("GET", f"{PATH}/members")[0] == 200


def require_well(server):
    """The trouble is over: every kind of change is made again, without a restart."""
    for method, path, body, headers, done in [*map(CHANGES.get, ("create", "replace members", "update", "delete"))]:
        status, _, answer = server.request(method, path, body, headers)
        assert status == done, (method, path, status, answer)


def prepare_image(server):
    values = {**IMAGE, "id": PATH[8:], "properties": {"os": "linux"}, "location_data": LOCATION}
    assert server.request("POST", "/images", {"image": values})[0] == 200
    assert server.request("PUT", f"{PATH}/members/member")[0] == 204


def test_a_full_disk_is_answered_507_and_changes_nothing(start_broken_server, small_disk, tally):
    tally.promise = "2 atomic: a full disk"
    folder, enlarge = small_disk
    path = folder / "registry.db"
    server = start_broken_server(path)
    prepare_image(server)

    status, _, problem = write_until_it_fails(server, "f" * tally.random.randrange(100, 9000))
    assert (status, problem["title"]) == (507, "Insufficient Storage")
    require_harmless(server, path, {507})
    enlarge()
    require_well(server)
    tally.rounds += 1


@contextmanager
def limited_files(server, size):
    """While it lasts, no file of the workers may grow beyond ``size``: a write is an I/O error (EFBIG)."""
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in server.worker_pids()}
    for pid, (_, hard) in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)


def test_an_input_output_error_is_answered_503_and_changes_nothing(start_broken_server, database_path, tally):
    tally.promise = "2 atomic: I/O errors"
    server = start_broken_server()
    prepare_image(server)

    for _ in range(rounds(3, 50)):
        room = tally.random.randrange(40_000)
        with limited_files(server, database_path.stat().st_size + room):
            status, headers, problem = write_until_it_fails(server, "f" * 5000)
            assert (status, headers["Retry-After"]) == (503, "1"), problem
            require_harmless(server, database_path, {503}, ["Retry-After"])
        status, _, answer = server.request("PUT", PATH, {"image": NEW}, PURGE)
        assert status == 200, answer
        tally.rounds += 1
    require_well(server)


@pytest.mark.exhaustive
def test_a_database_locked_for_too_long_is_answered_503_and_changes_nothing(start_broken_server, database_path, tally):
    tally.promise = "2 atomic: locked by somebody else"
    server = start_broken_server(database__busy_timeout=1)
    prepare_image(server)

    for _ in range(rounds(1, 10)):
        with closing(sqlite3.connect(database_path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            require_harmless(server, database_path, {503}, ["Retry-After"])
        status, _, answer = server.request("PUT", PATH, {"image": NEW}, PURGE)
        assert status == 200, answer
        tally.rounds += 1
    require_well(server)
