"""Damage that comes while the server runs, or in a file too long to be read at start: 503, and never built upon."""

import sqlite3
from contextlib import closing

import pytest
from conftest import IMAGE

# what is damaged: its table, its column, what stands there then
DAMAGE = {
    "size": ("image", "size", "size + 1"),
    "size, no number": ("image", "size", "'many'"),
    "name": ("image", "name", "'another'"),
    "name, no text": ("image", "name", "x'ff'"),
    "updated_at": ("image", "updated_at", "'yesterday'"),
    "nonce": ("image", "nonce", "'0'"),
    "visibility": ("image", "visibility", "'private'"),
    "brief": ("image", "brief", "replace(brief, 'debian', 'debiam')"),
    "document": ("image", "document", "replace(document, 'debian', 'debiam')"),
    "document, no JSON": ("image", "document", "'{'"),
    "document, no text": ("image", "document", "CAST(x'7bff' AS TEXT)"),
    "document, a number": ("image", "document", "7"),
    "location_document": ("image", "location_document", "replace(location_document, 'http', 'htpp')"),
    "digest": ("image", "digest", "digest + 1"),
    "value": ("property", "value", "'linus'"),
    "value, no text": ("property", "value", "x'ff'"),
    "url": ("location", "url", "'http://elsewhere'"),
    "metadata": ("location", "metadata", "'{'"),
}
# The documents are whole, and what is shown is theirs.
READ_RIGHTLY = ("size", "name", "value", "url", "metadata", "updated_at")


@pytest.fixture
def image(client):
    values = {**IMAGE, "name": "debian", "size": 5, "properties": {"os": "linux"}, "is_public": True}
    return client.post("/images", json={"image": {**values, "location": "http://store/1"}}).json["image"]


@pytest.fixture
def damage(database_path):
    """A function: change a column of the first image behind the server's back."""

    def execute(table, column, value):
        key = "pk" if table == "image" else "image_id"
        with closing(sqlite3.connect(database_path)) as connection, connection:
            assert connection.execute(f"UPDATE {table} SET {column} = {value} WHERE {key} = 1").rowcount == 1

    return execute


def rows_of_all_tables(database_path):
    with closing(sqlite3.connect(database_path)) as connection:
        connection.text_factory = bytes
        tables = ("image", "property", "location", "member", "words", "change")
        return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]


every_damage = pytest.mark.parametrize("name", DAMAGE)


@pytest.mark.sampled
@every_damage
@pytest.mark.parametrize("method", ["PUT", "DELETE", "undelete"])
def test_a_damaged_record_is_not_written_and_so_not_given_a_digest_that_fits(
    client, image, damage, database_path, name, method
):
    damage(*DAMAGE[name])
    before = rows_of_all_tables(database_path)

    path = f"/images/{image['id']}"
    if method == "PUT":
        response = client.put(path, json={"image": {"min_ram": 1}})
    elif method == "DELETE":
        response = client.delete(path)
    else:
        response = client.post(f"{path}/undelete")

    assert response.status_code == 503
    assert response.json["detail"].endswith("damaged in the database; nothing was changed.") or (
        response.json["detail"] == "The database is damaged; nothing was changed."
    )
    assert rows_of_all_tables(database_path) == before


@every_damage
def test_a_damaged_record_is_read_as_it_was_or_answered_503(client, image, damage, name):
    damage(*DAMAGE[name])

    response = client.get(f"/images/{image['id']}")

    if name.split(",")[0] in READ_RIGHTLY:
        assert (response.status_code, response.json) == (200, {"image": image})
    else:
        assert response.status_code == 503


@pytest.mark.sampled
@every_damage
@pytest.mark.parametrize(
    "path",
    [
        *("/images", "/images/detail", "/images/detail?limit=1&sort_key=updated_at", "/images?q=debian&count=true"),
        *("/ui/images", "/ui", "/ui/images/ID", "/ui/images/ID/edit", "/images/ID/members", "/images/ID/history"),
    ],
)
def test_no_page_takes_damage_for_a_mistake_of_ours(client, image, damage, name, path):
    client.post("/images", json={"image": {**IMAGE, "is_public": True}})
    damage(*DAMAGE[name])

    assert client.get(path.replace("ID", image["id"])).status_code in (200, 503)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("changes", "'{'"), ("changes", "7"), ("changes", "'[1]'"), ("changes", "x'ff'"), ("at", "'xxx'")),
        *(("tenant", "x'ff'"), ("tenant", "'other'"), ("action", "'deleted'"), ("is_admin", "0"), ("digest", "0")),
    ],
)
def test_a_damaged_history_is_answered_503(client, image, damage, column, value):
    damage("change", column, value)

    response = client.get(f"/images/{image['id']}/history")

    assert response.status_code == 503
    assert client.get(f"/ui/images/{image['id']}").status_code == 503
    assert client.get(f"/images/{image['id']}").status_code == 200
