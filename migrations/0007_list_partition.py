"""The list partition of an image, the column ``shelf`` before, gets its name."""


def up(migrator, db):
    db.execute_sql("ALTER TABLE image RENAME COLUMN shelf TO list_partition")
