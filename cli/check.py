"""``check``: what is wrong with the database file, in words; documents and digests made anew."""

import sys

import click
from flask import current_app

import migrations
import models
from cli import record_files
from cli.progress import progress_bar
from cli.runtime import with_application
from formatting import format_count
from models import Location, Property
from storage import engine, file_checks, search_index
from storage.documents import CHANGE_COLUMNS, change_digest, documents_of, member_digest, words_of

MOST_SHOWN = 100
SHOWN_EVERY = 1000
REBUILT_AT_ONCE = 100
STORE_WORDS = "INSERT INTO words VALUES (?, ?) ON CONFLICT (image_id) DO UPDATE SET text = excluded.text"
FIND_CHANGES = f"SELECT {', '.join(CHANGE_COLUMNS)} FROM change WHERE image_id = ?"


@click.command("check")
@click.option("--rebuild", is_flag=True, help="Render documents anew where they are not what the rows say.")
@click.option("--trust-rows", is_flag=True, help="With --rebuild: also where a digest says that the rows changed.")
@with_application
def check_database(rebuild, trust_rows):
    """Say what is wrong with the database: its structure, its rules, its documents and digests.

    The exit code is 0 where all is well. Others may write meanwhile: one moment is looked at.

    \b
    Example:
      $ flask --app registry check
    """
    path = current_app.settings.database.path
    with record_files.told_in_one_line(path):
        found = look(path)
    kinds = {"documents", "rows"} if trust_rows else {"documents"}
    pks = sorted({pk for kind, pk in found.mendable if kind in kinds}) if rebuild else []
    if pks or (rebuild and ("index", None) in found.mendable):
        with record_files.told_in_one_line(path):
            rebuild_images(pks, trust_rows)
            # Words that were other than the index's have been taken out of it since, which leaves it broken.
            with engine.writing():
                search_index.rebuild_index()
            found = look(path)
    if found.count:
        if not rebuild and found.mendable:
            click.echo("--rebuild renders documents anew; see docs/operations.md before --trust-rows", err=True)
        raise click.ClickException(
            f"{path}: {format_count(found.count, 'fault')} in {format_count(found.images, 'image')}."
        )
    click.echo(f"checked {found.images} images: all is well", err=True)


class Found:
    def __init__(self):
        self.count = self.images = 0
        self.mendable = set()

    def show(self, path, fault):
        """The first of them in words."""
        self.count += 1
        if self.count <= MOST_SHOWN:
            text = "".join(letter if letter.isprintable() else " " for letter in fault.text)
            click.echo(f"{path}: {text}")
        elif self.count == MOST_SHOWN + 1:
            click.echo(f"{path}: … and more")
        if fault.mends:
            self.mendable.add((fault.mends, fault.pk))


def look(path, called=None):
    """All faults of a file, shown, with a bar on a terminal. Raises OSError."""
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
    """A hundred in a transaction, so that nobody waits long."""
    if pks:
        click.echo(f"rebuilding documents and digests of {len(pks)} images", err=True)
    with progress_bar("rebuild", len(pks)) as show:
        for start in range(0, len(pks), REBUILT_AT_ONCE):
            with engine.writing():
                for pk in pks[start : start + REBUILT_AT_ONCE]:
                    rebuild_image(pk, trust_rows)
            show(start, start)


def rebuild_image(pk, trust_rows):
    """It may have changed since it was looked at: only what still differs is made anew, under another ETag."""
    find = engine.execute(f"SELECT {', '.join(models.COLUMNS)} FROM image WHERE pk = ?", (pk,)).fetchone()
    if find is None:
        return
    row = dict(zip(models.COLUMNS, find, strict=True))
    row |= {name: bool(row[name]) for name in ("protected", "deleted")}
    engine.execute(
        "UPDATE property SET created_at = ? WHERE image_id = ? AND created_at <> ?",
        (row["created_at"], pk, row["created_at"]),
    )
    properties, locations = Property.texts(pk), Location.entries(pk)
    derived = documents_of(row, properties, locations)
    if row["digest"] != derived["digest"] and not trust_rows:
        return
    engine.execute(STORE_WORDS, (pk, words_of(row, properties)))
    if any(row[name] != derived[name] for name in derived):
        nonce = models.new_nonce()
        derived = documents_of(row | {"nonce": nonce}, properties, locations) | {"nonce": nonce}
        assignments = ", ".join(f"{name} = :{name}" for name in derived)
        engine.execute(f"UPDATE image SET {assignments} WHERE pk = :pk", derived | {"pk": pk})
    if trust_rows:
        trust_members(pk)
        trust_changes(pk)


def trust_members(pk):
    for member, can_share in engine.execute(
        "SELECT member, can_share FROM member WHERE image_id = ?", (pk,)
    ).fetchall():
        digest = member_digest(pk, member, can_share)
        engine.execute("UPDATE member SET digest = ? WHERE image_id = ? AND member = ?", (digest, pk, member))


def trust_changes(pk):
    """What cannot be read as a change is none."""
    engine.execute("DELETE FROM change WHERE image_id = ? AND NOT json_valid(changes)", (pk,))
    for values in engine.execute(FIND_CHANGES, (pk,)).fetchall():
        digest = change_digest(dict(zip(CHANGE_COLUMNS, values, strict=True)))
        engine.execute("UPDATE change SET digest = ? WHERE image_id = ? AND number = ?", (digest, *values[:2]))
