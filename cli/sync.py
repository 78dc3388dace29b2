"""``sync``: register the images of a mirror."""

import errno
import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import click
from flask import current_app

from cli import mirror_files, output
from cli.bulk_write import deferred_sync, is_public_by_default, print_result, single_run
from cli.client import with_client
from cli.item_files import ItemFiles
from cli.item_selection import Selection
from cli.mirror_files import FetchError, MirrorUnreachable
from cli.mirror_records import SOURCE, MirrorRecords
from cli.param_types import cleaned
from cli.progress import byte_progress
from cli.runtime import FAILED, UNREACHABLE, Failure
from cli.simplestreams import END_OF_LIFE, choose_names
from formatting import file_url, local_file

ADDED, UPDATED, UNCHANGED, REFUSED, BROKEN, GONE = "added", "updated", "unchanged", "refused", "failed", "gone"
ALWAYS = (ADDED, UPDATED, UNCHANGED)
FAILURES = (REFUSED, BROKEN)
# Properties that a later sync changes too; users may have edited the others.
FOLLOWED = ("os_hash_algo", "os_hash_value", "support_eol", SOURCE, END_OF_LIFE)


@click.group("sync")
def sync():
    """Register images that others publish.

    \b
    Example:
      $ flask --app registry sync simplestreams mirror/
    """


@sync.command("simplestreams")
@click.argument("source", metavar="URL|FILE|FOLDER", type=click.Path())
@click.option("--arch", "archs", multiple=True, help="Only this architecture. Repeatable.")
@click.option("--release", "releases", multiple=True, help="Only this release, such as noble or 24.04. Repeatable.")
@click.option("--all-versions", is_flag=True, help="Every version of each product, not only the newest.")
@click.option(
    "--download", "folder", type=click.Path(file_okay=False), metavar="FOLDER", help="Fetch and verify files."
)
@click.option("--dry-run", is_flag=True, help="Print what would be done, without doing it.")
@click.option("--public/--private", "is_public", default=None, help="Visibility of new images.")
@with_client
def sync_simplestreams(client, source, archs, releases, all_versions, folder, dry_run, is_public):
    """Register the disk images of a simplestreams mirror.

    Mirrors are https://cloud-images.ubuntu.com/releases and https://images.linuxcontainers.org, for example. The
    location of an image is the mirror's URL, or, with --download, the fetched file.

    A fetched file is kept only if its size and sha256 match the index. Signatures (.sjson) are NOT verified: only
    https protects the index from forgery. A folder can be a mirror too; its files are verified in place. A second sync
    changes only what the mirror has changed. The exit code is 1 if an item was refused or could not be fetched.

    \b
    Example:
      $ flask --app registry sync simplestreams mirror/ --arch amd64
    """
    is_public = is_public_by_default() if is_public is None else is_public
    target = require_folder(folder, dry_run) if folder else None
    with mirror_files.open_mirror(source) as (mirror, path):
        sync_run = Sync(client, mirror, target, is_public, dry_run)
        sync_run.register(path, Selection(archs, releases, all_versions, sync_run.disk_formats))
    sync_run.print_summary()
    if any(sync_run.counts.get(word) for word in FAILURES):
        click.get_current_context().exit(FAILED)


def require_folder(folder, is_dry):
    """Create a folder for files, and return its absolute path. Raises: BadParameter."""
    path = Path(os.path.realpath(folder))
    try:
        if not is_dry:
            path.mkdir(parents=True, exist_ok=True)
            if not os.access(path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise click.BadParameter(f"{cleaned(folder)}: {error.strerror}.", param_hint="'--download'") from None
    return path


class Sync:
    """Sync of one mirror's items with the registry.

    ``folder`` is for fetched files, or None.
    """

    def __init__(self, client, mirror, folder, is_public, is_dry):
        self.client = client
        self.mirror = mirror
        self.folder = folder
        self.is_public = is_public
        self.is_dry = is_dry
        self.disk_formats = current_app.settings.api.disk_formats
        self.counts = {}
        self.notes = []
        self.names = {}
        self.records = MirrorRecords(client, mirror, folder)
        self.is_local = not click.get_current_context().params.get("url")

    def register(self, path, selection):
        """Register the items of a document that are selected.

        Raises: ClickException.
        """
        try:
            published = mirror_files.read_published(self.mirror, path)
        except MirrorUnreachable as error:
            raise Failure(f"{error}.", UNREACHABLE) from None
        except FetchError as error:
            raise click.ClickException(f"{error}.") from None
        for place, reason, texts, _ in published.refused:
            if texts is None or selection.is_wanted(texts):
                self.report(REFUSED, place, reason)
        chosen, self.notes = selection.select(published.items, published.others)
        self.names = choose_names(published.items)
        folders = [self.folder] if self.folder and self.folder.exists() else []
        with nullcontext() if self.is_dry else single_run(self.is_local, folders):
            keys = {item.key for item in published.items} | {each.key for each in published.refused if each.key}
            self.records.load(published.items, {key[0] for key in keys})
            self.register_all(chosen)
            if all(each.key for each in published.refused):  # an unread document may list the others
                self.report_gone(keys)

    def report_gone(self, published):
        """Report records whose item is no longer listed."""
        for image in self.records.find_gone(published):
            self.report(GONE, image["location"] or "", "no longer in the mirror's index", image)

    def register_all(self, items):
        """Register items one by one, reporting each."""
        if not items:
            return
        fetches = (self.folder or self.mirror.is_local) and not self.is_dry
        total = sum(item.size for item in items) if fetches else 0
        with (
            deferred_sync(self.is_local and not self.is_dry),
            byte_progress("sync", total) as progress,
            ItemFiles(self.mirror, self.folder, self.disk_formats) as files,
        ):
            for item in items:
                result = self.register_item(item, self.records.find(item), files, progress)
                with progress.paused():
                    self.report(*result)

    def register_item(self, item, image, files, progress):
        """Register an item, and return the arguments for ``report``."""
        shown = image or {"name": self.names[item.key], "disk_format": item.disk_format}
        try:
            word, record = self.write_record(item, image, files, progress)
        except (FetchError, OSError) as error:
            return BROKEN, item.path, getattr(error, "strerror", None) or str(error), shown
        return word, files.location(item), describe_support(item) if word == ADDED else "", record or shown

    def write_record(self, item, image, files, progress):
        """Create or update an item's record.

        Return (word, record or None).
        Raises: FetchError, OSError.
        """
        if image is not None and self.is_up_to_date(item, image, files):
            facts = {}
        elif self.is_dry:
            facts = {"location": files.location(item)}
        else:
            with progress.file(item.path, item.size) as advance:
                facts = files.get_facts(item, advance)
        properties = item.properties | {SOURCE: self.records.source}
        facts = {"size": item.size, **({"checksum": item.md5} if item.md5 else {}), **facts}
        if image is None:
            start = {"name": self.names[item.key], "status": "active", "container_format": "bare"}
            start |= {"is_public": self.is_public, "disk_format": item.disk_format, "properties": properties}
            return ADDED, self.send(self.client.create, start | facts)
        followed = {name: properties[name] for name in FOLLOWED if name in properties}
        changes = find_changes(image, facts | {"properties": followed})
        if not changes:
            return UNCHANGED, image
        return UPDATED, self.send(partial(self.client.update, image["id"]), changes)

    def is_up_to_date(self, item, image, files):
        """Return whether the record's location is a file with the item's content already."""
        path = local_file(image)
        is_same = image["properties"].get("os_hash_value") == item.sha256
        if path is None or not is_same:
            return False
        if self.folder is None and not self.mirror.is_local:
            return True
        return file_url(path) == files.location(item) and has_size(path, item.size)

    def send(self, call, values):
        """Return the record that a request answers, None in a dry run.

        Raises: FetchError if the registry refuses.
        """
        if self.is_dry:
            return None
        try:
            return call(values)
        except Failure as failure:
            if failure.exit_code != FAILED:
                raise
            raise FetchError(failure.message) from None

    def report(self, word, place, reason, image=None):
        """Count a result, and print it unless nothing changed."""
        self.counts[word] = self.counts.get(word, 0) + 1
        if word != UNCHANGED:
            print_result(f"would be {word}" if self.is_dry and word in ALWAYS else word, place, image, reason)

    def print_summary(self):
        """Print what was left out, and how many items had which result."""
        for note in self.notes:
            output.echo(cleaned(note), err=True)
        shown = [word for word in (*ALWAYS, GONE, *FAILURES) if word in ALWAYS or self.counts.get(word)]
        output.echo(", ".join(f"{self.counts.get(word, 0)} {word}" for word in shown), err=True)


def describe_support(item):
    """Return a remark on an item whose publisher no longer supports it."""
    if not item.is_past_support:
        return ""
    return " ".join(filter(None, ("end of life", item.texts.get("support_eol"))))


def find_changes(image, values):
    """Return those of ``values`` that differ from the record."""
    found = {name: value for name, value in values.items() if name != "properties" and image[name] != value}
    properties = {name: text for name, text in values["properties"].items() if image["properties"].get(name) != text}
    return found | ({"properties": properties} if properties else {})


def has_size(path, size):
    """Return whether a file exists and has this size."""
    try:
        return os.stat(path).st_size == size
    except OSError:
        return False
