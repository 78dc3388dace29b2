"""Rows of images before and after a write, and SQL that repeats the write."""
# ruff: noqa: S608

import sqlite3
from contextlib import closing
from pathlib import Path


def read(database: Path, ids):
    """Return {image id: {(table, key): {column: value}}} of all tables of images."""
    found = {image_id: {} for image_id in ids}
    marks = ", ".join("?" * len(ids))
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        for table, reference in tables_of_images(connection):
            columns = connection.execute("SELECT name, pk FROM pragma_table_info(?)", [table]).fetchall()
            keys = [name for name, place in columns if place]
            selected = ", ".join(f't."{name}"' for name, _ in columns)
            join = f'FROM "{table}" t JOIN image i ON t."{reference}" = i.pk WHERE i.id IN ({marks})'
            for image_id, *values in connection.execute(f"SELECT i.id, {selected} {join}", list(ids)):
                row = dict(zip([name for name, _ in columns], values, strict=True))
                found[image_id][table, tuple((name, row[name]) for name in keys)] = row
    return found


def tables_of_images(connection):
    """Return [(table, column with the image)], image first."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    references = [("image", "pk")]
    for (table,) in tables:
        query = 'SELECT "from" FROM pragma_foreign_key_list(?) WHERE "table" = \'image\''
        references += [(table, column) for (column,) in connection.execute(query, [table])]
    return references


def statements(before, after):
    """Return [(sql, values)] that turn an image's rows ``before`` into ``after``."""
    made = [write(table, key, before.get((table, key), {}), row) for (table, key), row in after.items()]
    gone = [
        (f'DELETE FROM "{table}" WHERE {matches(key)}', [value for _, value in key])
        for table, key in before.keys() - after.keys()
    ]
    return [statement for statement in made if statement] + gone


def write(table, key, old, row):
    """Return (sql, values), or None without a change."""
    changed = {name: value for name, value in row.items() if name not in old or value != old[name]}
    values, names = list(changed.values()), [f'"{name}"' for name in changed]
    if not old:
        return f'INSERT INTO "{table}" ({", ".join(names)}) VALUES ({", ".join("?" * len(row))})', values
    if not changed:
        return None
    assignments = ", ".join(f"{name} = ?" for name in names)
    return f'UPDATE "{table}" SET {assignments} WHERE {matches(key)}', [*values, *(value for _, value in key)]


def matches(key):
    return " AND ".join(f'"{name}" = ?' for name, _ in key)


def copy(database: Path, path: Path) -> Path:
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode = wal")
    return path
