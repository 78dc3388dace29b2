"""Properties have an index that covers filters and the order of lists, ties of created_at included."""


def up(migrator, db):
    db.execute_sql("ALTER TABLE property ADD COLUMN beginning VARCHAR(64)")
    db.execute_sql("ALTER TABLE property ADD COLUMN image_uuid VARCHAR(36) NOT NULL DEFAULT ''")
    db.execute_sql(
        "UPDATE property SET beginning = substr(value, 1, 64), image_uuid = (SELECT id FROM image WHERE pk = image_id)"
    )
    db.execute_sql("DROP INDEX property_by_value")
    db.execute_sql("CREATE INDEX property_by_value ON property (name, beginning, created_at, image_uuid)")
