"""How long SQLite takes of a thread's time, and how long its writers wait for each other."""

import sqlite3
import threading
import time

SQLITE_VERSION = sqlite3.sqlite_version
# SQLite sleeps a millisecond before it tries a lock for the second time: whatever takes less did not wait.
SHORTEST_WAIT = 0.001


class Spent(threading.local):
    """What this thread's statements took since somebody set it back; ``waits`` are those for the write lock.

    A statement's time is up to its first row, which is all of it where it returns one, or none.
    """

    seconds = 0.0
    waits = ()


spent = Spent()


class TimedCursor(sqlite3.Cursor):
    def execute(self, statement, parameters=()):
        began = time.perf_counter()
        try:
            return sqlite3.Cursor.execute(self, statement, parameters)
        finally:
            seconds = time.perf_counter() - began
            spent.seconds += seconds
            if seconds >= SHORTEST_WAIT and statement == "BEGIN IMMEDIATE":
                spent.waits += (seconds,)


class TimedConnection(sqlite3.Connection):
    """Its own ``execute`` makes a cursor that is not one of ours."""

    def cursor(self, factory=TimedCursor):
        return super().cursor(factory)

    def execute(self, statement, parameters=()):
        began = time.perf_counter()
        try:
            return sqlite3.Connection.execute(self, statement, parameters)
        finally:
            spent.seconds += time.perf_counter() - began
