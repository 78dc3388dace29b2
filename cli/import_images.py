"""``import``: images from a file of records, in one transaction."""

import uuid
from contextlib import contextmanager
from operator import itemgetter

import click
import orjson
from flask import current_app

import models
from cli import record_files
from cli.progress import progress_bar
from cli.record_lines import RecordParser, row_of, sorted_by_name
from cli.runtime import prepare, with_application
from errors import Invalid
from storage import engine, search_index, timestamps
from storage.documents import member_digest, words_of

BATCH_IMAGES = 2000
BATCH_BYTES = 8 * 1024 * 1024
LONGEST_LINE = 64 * 1024 * 1024
LONGEST_REASON = 1000
HINT = " An array, as list --json prints it, is not taken: export writes a record a line."
# SQLite's page cache while importing: the index entries of random ids and names go all over the file.
CACHE_KIBIBYTES = 64 * 1024

values_of = itemgetter(*models.COLUMNS)
INSERT = f"INSERT INTO image ({', '.join(models.COLUMNS)}) VALUES ({', '.join('?' * len(models.COLUMNS))})"
INSERT_PROPERTY = "INSERT INTO property (image_id, name, value, created_at) VALUES (?, ?, ?, ?)"
INSERT_LOCATION = "INSERT INTO location (image_id, position, url, metadata, status) VALUES (?, ?, ?, ?, ?)"
INSERT_MEMBER = "INSERT INTO member (image_id, member, can_share, digest) VALUES (?, ?, ?, ?)"
FIND = "SELECT id, pk FROM image WHERE id IN (SELECT value FROM json_each(?))"


@click.command("import")
@click.argument("file")
@click.option("--skip-invalid", is_flag=True, help="Report lines that are refused, and go on.")
@click.option(
    "--on-conflict",
    type=click.Choice(["fail", "skip", "replace"]),
    default="fail",
    show_default=True,
    help="What to do with an image whose id is in use.",
)
@with_application
def import_images(file, skip_invalid, on_conflict):
    """Read images from FILE, as export writes them: JSON, one record a line.

    A name that ends in .gz or .zst is decompressed; - is standard input. All are imported, or none.

    \b
    Example:
      $ flask --app registry import images.ndjson.zst --on-conflict replace
    """
    settings = current_app.settings
    prepare(settings.database, may_create=True)
    parser = RecordParser(settings.api)
    with naming(file), record_files.reading(file) as (source, beneath), engine.writing():
        storing = Storing(engine.database.connection(), on_conflict)
        with progress_bar("import", record_files.size_of(beneath)) as show:
            for number, line in numbered_lines(source):
                values = parse(parser, number, line, skip_invalid)
                if values is None:
                    storing.skipped += 1
                elif storing.add(number, values, len(line)):
                    storing.flush()
                    show(record_files.position_of(beneath), storing.imported)
            storing.flush()
            search_index.index_words()
            show(record_files.position_of(beneath), storing.imported)
    # Beside a running server the log would stay as large as the import.
    storing.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    click.echo(f"imported {storing.imported}, replaced {storing.replaced}, skipped {storing.skipped}", err=True)


@contextmanager
def naming(file):
    """A refusal of a line says of which file."""
    try:
        yield
    except Refused as refusal:
        raise click.ClickException(f"{'' if file == record_files.STREAM else f'{file}: '}{refusal.message}") from None


class Refused(click.ClickException):
    def __init__(self, number, reason):
        super().__init__(f"line {number}: {reason}")


def numbered_lines(source):
    """(number, line) of all that are not blank. Raises ClickException for what is no file of lines."""
    number = 0
    while line := source.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise Refused(number, f"Must be one record, of at most {LONGEST_LINE} bytes.")
        if not line.isspace():
            yield number, line


def parse(parser, number, line, skip_invalid):
    """The record's values; for one that is refused None, told on standard error, or a ClickException."""
    try:
        return parser.parse(line)
    except Invalid as error:
        # One line, whatever names the record holds.
        reason = "".join(letter if letter.isprintable() else " " for letter in error.detail[:LONGEST_REASON])
    if not skip_invalid:
        raise Refused(number, f"{reason}{HINT if line.startswith(b'[') else ''}")
    click.echo(f"line {number}: {reason}", err=True)
    return None


class Storing:
    """Records on their way into the tables, some thousand at a time.

    This is the hot path of the import, below Peewee: ``executemany`` into each table, and no look whether an id is
    in use but the one that SQLite's unique index takes anyway.
    """

    def __init__(self, connection, on_conflict):
        self.connection = connection
        self.on_conflict = on_conflict
        self.now = timestamps.current_time()
        self.imported = self.replaced = self.skipped = 0
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
        (self.next_pk,) = connection.execute("SELECT coalesce(max(pk), 0) + 1 FROM image").fetchone()
        self.begin_batch()

    def begin_batch(self):
        self.lines, self.images, self.properties, self.locations, self.members, self.words = {}, {}, [], [], [], []
        self.bytes = 0

    def add(self, number, values, length):
        """Whether it is time for a flush."""
        pk = self.next_pk
        values = values if "id" in values else {**values, "id": str(uuid.uuid4())}
        row = row_of(values, pk, self.now, models.new_nonce())
        self.images[pk] = values_of(row)
        self.words.append((pk, words_of(row, sorted_by_name(values.get("properties", {})))))
        created_at = row["created_at"]
        self.properties += [(pk, name, value, created_at) for name, value in values.get("properties", {}).items()]
        self.locations += [(pk, position, *entry) for position, entry in enumerate(values.get("locations", ()))]
        for member, can_share in values.get("members", {}).items():
            self.members.append((pk, member, can_share, member_digest(pk, member, can_share)))
        self.lines[pk] = number
        self.bytes += length
        self.next_pk += 1
        return len(self.images) >= BATCH_IMAGES or self.bytes >= BATCH_BYTES

    def flush(self):
        execute = self.connection.executemany
        inserted = execute(f"{INSERT} ON CONFLICT (id) DO NOTHING", self.images.values()).rowcount
        if inserted < len(self.images):
            self.resolve_conflicts()
        execute(search_index.INSERT, self.words)
        execute(INSERT_PROPERTY, self.properties)
        execute(INSERT_LOCATION, self.locations)
        execute(INSERT_MEMBER, self.members)
        self.imported += max(inserted, 0)
        self.begin_batch()

    def resolve_conflicts(self):
        """Leave of the batch what is to be stored. Raises ClickException."""
        ids = [values[models.COLUMNS.index("id")] for values in self.images.values()]
        present = dict(self.connection.execute(FIND, [orjson.dumps(ids).decode()]))
        dropped = set()
        for (pk, values), image_id in zip(self.images.items(), ids, strict=True):
            if present[image_id] != pk:
                dropped.add(self.resolve(pk, values, image_id))
        for rows in (self.properties, self.locations, self.members, self.words):
            rows[:] = [row for row in rows if row[0] not in dropped]

    def resolve(self, pk, values, image_id):
        """The pk that gives way. Raises ClickException."""
        if self.on_conflict == "fail":
            reason = f"{image_id} is in use; choose another, or --on-conflict skip or replace"
            raise Refused(self.lines[pk], f"id: {reason}.")
        if self.on_conflict == "skip":
            self.skipped += 1
            return pk
        find = self.connection.execute("SELECT pk FROM image WHERE id = ?", [image_id])
        (previous,) = find.fetchone()
        self.connection.execute("DELETE FROM image WHERE pk = ?", [previous])
        self.connection.execute(INSERT, values)
        self.replaced += 1
        return previous
