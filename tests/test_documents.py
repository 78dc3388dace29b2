"""The rendered documents beside each row say what the rows say, whatever was written."""

import pytest
from conftest import IMAGE

import models
from models import Image, Location, Property
from storage.documents import documents_of

PURGE = {"X-Glance-Registry-Purge-Props": "true"}
WRITES = {
    "create": [],
    "rename": [("PUT", {"image": {"name": "new \N{PENGUIN}"}}, {})],
    "hide": [("PUT", {"image": {"is_public": False}}, {})],
    "kill": [("PUT", {"image": {"status": "killed"}}, {})],
    "revive": [("PUT", {"image": {"status": "killed"}}, {}), ("PUT", {"image": {"status": "active"}}, {})],
    "merge properties": [("PUT", {"image": {"properties": {"b": "2", "a": None}}}, {})],
    "purge properties": [("PUT", {"image": {"properties": {"b": "2"}}}, PURGE)],
    "purge all": [("PUT", {"image": {}}, PURGE)],
    "move": [("PUT", {"image": {"location_data": [{"url": "x:1", "metadata": {"n": 10**30, "f": 1.5}}]}}, {})],
    "forget where": [("PUT", {"image": {"location": None}}, {})],
    "delete": [("DELETE", None, {})],
    "delete twice": [("DELETE", None, {}), ("DELETE", None, {})],
    "write to a deleted one": [("DELETE", None, {}), ("PUT", {"image": {"name": "x"}}, {})],
    "a refused one": [("PUT", {"image": {"name": "x", "size": -1}}, {})],
}


def assert_documents_are_true():
    rows = list(Image.select().dicts())
    for row in rows:
        properties = Property.select(Property.name, Property.value).where(Property.image == row["pk"])
        locations = Location.select(Location.url, Location.metadata, Location.status).where(Location.image == row["pk"])
        texts = dict(properties.order_by(Property.name).tuples())
        documents = documents_of(row, texts, list(locations.order_by(Location.position).tuples()))

        assert {name: row[name] for name in documents} == documents
        times = Property.select(Property.created_at).where(Property.image == row["pk"]).tuples()
        assert all(created_at == row["created_at"] for (created_at,) in times)
    return len(rows)


@pytest.mark.parametrize("writes", WRITES.values(), ids=WRITES)
def test_documents_are_true_after(client, writes):
    fields = {"properties": {"a": "1", "os": "linux"}, "locations": ["file:///a", "file:///b"], "is_public": True}
    path = f"/images/{client.post('/images', json={'image': {**IMAGE, **fields}}).json['image']['id']}"

    for method, body, headers in writes:
        client.open(path, method=method, json=body, headers=headers)

    assert assert_documents_are_true() == 1


def test_a_document_that_is_not_true_is_noticed(client, make_image):
    make_image()
    models.database.execute_sql("UPDATE image SET name = 'behind its back'")

    with pytest.raises(AssertionError):
        assert_documents_are_true()
