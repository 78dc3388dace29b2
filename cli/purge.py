"""``purge``: deleted images removed for good."""

import sys
import time

import click
from flask import current_app

import models
from cli.param_types import Duration
from cli.progress import progress_bar
from cli.runtime import prepare, with_application
from formatting import format_count
from storage import engine, timestamps

AT_ONCE = 200
# The end of what was looked at: so a batch is found without looking again at those that stay.
FIND = """SELECT pk, created_at, id FROM image
    WHERE shelf = ? AND (created_at, id) > (?, ?) AND +deleted_at < ? ORDER BY created_at, id LIMIT ?"""
SHELVES = (models.DELETED, models.DELETED + 1)


@click.command("purge")
@click.option("--older-than", required=True, type=Duration(), metavar="TIME", help="Such as 30d, 12h, 2w.")
@click.option("--dry-run", is_flag=True, help="Only say how many.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_application
def purge_images(older_than, dry_run, yes):
    """Remove for good the images that were deleted so long ago, with properties, locations and members.

    Their ids are free again. Servers read and write meanwhile.

    \b
    Example:
      $ flask --app registry purge --older-than 30d --dry-run
      $ flask --app registry purge --older-than 30d --yes
    """
    prepare(current_app.settings.database)
    before = timestamps.time_before(older_than)
    with engine.reading():
        count = engine.execute(
            "SELECT count(*) FROM image WHERE shelf IN (?, ?) AND deleted_at < ?", (*SHELVES, before)
        ).fetchone()[0]
    click.echo(f"{format_count(count, 'image')} {'was' if count == 1 else 'were'} deleted before {before}", err=True)
    if dry_run or not count:
        return
    require_consent(yes)
    click.echo(f"purged {purge(before, count)}", err=True)


def require_consent(yes):
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.ClickException("Nobody can be asked here: --yes removes them for good.")
    click.confirm("Remove them for good?", abort=True, err=True)


def purge(before, count):
    """How many were removed, some at a time."""
    purged = 0
    with progress_bar("purge", count) as show:
        for shelf in SHELVES:
            position = ("", "")
            while True:
                started = time.monotonic()
                with engine.writing():
                    found = engine.execute(FIND, (shelf, *position, before, AT_ONCE)).fetchall()
                    engine.database.connection().executemany(
                        "DELETE FROM image WHERE pk = ?", [(pk,) for pk, *_ in found]
                    )
                if not found:
                    break
                position = found[-1][1:]
                purged += len(found)
                show(min(purged, count), purged)
                # SQLite's lock is no queue: others get their turn while nobody holds it.
                time.sleep(time.monotonic() - started)
    return purged
