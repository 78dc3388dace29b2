"""``export``: write all images to a file of records, from one snapshot."""

import sys

import click
from flask import current_app

from cli import record_files
from cli.progress import progress_bar
from cli.record_lines import line_of
from cli.runtime import prepare, with_application
from storage import engine
from storage.documents import DELETED, KILLED, NORMAL, PRIVATE

SHOWN_EVERY = 2000
# The index yields each list partition in order, and SQLite merges them without a sort.
PARTITIONS = [state + offset for state in (NORMAL, KILLED, DELETED) for offset in (0, PRIVATE)]
SELECT_PARTITION = """SELECT document, location_document, visibility,
    (SELECT json_group_array(json_array(member, can_share))
     FROM (SELECT member, can_share FROM member WHERE image_id = pk ORDER BY member)) AS members, created_at, id
    FROM image WHERE list_partition = {}"""
SELECT = " UNION ALL ".join(SELECT_PARTITION.format(partition) for partition in PARTITIONS)


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
    path = settings.path
    with record_files.writing(file, path, force) as target, engine.reading():
        rows = engine.execute(f"{SELECT} ORDER BY created_at, id", ())
        exported = 0
        with progress_bar("export", count_images() if sys.stderr.isatty() else None) as show:
            for document, location_document, visibility, members, _, _ in rows:
                target.write(line_of(document, location_document, visibility, members))
                exported += 1
                if exported % SHOWN_EVERY == 0:
                    show(exported, exported)
            show(exported, exported)
    click.echo(f"exported {exported}", err=True)


def count_images():
    return engine.execute("SELECT count(*) FROM image", ()).fetchone()[0]
