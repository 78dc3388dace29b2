"""A digest beside each image and each member, by which damage within a text is found."""

import json
from zlib import crc32


def up(migrator, db):
    for table in ("image", "member"):
        db.execute_sql(f"ALTER TABLE {table} ADD COLUMN digest INTEGER NOT NULL DEFAULT 0")
    db.connection().create_function("compact", 1, compact, deterministic=True)
    # The first version kept spaces, which the documents of the second have not.
    db.execute_sql("UPDATE location SET metadata = compact(metadata) WHERE metadata <> compact(metadata)")
    db.connection().create_function("digest_of", -1, digest_of, deterministic=True)
    db.execute_sql(
        "UPDATE image SET digest ="
        " digest_of(visibility || ' ' || revision || ' ' || nonce || ' ', brief, document, location_document)"
    )
    db.execute_sql("UPDATE member SET digest = digest_of(image_id || ' ' || can_share || ' ' || member)")


def compact(metadata):
    return json.dumps(json.loads(metadata), ensure_ascii=False, separators=(",", ":"))


def digest_of(*texts):
    """Return the digest of a row; a frozen copy of the code of that version."""
    digest = 0
    for text in texts:
        digest = crc32(text.encode(), digest)
    return digest
