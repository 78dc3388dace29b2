"""``backup``: copy a snapshot of the database while others write."""

import os

import click
from flask import current_app

from cli import database_copy, record_files
from cli.runtime import with_application
from storage import filesystem


@click.command("backup")
@click.argument("to")
@click.option("--force", is_flag=True, help="Replace TO if it exists.")
@with_application
def back_up_database(to, force):
    """Copy the database to the file TO, and check the copy.

    Servers can read and write meanwhile.

    \b
    Example:
      $ flask --app registry backup copy.db
    """
    path = current_app.settings.database.path
    if not os.path.isfile(path):
        raise click.ClickException(f"{path}: is not a file.")
    with record_files.errors_in_one_line(to):
        target = database_copy.require_free(to, path, force)
        with database_copy.copied(path, target) as part:
            images = database_copy.require_whole(part, "the copy")
            part.replace(target)
            filesystem.sync_folder(target)
    click.echo(f"backed up {images} images", err=True)
