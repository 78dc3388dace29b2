"""``restore``: replace the database by a backup."""

import os
import shutil
from pathlib import Path

import click
from flask import current_app

import migrations
from cli import database_copy, record_files
from cli.runtime import with_application
from storage import file_checks


@click.command("restore")
@click.argument("source", metavar="FROM")
@click.option("--force", is_flag=True, help="Replace the database if there is one.")
@with_application
def restore_database(source, force):
    """Check and migrate the backup FROM, and replace the database by it.

    Stop the server before. The database does not change until the last step.

    \b
    Example:
      $ flask --app registry restore backup.db --force
    """
    settings = current_app.settings.database
    target = Path(os.path.realpath(settings.path))
    with record_files.errors_in_one_line(source):
        if not Path(source).is_file():
            raise click.ClickException(f"{source}: is not a file.")
        database_copy.require_other(source, target)
        if any(path.exists() for path in (target, *database_copy.companions(target))) and not force:
            raise click.ClickException(f"{target}: exists; --force replaces it.")
        if fault := file_checks.file_fault(source):
            raise click.ClickException(f"{source}: {fault}.")
        with database_copy.unused(target) as held, database_copy.copied(source, target) as part:
            migrate(part, source, settings.busy_timeout)
            images = database_copy.require_whole(part, source)
            keep_owner(part, target)
            held.replace_with(part)
    click.echo(f"restored {images} images", err=True)


def migrate(part, source, busy_timeout):
    """Migrate a copy of an older version.

    Raises: ClickException if it is not a registry's backup.
    """
    try:
        migrations.migrate(part, busy_timeout)
    except (migrations.Refusal, *migrations.DATABASE_ERRORS) as refusal:
        raise click.ClickException(f"{source}: {refusal}.") from None


def keep_owner(part, target):
    """Give a copy the owner and mode of the file that it replaces."""
    if target.exists():
        status = target.stat()
        shutil.copymode(target, part)
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(part, status.st_uid, status.st_gid)
