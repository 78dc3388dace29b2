"""A database of an older version of the registry."""

from peewee import SqliteDatabase

import migrations


def replace_by_older(path):
    """Replace a database by an empty one of the version before the newest."""
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        file.unlink(missing_ok=True)
    with SqliteDatabase(path) as database:
        migrations.run(database, migrations.versions()[-2])
