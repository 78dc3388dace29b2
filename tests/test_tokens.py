"""Flavor token: made by a real command, taken by a real server, kept as hashes."""

import contextlib
import hashlib
import re
import sqlite3
import time

import pytest
from conftest import IMAGE, answer_to

import auth
import models
from storage.documents import TOKEN_COLUMNS, token_digest

TOKEN = {"auth__flavor": "token"}
OPEN = {**TOKEN, "auth__allow_anonymous_access": "true"}
UNKNOWN = "registry_" + "x" * 43


@pytest.fixture
def create(run):
    """A function: a token of the real command; its text."""

    def create_token(*arguments):
        code, output, errors = run("token", "create", *arguments, **TOKEN)
        assert code == 0, errors
        return output.decode().strip()

    return create_token


def rows(database_path, statement="SELECT * FROM token", parameters=()):
    with contextlib.closing(sqlite3.connect(database_path)) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


def expire(database_path, number):
    """As time does it: the digest beside it fits."""
    found = rows(database_path, f"SELECT {', '.join(TOKEN_COLUMNS)} FROM token WHERE id = ?", (number,))
    row = dict(zip(TOKEN_COLUMNS, found[0], strict=True))
    row["expires_at"] = row["created_at"]
    values = (row["expires_at"], token_digest(row), number)
    rows(database_path, "UPDATE token SET expires_at = ?, digest = ? WHERE id = ?", values)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


# The commands


def test_a_token_is_shown_once_and_only_its_hash_is_kept(run, database_path):
    code, output, errors = run("token", "create", "--tenant", "acme", "--role", "member", **TOKEN)
    text = output.decode().strip()

    assert code == 0
    assert re.fullmatch(r"registry_[A-Za-z0-9_-]{43}", text)  # 43 of 64 characters: 256 bits
    assert errors == "Created token 1. Store it now: it is not shown again.\n"
    assert hashlib.sha256(text.encode()).hexdigest() in rows(database_path)[0]
    assert text.removeprefix("registry_").encode() not in database_path.read_bytes()


def test_no_two_tokens_are_the_same(create):
    assert create("--role", "member") != create("--role", "member")


def test_create_says_where_tokens_do_not_count(run):
    _, _, errors = run("token", "create", "--role", "member")

    assert errors.endswith("Tokens have no effect while [auth] flavor is none; set it to token.\n")


@pytest.mark.exhaustive
def test_list_shows_all_that_is_known_and_no_secret(run, create, database_path):
    texts = [
        create("--tenant", "acme", "--role", "member", "--role", "reader", "--description", "of the build"),
        create("--role", "admin", "--expires", "90d", "--read-only"),
        create("--tenant", "gone", "--role", "member"),
        create("--tenant", "past", "--role", "member", "--expires", "1m"),
    ]
    run("token", "revoke", "3")
    expire(database_path, 4)

    code, output, _ = run("token", "list")

    lines = [re.split(r"  +", line) for line in output.decode().splitlines()]
    assert code == 0
    assert lines[0] == [
        "id",
        "state",
        "tenant",
        "roles",
        "access",
        "created_at",
        "expires_at",
        "used_at",
        "description",
    ]
    assert [line[:5] for line in lines[1:]] == [
        ["1", "active", "acme", "member,reader", "read-write"],
        ["2", "active", "-", "admin", "read-only"],
        ["3", "revoked", "gone", "member", "read-write"],
        ["4", "expired", "past", "member", "read-write"],
    ]
    assert lines[1][6:] == ["-", "-", "of the build"]
    assert not any(text in output.decode() for text in texts)
    assert not any(value in output.decode() for (value,) in rows(database_path, "SELECT hash FROM token"))


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("create",), "Missing option '--role'"),
        (("create", "--role", "a,b"), "without ,"),
        (("create", "--role", "member", "--tenant", "x" * 256), "up to 255 characters"),
        (("create", "--role", "member", "--tenant", "a\nb"), "printable text"),
        (("create", "--role", "member", "--expires", "soon"), "30d, 12h, 2w"),
        (("create", "--role", "member", "--expires", "0d"), "Must be later than now."),
        (("revoke", "7"), "There is no token 7."),
        (("revoke", "x"), "not a valid integer"),
    ],
)
def test_a_refused_command_says_why_and_makes_no_token(run, client, database_path, arguments, cause):
    code, output, errors = run("token", *arguments)

    assert code != 0
    assert cause in errors
    assert output == b""
    assert rows(database_path) == []


def test_revoking_twice_leaves_the_first_time(run, create, database_path):
    create("--role", "member")
    run("token", "revoke", "1")
    before = rows(database_path)

    code, _, _ = run("token", "revoke", "1")

    assert (code, rows(database_path)) == (0, before)


@pytest.mark.exhaustive
@pytest.mark.parametrize("column", ["tenant", "roles", "is_read_only", "expires_at", "revoked_at", "hash"])
def test_check_finds_a_token_that_was_changed_behind_our_back(run, create, database_path, column):
    create("--tenant", "acme", "--role", "member", "--expires", "1d")
    assert run("check")[0] == 0
    rows(database_path, f"UPDATE token SET {column} = '1'")

    code, output, _ = run("check")

    assert code == 1
    assert "token 1: its digest does not fit its row" in output.decode()
    assert run("token", "revoke", "1")[0] == 0
    assert run("check")[0] == 0


def test_a_backup_has_the_tokens_and_an_export_has_not(run, create, tmp_path, database_path):
    text = create("--tenant", "acme", "--role", "member")
    (digest,) = rows(database_path, "SELECT hash FROM token")[0]

    run("backup", tmp_path / "copy.db")
    code, exported, _ = run("export", "-")

    assert rows(tmp_path / "copy.db") == rows(database_path)
    assert code == 0
    assert text.encode() not in exported
    assert digest.encode() not in exported


# A real server with two workers


def statuses(server, headers, times=24):
    """All that the workers answer: each request is a connection of its own."""
    return {server.request("GET", "/images", headers=headers)[0] for _ in range(times)}


@pytest.mark.exhaustive
def test_a_token_is_its_tenant_and_roles_until_it_is_revoked_in_every_worker(run, create, start_server):
    server = start_server(**TOKEN)
    member, admin = create("--tenant", "acme", "--role", "member"), create("--role", "x", "--role", "ADMIN")
    body = {"image": {**IMAGE, "owner": "chosen"}}

    owners = [server.request("POST", "/images", body, bearer(text))[2]["image"]["owner"] for text in (member, admin)]
    before = statuses(server, bearer(member))
    run("token", "revoke", "1")
    after = statuses(server, bearer(member))

    assert owners == ["acme", "chosen"]
    assert (before, after) == ({200}, {401})
    assert statuses(server, bearer(admin)) == {200}


@pytest.mark.exhaustive
def test_a_token_expires_in_every_worker(create, start_server, database_path):
    server = start_server(**TOKEN)
    text = create("--role", "member", "--expires", "1h")
    before = statuses(server, bearer(text))
    expire(database_path, 1)

    assert (before, statuses(server, bearer(text))) == ({200}, {401})


@pytest.mark.exhaustive
def test_a_token_comes_in_either_header_and_once(create, start_server):
    server = start_server(**OPEN)
    one, other = create("--role", "member"), create("--role", "member")
    expected = {
        (f"Authorization: Bearer {one}",): 200,
        (f"authorization: bearer   {one}",): 200,
        (f"X-Auth-Token: {one}",): 200,
        (f"X-Auth-Token: {one}", f"Authorization: Bearer {one}"): 200,
        (f"X-Auth-Token: {one}", "Authorization:"): 200,
        (f"X-Auth-Token: {one}", f"Authorization: Bearer {other}"): 401,
        (f"X-Auth-Token: {UNKNOWN}", f"Authorization: Bearer {one}"): 401,
        (f"X-Auth-Token: {one}", "Authorization: Basic eDp5"): 401,
        (f"X-Auth-Token: {one}", f"X-Auth-Token: {one}"): 401,
        (f"Authorization: Bearer {one}", f"Authorization: Bearer {one}"): 401,
        (f"Authorization: Bearer {one}", "Authorization:"): 401,
        (f"X_Auth_Token: {UNKNOWN}",): 200,  # dropped: nobody asks
        ("X-Auth-Token:",): 200,
        (f"Authorization: {one}",): 401,
        (f"X-Auth-Token: {UNKNOWN}",): 401,
        (f"X-Auth-Token: {one}x",): 401,
        ("X-Auth-Token: \xff",): 401,
    }

    assert {lines: answer_to(server, *lines) for lines in expected} == expected


# What it means, by Flask's client


@pytest.fixture
def client_with(create, make_client):
    """A function: (a client, the headers of a new token with these arguments)."""

    def make(*arguments, **options):
        return make_client(**TOKEN, **options), bearer(create(*arguments))

    return make


def test_without_a_token_the_answer_is_401_with_a_challenge(make_client):
    response = make_client(**TOKEN).get("/images")

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="image registry"'
    assert "X-Auth-Token" in response.json["detail"]


def test_identity_headers_count_for_nothing(make_client):
    headers = {"X-Identity-Status": "Confirmed", "X-Roles": "admin", "X-Tenant-Id": "acme"}

    assert make_client(**TOKEN).get("/images", headers=headers).status_code == 401


def test_a_token_that_does_not_count_is_refused_alike_whatever_the_reason(run, create, make_client, database_path):
    texts = [create("--role", "member"), create("--role", "member", "--expires", "1h"), UNKNOWN, "abc"]
    run("token", "revoke", "1")
    expire(database_path, 2)
    client = make_client(**OPEN)

    answers = [client.get("/images", headers={"X-Auth-Token": text, "X-Openstack-Request-Id": "x"}) for text in texts]

    assert [answer.status_code for answer in answers] == [401] * 4
    assert len({answer.data for answer in answers}) == 1


def test_a_read_only_token_sees_what_its_tenant_sees_and_changes_nothing(client_with, create):
    client, writer = client_with("--tenant", "acme", "--role", "member")
    reader = bearer(create("--tenant", "acme", "--role", "member", "--read-only"))
    path = client.post(
        "/images", json={"image": {**IMAGE, "location": "https://images.example/x"}}, headers=writer
    ).headers["Location"]

    assert client.get(path, headers=reader).json == client.get(path, headers=writer).json
    refusals = [
        client.post("/images", json={"image": IMAGE}, headers=reader),
        client.put(path, json={"image": {"name": "x"}}, headers=reader),
        client.delete(path, headers=reader),
        client.put(f"{path}/members/friend", headers=reader),
    ]
    assert [(answer.status_code, answer.json["detail"]) for answer in refusals] == [
        (403, "This token may only read.")
    ] * 4


@pytest.mark.parametrize("name", ["X-AUTH-TOKEN", "AUTHORIZATION"])
def test_a_header_that_the_server_marks_as_repeated_is_refused_whatever_is_in_it(client_with, name):
    client, headers = client_with("--role", "member")
    marked = {"registry.repeated_headers": frozenset({name, "ACCEPT"})}

    response = client.get("/images", headers=headers, environ_overrides=marked)

    assert (response.status_code, response.json["detail"]) == (401, f"{name} must be sent once.")


# The last use


def used_at(database_path):
    return rows(database_path, "SELECT used_at FROM token")[0][0]


def test_the_last_use_is_noted_once_an_hour_and_not_with_each_request(client_with, database_path):
    client, headers = client_with("--role", "member")
    client.get("/images", headers=headers)
    first = used_at(database_path)
    client.get("/images", headers=headers)
    again = used_at(database_path)
    rows(database_path, "UPDATE token SET used_at = ?", ("2020-01-01T00:00:00.000000",))
    client.get("/images", headers=headers)

    assert first == again is not None
    assert used_at(database_path) > first


def test_a_refused_token_is_not_used(client_with, run, database_path):
    client, headers = client_with("--role", "member")
    run("token", "revoke", "1")

    client.get("/images", headers=headers)

    assert used_at(database_path) is None


def test_a_locked_database_neither_fails_nor_delays_a_read_that_would_note_its_use(client_with, database_path):
    client, headers = client_with("--role", "member", database__busy_timeout=60)
    with contextlib.closing(sqlite3.connect(database_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()

        response = client.get("/images", headers=headers)

        # Sixty seconds is what a write would wait: any machine is faster than half of that.
        assert time.monotonic() - started < 30
    assert (response.status_code, used_at(database_path)) == (200, None)
    assert models.database.pragma("busy_timeout") == 60_000
    client.get("/images", headers=headers)
    assert used_at(database_path) is not None


def test_a_token_is_found_by_one_search_of_an_index(create, make_client):
    make_client(**TOKEN)
    create("--role", "member")
    plan = models.execute(f"EXPLAIN QUERY PLAN {auth.FIND_TOKEN}", ("x",)).fetchall()

    assert [step[-1] for step in plan] == ["SEARCH token USING INDEX sqlite_autoindex_token_1 (hash=?)"]
