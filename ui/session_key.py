"""Signing key of cookies and forms: a file beside the database, created on first use."""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from errors import DatabaseUnavailable
from storage import engine

KEY = re.compile("[0-9a-f]{64}")


def key_path(database):
    """Return the path of the key file; ``database`` is the section [database]."""
    return Path(engine.path_beside(database, ".key"))


def read_key(database):
    """Return the signing key, created if missing.

    The file is read each time, so that removing it ends all sessions in every worker.

    Raises: DatabaseUnavailable if the file can neither be read nor created.
    """
    path = key_path(database)
    try:
        with suppress(FileNotFoundError):
            return require_key(path.read_text())
        make_key(path)
        return require_key(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise DatabaseUnavailable("The signing key beside the database can neither be read nor created.") from error


def make_key(path):
    """Create the key file atomically with mode 0600; the first writer wins."""
    attempt = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    file = os.open(attempt, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, secrets.token_hex(32).encode())
        os.fsync(file)
        with suppress(FileExistsError):
            os.link(attempt, path)
    finally:
        os.close(file)
        os.unlink(attempt)


def require_key(text):
    """Return the key ``text``, or raise DatabaseUnavailable if it is malformed."""
    if not KEY.fullmatch(text):
        raise DatabaseUnavailable("The signing key beside the database is damaged: remove the file and sign in again.")
    return text
