"""Database engine interface: connections, transactions, bulk writes, error translation, health, sizes and files."""

from abc import ABC, abstractmethod
from contextlib import contextmanager


class Engine(ABC):
    """A database engine. ``database`` is its Peewee database, ``errors`` are the exceptions of its driver."""

    version = ""
    database = None
    errors = ()

    @abstractmethod
    def open(self, settings):
        """Choose the database of the section [database].

        Each thread connects at its first query, after any fork.
        """

    @abstractmethod
    def translate(self, error):
        """Return the domain error for an error of the driver, or the error itself."""

    @abstractmethod
    def writing(self):
        """Return a transaction that takes the write lock at its start."""

    @abstractmethod
    def without_waiting(self):
        """Return a context in which a locked database fails at once."""

    @abstractmethod
    def bulk_load(self):
        """Return a write transaction for many new records. It raises domain errors."""

    @abstractmethod
    def deferred_sync(self, settings):
        """Return a context in which commits are synced to disk once, at its end.

        A power loss before that may lose commits, whole ones only.
        """

    @abstractmethod
    def malformed_json(self, column):
        """Return the Peewee condition that a text column is not JSON."""

    @abstractmethod
    def health(self, settings):
        """Return {check: "ok" or the problem}, tried on a connection of its own.

        The checks are read, version and write.
        """

    @abstractmethod
    def sizes(self, settings):
        """Return the bytes of the database and of its write-ahead log."""

    @abstractmethod
    def exists(self, settings):
        """Return whether there is a database, empty or not."""

    @abstractmethod
    def is_writable(self, settings):
        """Return whether this process may write to an existing database."""

    @abstractmethod
    def shown_name(self, settings):
        """Return the name of the database in messages, without credentials."""

    @abstractmethod
    def folder(self, settings):
        """Return the folder of this machine that holds the database."""

    @abstractmethod
    def path_beside(self, settings, suffix):
        """Return the path of a file that belongs to the database but is not part of it."""

    @abstractmethod
    def owns(self, settings, path):
        """Return whether an existing file is the database itself."""

    def reading(self):
        """Return a transaction that reads one snapshot."""
        return self.database.atomic()

    def execute(self, statement, parameters):
        """Run a statement and return its cursor."""
        return self.database.connection().execute(statement, parameters)

    def executemany(self, statement, rows):
        """Run a statement for each of the rows."""
        self.database.connection().executemany(statement, rows)

    @abstractmethod
    def insert(self, statement, parameters):
        """Run an INSERT, and return the key of the new row, or None if there is none."""

    @contextmanager
    def translated_errors(self):
        """Raise domain errors instead of the driver's."""
        try:
            yield
        except self.errors as error:
            raise self.translate(error) from error
