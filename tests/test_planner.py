"""SQLite's query plans of lists: an index has the order, and no table is scanned."""

import re

import pytest
from conftest import IMAGE

import models
from listing import sqlite_planner
from storage.fields import FILTER_FIELDS, names_of

# Query of a list → driving index with its order.
ORDERED = {
    "": "image_by_created_at",
    "deleted=true": "image_by_created_at",
    "is_public=none": "image_by_created_at",
    "status=killed": "image_by_status",
    **{
        f"sort_key={key}&sort_dir={direction}": f"image_by_{key}"
        for key in ("name", "size", "status", "disk_format", "container_format", "updated_at", "id", "created_at")
        for direction in ("asc", "desc")
    },
    "name=cirros": "image_by_name",
    "name=cirros&sort_key=name": "image_by_name",
    "status=active": "image_by_status",
    "disk_format=qcow2": "image_by_disk_format",
    "container_format=bare": "image_by_container_format",
    "property-os=linux": "property_by_value",
}
# Queries whose few matches an index finds; they are sorted.
GATHERED = {
    "owner=owner": "image_of_owner",
    "checksum=abc": "image_with_checksum",
    "min_ram=64": "image_with_min_ram",
    "min_disk=2": "image_with_min_disk",
    "size_min=1&size_max=2": "image_by_size",
    "changes-since=2100-01-01": "image_by_updated_at",
    "property-os=linux&sort_key=name": "property_by_value",
    "status=active&disk_format=qcow2&sort_key=size": "image_by_",
}


@pytest.fixture
def plan_of(client):
    """Return a function: the lines of SQLite's plan for GET /images with a query."""
    for number in range(3):
        client.post("/images", json={"image": {**IMAGE, "is_public": True, "properties": {"os": "linux", "n": number}}})
    connection = models.database.connection()

    def plan(query):
        sqlite_planner.count_cache.clear()
        statements = []
        connection.set_trace_callback(statements.append)
        assert client.get(f"/images?{query}").status_code == 200
        connection.set_trace_callback(None)
        return [line for *_, line in connection.execute(f"EXPLAIN QUERY PLAN {statements[-1]}").fetchall()]

    return plan


def assert_reads_no_table_whole(plan):
    assert [line for line in plan if re.match(r"SCAN (image|property|member|location|other)", line)] == []


@pytest.mark.parametrize(("query", "index"), ORDERED.items())
def test_an_index_has_the_order_of(plan_of, query, index):
    plan = plan_of(query)

    assert_reads_no_table_whole(plan)
    assert any(f"INDEX {index} " in line for line in plan)
    # Two list partitions are merged in order; only ties in created_at may be sorted.
    sorts = [line for line in plan if "TEMP B-TREE" in line and "RIGHT PART" not in line]
    assert sorts == [] or any("MERGE" in line for line in plan)


@pytest.mark.parametrize(("query", "index"), GATHERED.items())
def test_an_index_finds_the_few_that_pass(plan_of, query, index):
    plan = plan_of(query)

    assert_reads_no_table_whole(plan)
    assert any(f"INDEX {index}" in line for line in plan)


def test_a_deep_page_begins_within_the_index(plan_of, client):
    first = client.get("/images?limit=1&sort_key=name")
    query = first.headers["Link"].partition("?")[2].partition(">")[0]

    plan = plan_of(query)

    assert_reads_no_table_whole(plan)
    assert any(re.search(r"INDEX image_by_name \(list_partition=\? AND \(?name", line) for line in plan)


def test_the_index_of_the_default_order_holds_all_filtered_fields(client):
    columns = {name for *_, name in models.database.execute_sql("PRAGMA index_info(image_by_created_at)")}

    # A checksum has few images, which its own index finds.
    assert {*names_of(FILTER_FIELDS)} - columns == {"checksum"}


@pytest.mark.parametrize("sort", ["name", "size", "updated_at"])
def test_filters_that_rarely_match_together_scan_one_covering_index(plan_of, monkeypatch, sort):
    monkeypatch.setattr(sqlite_planner, "FEW", 0)
    monkeypatch.setattr(sqlite_planner, "SELDOM", sqlite_planner.SAMPLE + 1)
    monkeypatch.setattr(sqlite_planner, "SORTED", 1)
    filters = "name=a&status=active&disk_format=raw&container_format=bare&owner=owner&protected=true"
    ranges = "min_disk=1&min_ram=1&size_min=1&size_max=9&changes-since=2100-01-01"

    plan = plan_of(f"{filters}&{ranges}&sort_key={sort}")

    scans = [line for line in plan if "image_by_created_at" in line]
    assert scans
    assert all(line.startswith("SEARCH image USING COVERING INDEX") for line in scans)
    assert not any("image_by" in line for line in plan if line not in scans)
