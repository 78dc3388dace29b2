"""Statement timing: how long SQLite takes in each thread, and how long writers wait for the write lock."""

import sqlite3
import threading
import time

# SQLite sleeps a millisecond before it tries a lock for the second time: what takes less did not wait.
SHORTEST_WAIT = 0.001


class Spent(threading.local):
    """Seconds that this thread's statements took since the last reset, and their ``waits`` for the write lock.

    A statement is timed up to its first row, which is all of it if it returns one row or none.
    """

    seconds = 0.0
    waits = ()


spent = Spent()


class TimedCursor(sqlite3.Cursor):
    """A cursor that times its statements, and how long they wait for the write lock."""

    def execute(self, statement, parameters=()):
        """Run a statement and add its time to this thread's."""
        began = time.perf_counter()
        try:
            return sqlite3.Cursor.execute(self, statement, parameters)
        finally:
            seconds = time.perf_counter() - began
            spent.seconds += seconds
            if seconds >= SHORTEST_WAIT and statement == "BEGIN IMMEDIATE":
                spent.waits += (seconds,)


class TimedConnection(sqlite3.Connection):
    """A connection that times its statements; its own ``execute`` would make an untimed cursor."""

    def cursor(self, factory=TimedCursor):
        """Return a timed cursor."""
        return super().cursor(factory)

    def execute(self, statement, parameters=()):
        """Run a statement and add its time to this thread's."""
        began = time.perf_counter()
        try:
            return sqlite3.Connection.execute(self, statement, parameters)
        finally:
            spent.seconds += time.perf_counter() - began
