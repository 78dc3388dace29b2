"""Schema-version guard: connections that refuse statements while the file has another schema version."""

import sqlite3

from storage.timing import TimedConnection

# The newest migration: the schema version that this code reads and writes.
SCHEMA = "0010_file_names"
FIRST_OF_A_STATEMENT = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)


class GuardedConnection(TimedConnection):
    """A connection that refuses statements while the file has another schema version.

    A newer server may migrate the file while this one has it open. SQLite then prepares each statement again, and
    calls its authorizer. So the guard costs nothing except when a statement is prepared.
    """

    def __init__(self, file, **options):
        super().__init__(file, **options)
        # A connection cannot run a statement while it prepares one, so a second one reads the version.
        self.version_reader = sqlite3.connect(file, timeout=0, isolation_level=None, uri=True)
        self.set_authorizer(self.authorize)

    def authorize(self, action, *_):
        """Return the authorizer's result code for a statement that is prepared."""
        if action not in FIRST_OF_A_STATEMENT:
            return sqlite3.SQLITE_OK
        try:
            ((newest,),) = self.version_reader.execute("SELECT max(name) FROM schema_migration").fetchall()
        except sqlite3.Error:
            return sqlite3.SQLITE_OK  # the statement will fail for the same reason, and report it
        return sqlite3.SQLITE_OK if newest == SCHEMA else sqlite3.SQLITE_DENY

    def close(self):
        """Close both connections."""
        self.version_reader.close()
        super().close()
