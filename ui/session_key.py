"""The key that signs cookies and forms: a file beside the database, made by whoever needs it first."""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from errors import DatabaseUnavailable

KEY = re.compile("[0-9a-f]{64}")


def key_path(database):
    """``database`` is the section [database]."""
    return Path(f"{database.path}.key")


def read_key(database):
    """The key's text. It is read each time: a file that was taken away has signed everybody out, in every worker.

    Raises DatabaseUnavailable where it can neither be read nor made.
    """
    path = key_path(database)
    try:
        with suppress(FileNotFoundError):
            return checked(path.read_text())
        make_key(path)
        return checked(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise DatabaseUnavailable("The key beside the database can neither be read nor made.") from error


def make_key(path):
    """For its owner alone, whole from the first moment on; of several who make one, the first counts."""
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


def checked(text):
    if not KEY.fullmatch(text):
        raise DatabaseUnavailable("The key beside the database is damaged: remove the file, and sign in again.")
    return text
