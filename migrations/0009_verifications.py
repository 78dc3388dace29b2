"""Results of ``verify`` are kept with the image."""


def up(migrator, db):
    db.execute_sql(
        "CREATE TABLE verification (image_id INTEGER NOT NULL PRIMARY KEY REFERENCES image (pk) ON DELETE CASCADE,"
        " state VARCHAR(10) NOT NULL, reason TEXT NOT NULL, checked_at VARCHAR(26) NOT NULL)"
    )
    db.execute_sql("CREATE INDEX verification_by_state ON verification (state, checked_at, image_id)")
    # Other programs delete without foreign keys: the next image with this number must not inherit a result.
    db.execute_sql(
        "CREATE TRIGGER verified_image_removed AFTER DELETE ON image BEGIN"
        " DELETE FROM verification WHERE image_id = old.pk; END"
    )
