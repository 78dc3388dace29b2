"""``purge``: remove deleted images for good."""

import sys
import time

import click
from flask import current_app

from cli.param_types import Duration
from cli.progress import progress_bar
from cli.runtime import prepare, with_application
from formatting import format_count
from models import Image
from storage import engine, timestamps
from storage.documents import DELETED

AT_ONCE = 200


@click.command("purge")
@click.option(
    "--older-than", required=True, type=Duration(), metavar="TIME", help="Deleted before this time: 30d, 12h, 2w."
)
@click.option("--dry-run", is_flag=True, help="Only print their number.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@with_application
def purge_images(older_than, dry_run, yes):
    """Remove images that were deleted long ago, with all that belongs to them.

    Their ids can be used again. Servers can read and write meanwhile.

    \b
    Example:
      $ flask --app registry purge --older-than 30d --dry-run
      $ flask --app registry purge --older-than 30d --yes
    """
    prepare(current_app.settings.database)
    before = timestamps.time_before(older_than)
    pks = find_deleted(before)
    count = len(pks)
    click.echo(f"{format_count(count, 'image')} {'was' if count == 1 else 'were'} deleted before {before}", err=True)
    if dry_run or not count:
        return
    require_consent(yes)
    click.echo(f"purged {purge(pks, before)}", err=True)


def require_consent(yes):
    """Ask for consent on a terminal. Raises ClickException elsewhere."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.ClickException("Without a terminal nobody can confirm: add --yes to remove them for good.")
    click.confirm("Remove them for good?", abort=True, err=True)


def find_deleted(before):
    """Return the primary keys of the images that were deleted before a time."""
    with engine.reading():
        found = Image.select(Image.pk).where((Image.list_partition >= DELETED) & (Image.deleted_at < before))
        return [pk for (pk,) in found.tuples()]


def purge(pks, before):
    """Remove images still deleted, in small transactions, and return their number."""
    purged = 0
    with progress_bar("purge", len(pks)) as show:
        for start in range(0, len(pks), AT_ONCE):
            started = time.monotonic()
            with engine.writing():
                is_due = Image.pk.in_(pks[start : start + AT_ONCE]) & (Image.deleted_at < before)
                purged += Image.delete().where(is_due).execute()
            show(start, purged)
            # SQLite's lock is no queue: other writers get their turn while nobody holds it.
            time.sleep(time.monotonic() - started)
        show(len(pks), purged)
    return purged
