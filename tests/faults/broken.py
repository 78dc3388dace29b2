"""The application with one defence taken out, named by WITHOUT: the tests of faults must find it."""

import os
from contextlib import contextmanager
from datetime import timedelta

import database
import models
import registry


def without_syncs():
    database.database.pragma("synchronous", "off", permanent=True)


def with_rare_syncs():
    database.database.pragma("synchronous", "normal", permanent=True)


def without_transactions():
    """Every statement is its own."""

    @contextmanager
    def writing():
        with database.translated_errors():
            yield

    models.writing = writing


def without_every_20th_commit():
    count = 0

    @contextmanager
    def writing():
        nonlocal count
        count += 1
        with database.translated_errors(), database.database.atomic("IMMEDIATE") as transaction:
            yield
            if count % 20 == 0:
                transaction.rollback()

    models.writing = writing


def without_if_match():
    models.require_match = lambda row, tags: None


def without_order_of_times():
    """updated_at follows the clock wherever that goes."""
    models.MICROSECOND = timedelta(days=-50_000)


def without_nonces_and_revisions():
    """The ETag is the second in which the record changed."""
    models.new_nonce = lambda: models.current_time()[:19]
    models.etag = lambda revision, nonce, is_whole: f"{nonce} {is_whole}"


def without_translated_errors():
    @contextmanager
    def translated_errors():
        yield

    database.translated_errors = translated_errors


def create_app():
    application = registry.create_app()
    globals()[os.environ["WITHOUT"]]()
    return application
