"""``export``: write all images to a file of records, from one snapshot."""

import functools
import sys

import click
from flask import current_app

from cli import record_files
from cli.progress import progress_bar
from cli.record_lines import line_of
from cli.runtime import prepare, with_application
from listing import export
from storage import engine

SHOWN_EVERY = 2000


@click.command("export")
@click.argument("file")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@with_application
def export_images(file, force):
    """Write all images to FILE as JSON, one record a line, oldest first.

    Deleted images are included.

    A file whose name ends in .gz or .zst is compressed; - is standard output. Other processes can write meanwhile:
    the export is one snapshot, without their changes.

    \b
    Example:
      $ flask --app registry export images.ndjson.zst
      $ flask --app registry export - | head -1
    """
    settings = current_app.settings.database
    prepare(settings)
    is_database = functools.partial(engine.owns, settings)
    with record_files.writing(file, is_database, force) as target, engine.reading():
        rows = export.read_records()
        exported = 0
        with progress_bar("export", export.count_records() if sys.stderr.isatty() else None) as show:
            for document, location_document, visibility, members, _, _ in rows:
                target.write(line_of(document, location_document, visibility, members))
                exported += 1
                if exported % SHOWN_EVERY == 0:
                    show(exported, exported)
            show(exported, exported)
    click.echo(f"exported {exported}", err=True)
