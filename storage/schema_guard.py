"""Connections that refuse their statements while the file's schema is another version's."""

import sqlite3

from storage.timing import TimedConnection

# The newest migration: the schema that this code reads and writes.
SCHEMA = "0006_search_and_history"
FIRST_OF_A_STATEMENT = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)


class Fenced(TimedConnection):
    """A connection whose statements are refused while the file's schema is another version's.

    A server that has the file open may see it migrated by a newer one. SQLite then prepares each statement anew, and
    asks: so this costs nothing but when a statement is prepared.
    """

    def __init__(self, file, **options):
        super().__init__(file, **options)
        # Another connection asks, since at that moment this one is busy.
        self.beside = sqlite3.connect(file, timeout=0, isolation_level=None, uri=True)
        self.set_authorizer(self.authorize)

    def authorize(self, action, *_):
        if action not in FIRST_OF_A_STATEMENT:
            return sqlite3.SQLITE_OK
        try:
            ((newest,),) = self.beside.execute("SELECT max(name) FROM schema_migration").fetchall()
        except sqlite3.Error:
            return sqlite3.SQLITE_OK  # what cannot be read here, the statement will not read either
        return sqlite3.SQLITE_OK if newest == SCHEMA else sqlite3.SQLITE_DENY

    def close(self):
        self.beside.close()
        super().close()
