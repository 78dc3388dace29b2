"""Each image's rendered record beside it, and an index for every order of a list."""

import json

SHELVES = "CASE WHEN deleted THEN 4 WHEN status = 'killed' THEN 2 ELSE 0 END + (visibility <> 'public')"
BRIEF = ("id", "name", "size", "disk_format", "container_format", "checksum")
SCALARS = (
    "id",
    "name",
    "status",
    "disk_format",
    "container_format",
    "size",
    "virtual_size",
    "checksum",
    "min_disk",
    "min_ram",
    "owner",
    "is_public",
    "protected",
    "created_at",
    "updated_at",
    "deleted",
    "deleted_at",
)
INDEXES = {
    "image_by_created_at": "image (shelf, created_at, id)",
    "image_by_id": "image (shelf, id)",
    **{
        f"image_by_{key}": f"image (shelf, {key}, created_at, id)"
        for key in ("name", "status", "disk_format", "container_format", "size", "updated_at")
    },
    "image_of_owner": "image (owner, shelf, created_at, id) WHERE owner IS NOT NULL",
    "image_of_owner_by_name": "image (owner, shelf, name, created_at, id) WHERE owner IS NOT NULL",
    "image_with_checksum": "image (checksum) WHERE checksum IS NOT NULL",
    "image_with_min_ram": "image (min_ram) WHERE min_ram > 0",
    "image_with_min_disk": "image (min_disk) WHERE min_disk > 0",
    # Of long values the beginning: it need not find them all alone.
    "property_by_value": "property (name, substr(value, 1, 64), created_at)",
}


def up(migrator, db):
    for (name,) in db.execute_sql(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name IN ('image', 'property')"
        " AND sql IS NOT NULL AND name <> 'image_id'"
    ).fetchall():
        db.execute_sql(f'DROP INDEX "{name}"')
    for column in ("shelf INTEGER", "brief TEXT", "document TEXT", "location_document TEXT"):
        empty = "0" if column.endswith("INTEGER") else "''"
        db.execute_sql(f"ALTER TABLE image ADD COLUMN {column} NOT NULL DEFAULT {empty}")
    db.execute_sql("ALTER TABLE property ADD COLUMN created_at VARCHAR(26) NOT NULL DEFAULT ''")
    db.execute_sql("UPDATE property SET created_at = (SELECT created_at FROM image WHERE pk = image_id)")
    db.execute_sql(f"UPDATE image SET shelf = {SHELVES}")
    for (pk,) in db.execute_sql("SELECT pk FROM image").fetchall():
        render(db, pk)
    for name, columns in INDEXES.items():
        db.execute_sql(f"CREATE INDEX {name} ON {columns}")


def render(db, pk):
    """Return the documents of a row; a frozen copy of the code of that version."""
    cursor = db.execute_sql("SELECT *, visibility = 'public' AS is_public FROM image WHERE pk = ?", (pk,))
    row = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
    row |= {name: bool(row[name]) for name in ("is_public", "protected", "deleted")}
    properties = db.execute_sql("SELECT name, value FROM property WHERE image_id = ? ORDER BY name", (pk,)).fetchall()
    locations = db.execute_sql(
        "SELECT url, metadata, status FROM location WHERE image_id = ? ORDER BY position", (pk,)
    ).fetchall()
    first = next((url for url, _, status in locations if status == "active"), None)
    entries = [{"url": url, "metadata": json.loads(metadata), "status": status} for url, metadata, status in locations]
    document = compact({**{name: row[name] for name in SCALARS}, "properties": dict(properties)})
    rendered = (
        compact({name: row[name] for name in BRIEF}),
        document[:-1],
        "," + compact({"location": first, "location_data": entries})[1:],
    )
    db.execute_sql("UPDATE image SET brief = ?, document = ?, location_document = ? WHERE pk = ?", (*rendered, pk))


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
