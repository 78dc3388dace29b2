"""The index of the default order holds what filters ask for, so that a scan reads it alone."""


def up(migrator, db):
    db.execute_sql("DROP INDEX image_by_created_at")
    db.execute_sql(
        "CREATE INDEX image_by_created_at ON image (shelf, created_at, id, name, status, disk_format,"
        " container_format, size, owner, protected, min_disk, min_ram, updated_at)"
    )
