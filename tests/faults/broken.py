"""The application with defences taken out, named by WITHOUT: the tests that hold them must find it."""

import os
from contextlib import contextmanager
from datetime import timedelta

import members
import models
import registry
import security
import web
from listing import pages
from storage import engine, search_index, timestamps


def without_syncs():
    engine.database.pragma("synchronous", "off", permanent=True)


def with_rare_syncs():
    engine.database.pragma("synchronous", "normal", permanent=True)


def with_words_indexed_often():
    """No defence less: so that a few hundred images show what thousands do."""
    search_index.INDEXED_TOGETHER = 4


def without_transactions():
    """Every statement is its own."""

    @contextmanager
    def writing():
        with engine.translated_errors():
            yield

    models.writing = members.writing = writing


def without_every_20th_commit():
    count = 0

    @contextmanager
    def writing():
        nonlocal count
        count += 1
        with engine.translated_errors(), engine.database.atomic("IMMEDIATE") as transaction:
            yield
            if count % 20 == 0:
                transaction.rollback()

    models.writing = members.writing = writing


def without_if_match():
    models.require_match = lambda row, etags: None


def without_order_of_times():
    """updated_at follows the clock wherever that goes."""
    timestamps.MICROSECOND = timedelta(days=-50_000)


def without_nonces_and_revisions():
    """The ETag is the second in which the record changed."""
    models.new_nonce = lambda: timestamps.current_time()[:19]
    models.etag = pages.etag = lambda revision, nonce, is_whole: f"{nonce} {is_whole}"


def without_translated_errors():
    @contextmanager
    def translated_errors():
        yield

    engine.translated_errors = translated_errors


def without_host():
    security.RequestGuard.require_host = lambda self, environ: None


def without_sec_fetch_site():
    class Anything:
        def __contains__(self, site):
            return True

    security.SAME_ORIGIN = Anything()


def without_origin():
    security.is_same_origin = lambda origin, environ: True


def without_content_types():
    web.require_json_type = lambda: None


def without_safe_headers():
    web.SAFE_HEADERS = web.JSONResponse.last_headers = ()


def without_hiding_before_reading():
    """An image is read, with all that belongs to it, before it is asked who may see it."""

    def reading_first(find):
        def read_and_find(image_id, context):
            image = models.Image.get_or_none(models.Image.id == image_id)
            for table in () if image is None else (models.Property, models.Location, members.Member):
                list(table.select().where(table.image == image.pk))
            return find(image_id, context)

        return read_and_find

    pages.show = reading_first(pages.show)
    models.Image.find = reading_first(models.Image.find)


def create_app():
    application = registry.create_app()
    for name in os.environ["WITHOUT"].split():
        globals()[name]()
    return application
