"""``import``: store the images of a file of records, in one transaction."""

from contextlib import contextmanager

import click
from flask import current_app

import models
from cli import record_files
from cli.progress import progress_bar
from cli.record_lines import RecordParser
from cli.runtime import prepare, with_application
from errors import Conflict, Invalid
from members import Member
from models import Image
from storage import engine, search_index, timestamps

SHOWN_EVERY = 2000
LONGEST_LINE = 64 * 1024 * 1024
LONGEST_REASON = 1000
HINT = " An array, as list --json prints it, cannot be imported: use export, which writes a record a line."


@click.command("import")
@click.argument("file")
@click.option("--skip-invalid", is_flag=True, help="Report invalid lines, and import the others.")
@click.option(
    "--on-conflict",
    type=click.Choice(["fail", "skip", "replace"]),
    default="fail",
    show_default=True,
    help="For an image whose id is in use.",
)
@with_application
def import_images(file, skip_invalid, on_conflict):
    """Read images from FILE, as export writes them: JSON, one record a line.

    A file whose name ends in .gz or .zst is decompressed; - is standard input. All images are imported, or none.

    \b
    Example:
      $ flask --app registry import images.ndjson.zst --on-conflict replace
    """
    settings = current_app.settings
    prepare(settings.database, may_create=True)
    parser, importer = RecordParser(settings.api), Importer(on_conflict)
    with (
        naming(file),
        record_files.reading(file) as (source, beneath),
        engine.bulk_load(),
        progress_bar("import", record_files.size_of(beneath)) as show,
    ):
        for number, line in numbered_lines(source):
            importer.store(number, parse(parser, number, line, skip_invalid))
            if number % SHOWN_EVERY == 0:
                show(record_files.position_of(beneath), importer.imported)
        search_index.index_words()
        show(record_files.position_of(beneath), importer.imported)
    click.echo(importer.summary, err=True)


@contextmanager
def naming(file):
    """Put the name of the file before the refusal of a line."""
    try:
        yield
    except Refused as refusal:
        raise click.ClickException(f"{'' if file == record_files.STREAM else f'{file}: '}{refusal.message}") from None


class Refused(click.ClickException):
    def __init__(self, number, reason):
        super().__init__(f"line {number}: {reason}")


def numbered_lines(source):
    """Yield (number, line) without blank lines.

    Raises: Refused for a line that is too long.
    """
    number = 0
    while line := source.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise Refused(number, f"Must be one record, of at most {LONGEST_LINE} bytes.")
        if not line.isspace():
            yield number, line


def parse(parser, number, line, skip_invalid):
    """Return the values of a record.

    A refused one gives None and a message, or raises Refused.
    """
    try:
        return parser.parse(line)
    except Invalid as error:
        # Names in the record can hold line ends.
        reason = "".join(letter if letter.isprintable() else " " for letter in error.detail[:LONGEST_REASON])
    if not skip_invalid:
        raise Refused(number, f"{reason}{HINT if line.startswith(b'[') else ''}")
    click.echo(f"line {number}: {reason}", err=True)
    return None


class Importer:
    """Writer and counter of the records of an import."""

    def __init__(self, on_conflict):
        self.on_conflict = on_conflict
        self.now = timestamps.current_time()
        self.imported = self.replaced = self.skipped = 0

    @property
    def summary(self):
        return f"imported {self.imported}, replaced {self.replaced}, skipped {self.skipped}"

    def store(self, number, values):
        """Store the record of a line; None is skipped.

        Raises: Refused for an id in use, by ``--on-conflict``.
        """
        if values is None:
            self.skipped += 1
            return
        try:
            self.write(values)
            self.imported += 1
        except Conflict:
            self.resolve(number, values)

    def write(self, values):
        self.now = timestamps.time_after(self.now)  # each image has a microsecond of its own, for the order of lists
        row = models.write(None, models.new_record(values, self.now))
        Member.store(row["pk"], values.get("members", {}))

    def resolve(self, number, values):
        if self.on_conflict == "fail":
            reason = f"{values['id']} is in use; choose another, or --on-conflict skip or replace"
            raise Refused(number, f"id: {reason}.")
        if self.on_conflict == "skip":
            self.skipped += 1
            return
        Image.delete().where(Image.id == values["id"]).execute()
        self.write(values)
        self.replaced += 1
