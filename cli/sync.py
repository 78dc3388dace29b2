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
from cli.checksums import Hasher
from cli.client import with_client
from cli.image_format import IMAGE
from cli.inspection import inspect_file, open_regular_file
from cli.mirror_files import FetchError, MirrorUnreachable
from cli.param_types import cleaned
from cli.progress import byte_progress
from cli.runtime import FAILED, UNREACHABLE, Failure
from cli.simplestreams import choose_names, is_wanted, select_newest
from formatting import file_url, local_file

ADDED, UPDATED, UNCHANGED, REFUSED, BROKEN, GONE = "added", "updated", "unchanged", "refused", "failed", "gone"
ALWAYS = (ADDED, UPDATED, UNCHANGED)
FAILURES = (REFUSED, BROKEN)
# Properties that hold an item's key.
KEYS = ("stream", "stream_product", "version", "stream_item")
MISMATCH, ABSENT = "differs from the index in size or sha256", "is missing in the mirror's folder"


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
        sync_run.register(path, partial(is_wanted, archs=archs, releases=releases), all_versions)
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
        self.names = {}
        self.is_local = not click.get_current_context().params.get("url")

    def register(self, path, is_wanted, has_all_versions):
        """Register the items of a document whose texts ``is_wanted`` accepts.

        Raises: ClickException.
        """
        try:
            items, refused = mirror_files.read_items(self.mirror, path)
        except MirrorUnreachable as error:
            raise Failure(f"{error}.", UNREACHABLE) from None
        except FetchError as error:
            raise click.ClickException(f"{error}.") from None
        for place, reason, texts in refused:
            if texts is None or is_wanted(texts):
                self.report(REFUSED, place, reason)
        folders = [self.folder] if self.folder and self.folder.exists() else []
        wanted = [item for item in items if is_wanted(item.texts)]
        with nullcontext() if self.is_dry else single_run(self.is_local, folders):
            self.register_wanted(items, wanted if has_all_versions else select_newest(wanted))

    def register_wanted(self, items, wanted):
        """Register the wanted items, and report records of items no longer listed."""
        records = self.load_records({item.stream for item in items})
        self.names = choose_names(items)
        self.register_all([item for item in wanted if item.disk_format in self.disk_formats], records)
        published = {item.key for item in items}
        for key, image in records.items():
            if key not in published:
                self.report(GONE, image["location"] or "", "no longer in the mirror's index", image)

    def register_all(self, items, records):
        """Register items one by one, reporting each; ``records`` is {key: record}."""
        if not items:
            return
        fetches = (self.folder or self.mirror.is_local) and not self.is_dry
        total = sum(item.size for item in items) if fetches else 0
        with (
            deferred_sync(self.is_local and not self.is_dry),
            byte_progress("sync", total) as progress,
            ItemFiles(self) as files,
        ):
            for item in items:
                result = self.register_item(item, records.get(item.key), files, progress)
                with progress.paused():
                    self.report(*result)

    def register_item(self, item, image, files, progress):
        """Register an item, and return the arguments for ``report``."""
        shown = image or {"name": self.names[item.key], "disk_format": item.disk_format}
        try:
            word, record = self.write_record(item, image, files, progress)
        except (FetchError, OSError) as error:
            return BROKEN, item.path, getattr(error, "strerror", None) or str(error), shown
        return word, files.location(item), "", record or shown

    def load_records(self, streams):
        """Return {key: record} of the images that were synced from these streams before."""
        found = {}
        for stream in streams:
            for image in self.client.every_image(properties={"stream": stream}):
                found[tuple(image["properties"].get(name) for name in KEYS)] = image
        return found

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
        facts = {"size": item.size, **({"checksum": item.md5} if item.md5 else {}), **facts}
        if image is None:
            start = {"name": self.names[item.key], "status": "active", "container_format": "bare"}
            start |= {"is_public": self.is_public, "disk_format": item.disk_format, "properties": item.properties}
            return ADDED, self.send(self.client.create, start | facts)
        # Users may have edited name and other properties.
        hashes = {name: item.properties[name] for name in ("os_hash_algo", "os_hash_value")}
        changes = find_changes(image, facts | {"properties": hashes})
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
        """Print how many items had which result."""
        shown = [word for word in (*ALWAYS, GONE, *FAILURES) if word in ALWAYS or self.counts.get(word)]
        output.echo(", ".join(f"{self.counts.get(word, 0)} {word}" for word in shown), err=True)


class ItemFiles:
    """Files of items: fetched, found in a folder, or left on the mirror."""

    def __init__(self, sync_run):
        self.mirror = sync_run.mirror
        self.folder = sync_run.folder
        self.disk_formats = sync_run.disk_formats
        self.hasher = Hasher(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hasher.stop()

    def path(self, item):
        """Return the path of an item's file on this machine, present or future.

        None if it stays on the mirror.
        """
        base = self.folder or (self.mirror.base if self.mirror.is_local else None)
        return base and base / item.path

    def location(self, item):
        """Return the location for an item's record."""
        path = self.path(item)
        return self.mirror.url(item.path) if path is None else file_url(str(path))

    def get_facts(self, item, advance):
        """Return the record's fields about an item's file, which is fetched if needed.

        Raises: FetchError, OSError.
        """
        facts, path = {"location": self.location(item)}, self.path(item)
        if path is None:
            return facts
        if self.folder and self.mirror.is_local:
            raise FetchError("is in a folder already, where --download does not apply; omit it")
        digests = self.find_digests(path, item, advance) if path.exists() else None
        if digests is None:
            if self.mirror.is_local:
                raise FetchError(MISMATCH if path.exists() else ABSENT)
            digests = mirror_files.download(self.mirror, item, path, advance)
        return facts | {"checksum": digests["md5"]} | self.detect_format(path)

    def find_digests(self, path, item, advance):
        """Return the digests of a file if it matches the item, else None."""
        with open_regular_file(path) as (file, status):
            if status.st_size != item.size:
                return None
            digests, _ = self.hasher.hash_file(file, status.st_size, ("md5", "sha256"), advance)
        return digests if digests["sha256"] == item.sha256 else None

    def detect_format(self, path):
        """Return disk format and virtual size by a file's content.

        Raises: FetchError if it is no safe image.
        """
        seen = inspect_file(str(path), self.disk_formats)
        if seen.verdict != IMAGE:
            raise FetchError(f"{seen.reason}: {path}")
        return {"disk_format": seen.detected.disk_format, "virtual_size": seen.detected.virtual_size}


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
