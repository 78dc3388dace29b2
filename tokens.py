"""Tokens: 256 random bits that stand for a tenant and roles, of which the database keeps a hash."""

import hashlib
import hmac
import re
import secrets
from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple

import clock
import database
from documents import TOKEN_COLUMNS, token_digest
from errors import NotFound

TOKEN = re.compile("registry_[A-Za-z0-9_-]{43}")
# The last use is written at most so often, and is so exact.
USE_NOTED_EVERY = timedelta(hours=1)
COLUMNS = ("id", *TOKEN_COLUMNS, "used_at", "digest")
FIND = "SELECT id, hash, tenant, roles, is_read_only, expires_at, revoked_at, used_at FROM token WHERE hash = ?"
LIST = """SELECT id, hash, tenant, roles, is_read_only, description, created_at, expires_at, revoked_at, used_at,
    digest FROM token WHERE :id IS NULL OR id = :id ORDER BY id"""
INSERT = """INSERT INTO token
    (hash, tenant, roles, is_read_only, description, created_at, expires_at, revoked_at, digest)
    VALUES
    (:hash, :tenant, :roles, :is_read_only, :description, :created_at, :expires_at, :revoked_at, :digest)"""


class Bearer(NamedTuple):
    """Whom a token stands for; ``roles`` are comma-separated, ``tenant`` may be None."""

    tenant: str | None
    roles: str
    is_read_only: bool


def find_bearer(text):
    """Whom the token ``text`` stands for, or None where it is unknown, expired or revoked."""
    return find_bearer_of_hash(hash_of(text)) if TOKEN.fullmatch(text) else None


def find_bearer_of_hash(wanted):
    """Whom the token with this hash stands for, or None where it is unknown, expired or revoked."""
    with database.translated_errors():
        row = database.execute(FIND, (wanted,)).fetchone()
    if row is None or not hmac.compare_digest(row[1], wanted):
        return None
    number, _, tenant, roles, is_read_only, expires_at, revoked_at, used_at = row
    now = clock.current_time()
    if revoked_at is not None or (expires_at is not None and expires_at <= now):
        return None
    if used_at is None or not clock.time_before(USE_NOTED_EVERY) < used_at <= now:
        note_use(number, now)
    return Bearer(tenant, roles, bool(is_read_only))


def note_use(number, now):
    """Nobody waits for this, nor fails by it: where the database is locked or full, another request will write it."""
    connection = database.database.connection()
    with suppress(*database.DATABASE_ERRORS):
        (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            connection.execute("UPDATE token SET used_at = ? WHERE id = ?", (now, number))
        finally:
            connection.execute(f"PRAGMA busy_timeout = {patience:d}")


def create(tenant, roles, *, is_read_only=False, description="", lasts=None):
    """A new token, (its id, its text): the text is kept nowhere. ``lasts`` is a timedelta, or None for ever."""
    text = f"registry_{secrets.token_urlsafe(32)}"
    row = {
        "hash": hash_of(text),
        "tenant": tenant or None,
        "roles": ",".join(roles),
        "is_read_only": int(is_read_only),
        "description": description,
        "created_at": clock.current_time(),
        "expires_at": None if lasts is None else clock.time_before(-lasts),
        "revoked_at": None,
    }
    row["digest"] = token_digest(row)
    with database.writing():
        return database.execute(INSERT, row).lastrowid, text


def find_all(number=None):
    """[dict] of all, the first created first; or of the one with this id."""
    with database.reading():
        rows = database.execute(LIST, {"id": number}).fetchall()
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def revoke(number):
    """Raises NotFound where there is no such token; one that is revoked stays so, since when it was."""
    with database.writing():
        for row in find_all(number):
            if row["revoked_at"] is None or token_digest(row) != row["digest"]:
                row["revoked_at"] = clock.current_time()
                values = (row["revoked_at"], token_digest(row), number)
                database.execute("UPDATE token SET revoked_at = ?, digest = ? WHERE id = ?", values)
            return
    raise NotFound(f"There is no token {number}.")


def state_of(row):
    """active, revoked or expired."""
    if row["revoked_at"] is not None:
        return "revoked"
    is_over = row["expires_at"] is not None and row["expires_at"] <= clock.current_time()
    return "expired" if is_over else "active"


def hash_of(text):
    return hashlib.sha256(text.encode()).hexdigest()
