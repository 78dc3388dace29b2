"""Tokens of flavor token: what is known of each, and the hash of it."""


def up(migrator, db):
    columns = (
        "id INTEGER NOT NULL PRIMARY KEY",
        "hash VARCHAR(64) NOT NULL UNIQUE",
        "tenant VARCHAR(255)",
        "roles TEXT NOT NULL",
        "is_read_only INTEGER NOT NULL",
        "description TEXT NOT NULL",
        "created_at VARCHAR(26) NOT NULL",
        "expires_at VARCHAR(26)",
        "revoked_at VARCHAR(26)",
        "used_at VARCHAR(26)",
        "digest INTEGER NOT NULL",
    )
    db.execute_sql(f"CREATE TABLE token ({', '.join(columns)})")
