"""Backend of lists: planner and dialect of the database engine in use."""

from listing.sqlite_planner import choose_driving_indexes, dialect

# The only engine so far. A second one is chosen here, as in storage/engine.py.
__all__ = ("choose_driving_indexes", "dialect")
