"""SQL statements: values of requests are bound parameters, never part of a statement's text."""

import pytest
from conftest import IMAGE
from support.ui_pages import visit

from storage.timing import TimedConnection, TimedCursor

SENTINEL = "x7sentinel"
UUID = "0a7e57ed-0000-4000-8000-7e57ed7e57ed"
LIST_QUERIES = [
    *(f"{name}={SENTINEL}" for name in ("name", "status", "disk_format", "container_format", "checksum", "owner", "q")),
    *(f"{name}=7654321" for name in ("min_ram", "min_disk", "size_min", "size_max")),
    f"property-{SENTINEL}={SENTINEL}",
    "&".join(f"property-{SENTINEL}{number}={SENTINEL}" for number in range(20)),
    f"q={SENTINEL}+two+{UUID[:8]}&sort_key=name&sort_dir=asc",
    f"name={SENTINEL}&property-a={SENTINEL}&size_min=7654321&sort_key=size&count=true",
    f"marker={UUID}",
]


@pytest.fixture
def statements(monkeypatch):
    """The texts of all statements that the product runs."""
    texts = []
    for connection_type in (TimedConnection, TimedCursor):
        for name in ("execute", "executemany"):
            original = getattr(connection_type, name)

            def record(self, statement, *parameters, original=original):
                texts.append(statement)
                return original(self, statement, *parameters)

            monkeypatch.setattr(connection_type, name, record)
    return texts


def has_value(statement):
    return any(value in statement.lower() for value in (SENTINEL, "7654321", UUID, UUID[:8]))


@pytest.mark.exhaustive
@pytest.mark.parametrize("query", LIST_QUERIES)
def test_values_of_list_queries_are_bound(client, make_image, statements, query):
    make_image(id=UUID, name=SENTINEL)

    for path in ("/images", "/images/detail", "/ui/images"):
        client.get(f"{path}?{query}")

    assert len(statements) > 3
    assert [statement for statement in statements if has_value(statement)] == []


def test_values_of_bodies_and_paths_are_bound(client, statements):
    properties = {SENTINEL: SENTINEL}
    image = {**IMAGE, "id": UUID, "name": SENTINEL, "owner": SENTINEL, "properties": properties}
    image["location"] = f"https://{SENTINEL}/a"

    assert client.post("/images", json={"image": image}).status_code == 200
    assert client.put(f"/images/{UUID}", json={"image": {"checksum": SENTINEL, "size": 7654321}}).status_code == 200
    assert client.put(f"/images/{UUID}/members/{SENTINEL}").status_code == 204
    for path in (f"/images/{UUID}", f"/images/{UUID}/members", f"/shared-images/{SENTINEL}", f"/images/{UUID}/history"):
        assert client.get(path).status_code == 200
    visit(client, f"/ui/images/{UUID}")
    assert client.delete(f"/images/{UUID}/members/{SENTINEL}").status_code == 204
    assert client.delete(f"/images/{UUID}").status_code == 200

    assert len(statements) > 20
    assert [statement for statement in statements if has_value(statement)] == []
