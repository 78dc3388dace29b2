"""``check``: report faults of the database file, and rebuild its documents and checksums."""

import sys

import click
from flask import current_app

import history
import migrations
import models
from cli import record_files
from cli.progress import progress_bar
from cli.runtime import with_application
from formatting import format_count
from members import Member
from models import Image, Record
from storage import engine, file_checks, search_index
from storage.documents import documents_of

MOST_SHOWN = 100
SHOWN_EVERY = 1000
REBUILT_AT_ONCE = 100


@click.command("check")
@click.option("--rebuild", is_flag=True, help="Rebuild documents that differ from their rows.")
@click.option("--trust-rows", is_flag=True, help="With --rebuild: also if a checksum says that the rows were changed.")
@with_application
def check_database(rebuild, trust_rows):
    """Report faults of the database: structure, rules, documents and checksums.

    The exit code is 0 if there are none. Other processes may write meanwhile: the check reads one snapshot.

    \b
    Example:
      $ flask --app registry check
    """
    path = current_app.settings.database.path
    with record_files.errors_in_one_line(path):
        found = look(path)
    kinds = {"documents", "rows"} if trust_rows else {"documents"}
    pks = sorted({pk for kind, pk in found.repairable if kind in kinds}) if rebuild else []
    if pks or (rebuild and ("index", None) in found.repairable):
        with record_files.errors_in_one_line(path):
            rebuild_images(pks, trust_rows)
            # Changing words that differ from the index takes the wrong ones out of it, which leaves it broken.
            with engine.writing():
                search_index.rebuild_index()
            found = look(path)
    if found.count:
        if not rebuild and found.repairable:
            click.echo("--rebuild repairs documents; see docs/operations.md before --trust-rows", err=True)
        raise click.ClickException(
            f"{path}: {format_count(found.count, 'fault')} in {format_count(found.images, 'image')}."
        )
    click.echo(f"checked {found.images} images: no faults", err=True)


class Found:
    """Counts of an examination, and what can be repaired."""

    def __init__(self):
        self.count = self.images = 0
        self.repairable = set()

    def show(self, path, fault):
        """Count a fault, and print it if it is among the first."""
        self.count += 1
        if self.count <= MOST_SHOWN:
            text = "".join(letter if letter.isprintable() else " " for letter in fault.text)
            click.echo(f"{path}: {text}")
        elif self.count == MOST_SHOWN + 1:
            click.echo(f"{path}: … and more")
        if fault.repair:
            self.repairable.add((fault.repair, fault.pk))


def look(path, called=None):
    """Examine a file, print its faults, and show progress on a terminal.

    Raises: OSError.
    """
    found = Found()
    with progress_bar("check", file_checks.count_images(path) if sys.stderr.isatty() else None) as bar:

        def show(done):
            found.images = done
            if done % SHOWN_EVERY == 0:
                bar(done, done)

        for fault in file_checks.file_faults(path, migrations.Schemas(), show):
            found.show(called or path, fault)
        bar(found.images, found.images)
    return found


def rebuild_images(pks, trust_rows):
    """Rebuild images, a hundred in a transaction: other writers wait for no more."""
    if pks:
        click.echo(f"rebuilding documents and digests of {len(pks)} images", err=True)
    with progress_bar("rebuild", len(pks)) as show:
        for start in range(0, len(pks), REBUILT_AT_ONCE):
            with engine.writing():
                for pk in pks[start : start + REBUILT_AT_ONCE]:
                    rebuild_image(pk, trust_rows)
            show(start, start)


def rebuild_image(pk, trust_rows):
    """Write an image again as its rows say, with another ETag if its documents change.

    The image may have changed since it was checked: one whose checksum fits its rows needs no trust.
    """
    row = Image.read("pk = :pk", {"pk": pk})
    if row is None:
        return
    record = Record.of(row)
    derived = documents_of(*record)
    if row["digest"] != derived["digest"] and not trust_rows:
        return
    if any(row[name] != derived[name] for name in derived):
        record = record._replace(row=row | {"nonce": models.new_nonce()})
    # Without the stored properties as the state before, all are written, each with the image's created_at.
    models.write(Record(row, {}, record.locations), record)
    if trust_rows:
        Member.store(pk, Member.shares_of(pk))
        history.renew_checksums(pk)
