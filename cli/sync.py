"""``sync``: the images of a mirror, registered."""

import errno
import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import click
from flask import current_app

from cli import inspection, mirror_files, output
from cli.byte_progress import metered
from cli.checksums import Hasher
from cli.client import with_client
from cli.image_format import IMAGE
from cli.mirror_files import FetchError, NoAnswer
from cli.param_types import cleaned
from cli.reconciliation import alone, is_public_by_default, synced_together, told
from cli.runtime import FAILED, UNREACHABLE, Failure
from cli.simplestreams import is_wanted, names_of, newest
from formatting import file_url, local_file

ADDED, UPDATED, UNCHANGED, REFUSED, BROKEN, GONE = "added", "updated", "unchanged", "refused", "failed", "gone"
ALWAYS = (ADDED, UPDATED, UNCHANGED)
WRONG = (REFUSED, BROKEN)
KEYS = ("stream", "stream_product", "version", "stream_item")


@click.group("sync")
def sync():
    """Images that others publish, registered.

    \b
    Example:
      $ flask --app registry sync simplestreams mirror/
    """


@sync.command("simplestreams")
@click.argument("source", metavar="URL|FILE|FOLDER", type=click.Path())
@click.option("--arch", "archs", multiple=True, help="Only this architecture; may be given several times.")
@click.option("--release", "releases", multiple=True, help="Only this release (noble, 24.04), likewise.")
@click.option("--all-versions", is_flag=True, help="Every version of each product, not only the newest.")
@click.option(
    "--download", "folder", type=click.Path(file_okay=False), metavar="FOLDER", help="Fetch the files, and check them."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--public/--private", "is_public", default=None, help="Who sees what is added.")
@with_client
def sync_simplestreams(client, source, archs, releases, all_versions, folder, dry_run, is_public):
    """Register the disk images of a simplestreams mirror, such as https://cloud-images.ubuntu.com/releases or
    https://images.linuxcontainers.org: their location is the mirror's URL, until --download has fetched them.

    What is fetched has the size and the sha256 that the index says, or is not kept. Signatures (.sjson) are NOT
    verified: that the index itself is genuine rests on https. A folder is a mirror too; its files are checked.
    A second sync changes only what the mirror has changed. The exit code is 1 where an item was refused or not to be
    had.

    \b
    Example:
      $ flask --app registry sync simplestreams mirror/ --arch amd64
    """
    is_public = is_public_by_default() if is_public is None else is_public
    target = require_folder(folder, dry_run) if folder else None
    with mirror_files.opened(source) as (mirror, path):
        sync_run = Sync(client, mirror, target, is_public, dry_run)
        sync_run.take_in(path, partial(is_wanted, archs=archs, releases=releases), all_versions)
    sync_run.sum_up()
    if any(sync_run.counts.get(word) for word in WRONG):
        click.get_current_context().exit(FAILED)


def require_folder(folder, is_dry):
    """The path of a folder that files can be fetched to. Raises UsageError."""
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
    """The items of one mirror on their way into the registry. ``folder`` is where files are fetched to, or None."""

    def __init__(self, client, mirror, folder, is_public, is_dry):
        self.client = client
        self.mirror = mirror
        self.folder = folder
        self.is_public = is_public
        self.is_dry = is_dry
        self.disk_formats = current_app.settings.api.disk_formats
        self.counts = {}
        self.names = {}

    def take_in(self, path, is_wanted, has_all_versions):
        """What ``is_wanted``, by its texts, of the items of the document at ``path``. Raises ClickException."""
        try:
            items, refused = mirror_files.items_of(self.mirror, path)
        except NoAnswer as error:
            raise Failure(f"{error}.", UNREACHABLE) from None
        except FetchError as error:
            raise click.ClickException(f"{error}.") from None
        for where, reason, texts in refused:
            if texts is None or is_wanted(texts):
                self.tell(REFUSED, where, reason)
        is_local = not click.get_current_context().params.get("url")
        folders = [self.folder] if self.folder and self.folder.exists() else []
        wanted = [item for item in items if is_wanted(item.texts)]
        with nullcontext() if self.is_dry else alone(is_local, folders):
            self.take_in_items(items, wanted if has_all_versions else newest(wanted))

    def take_in_items(self, items, wanted):
        records = self.records({item.stream for item in items})
        self.names = names_of(items)
        self.register_all([item for item in wanted if item.disk_format in self.disk_formats], records)
        published = {item.key for item in items}
        for key, image in records.items():
            if key not in published:
                self.tell(GONE, image["location"] or "", "the mirror has it no longer", image)

    def register_all(self, items, records):
        if not items:
            return
        fetches = (self.folder or self.mirror.is_local) and not self.is_dry
        total = sum(item.size for item in items) if fetches else 0
        is_local = not click.get_current_context().params.get("url")
        with synced_together(is_local and not self.is_dry), metered("sync", total) as meter, Files(self) as files:
            for item in items:
                image = records.get(item.key)
                shown = image or {"name": self.names[item.key], "disk_format": item.disk_format}
                try:
                    word, found = self.register(item, image, files, meter)
                    self.tell(word, files.location(item), "", found or shown)
                except (FetchError, OSError) as error:
                    self.tell(BROKEN, item.path, getattr(error, "strerror", None) or str(error), shown)

    def records(self, streams):
        """{key: record} of what was synced from these before."""
        found = {}
        for stream in streams:
            for image in self.client.images(properties={"stream": stream}):
                found[tuple(image["properties"].get(name) for name in KEYS)] = image
        return found

    def register(self, item, image, files, meter):
        """(word, the record if it was sent). Raises FetchError, OSError."""
        if image is not None and self.is_kept(item, image, files):
            facts = {}
        elif self.is_dry:
            facts = {"location": files.location(item)}
        else:
            with meter.file(item.path, item.size) as advance:
                facts = files.facts(item, advance)
        facts = {"size": item.size, **({"checksum": item.md5} if item.md5 else {}), **facts}
        if image is None:
            start = {"name": self.names[item.key], "status": "active", "container_format": "bare"}
            start |= {"is_public": self.is_public, "disk_format": item.disk_format, "properties": item.properties}
            return ADDED, self.send(self.client.create, start | facts)
        # Name and words about it are left as somebody may have changed them.
        hashes = {name: item.properties[name] for name in ("os_hash_algo", "os_hash_value")}
        changes = changed(image, facts | {"properties": hashes})
        if not changes:
            return UNCHANGED, image
        return UPDATED, self.send(partial(self.client.update, image["id"]), changes)

    def is_kept(self, item, image, files):
        """Whether the record has a file already that is the item's, so that nothing need be fetched or said anew."""
        path = local_file(image)
        is_same = image["properties"].get("os_hash_value") == item.sha256
        if path is None or not is_same:
            return False
        if self.folder is None and not self.mirror.is_local:
            return True
        return file_url(path) == files.location(item) and has_size(path, item.size)

    def send(self, call, values):
        """The record, unless dry. Raises FetchError for what the registry refuses."""
        if self.is_dry:
            return None
        try:
            return call(values)
        except Failure as failure:
            if failure.exit_code != FAILED:
                raise
            raise FetchError(failure.message) from None

    def tell(self, word, where, reason, image=None):
        self.counts[word] = self.counts.get(word, 0) + 1
        if word != UNCHANGED:
            told(f"would be {word}" if self.is_dry and word in ALWAYS else word, where, image, reason)

    def sum_up(self):
        shown = [word for word in (*ALWAYS, GONE, *WRONG) if word in ALWAYS or self.counts.get(word)]
        output.echo(", ".join(f"{self.counts.get(word, 0)} {word}" for word in shown), err=True)


class Files:
    """The files of items: fetched, found in a folder, or left where they are."""

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
        """Where the file is or will be on this machine, or None."""
        base = self.folder or (self.mirror.base if self.mirror.is_local else None)
        return base and base / item.path

    def location(self, item):
        path = self.path(item)
        return self.mirror.url(item.path) if path is None else file_url(str(path))

    def facts(self, item, advance):
        """What the record says of the item's file. Raises FetchError, OSError."""
        facts, path = {"location": self.location(item)}, self.path(item)
        if path is None:
            return facts
        if self.folder and self.mirror.is_local:
            raise FetchError("--download is for a mirror on the network")
        digests = self.found(path, item, advance) if path.exists() else None
        if digests is None:
            if self.mirror.is_local:
                raise FetchError("is not what the index says" if path.exists() else "its file is not in the folder")
            digests = mirror_files.download(self.mirror, item, path, advance)
        return facts | {"checksum": digests["md5"]} | self.format_facts(path)

    def found(self, path, item, advance):
        """The digests of a file that is there and right, else None."""
        with inspection.opened(path) as (file, status):
            if status.st_size != item.size:
                return None
            digests, _ = self.hasher.digests(file, status.st_size, ("md5", "sha256"), advance)
        return digests if digests["sha256"] == item.sha256 else None

    def format_facts(self, path):
        """What the file itself says it is. Raises FetchError for what no registry should name."""
        seen = inspection.read(str(path), self.disk_formats)
        if seen.verdict != IMAGE:
            raise FetchError(f"{seen.reason}: {path}")
        return {"disk_format": seen.detected.disk_format, "virtual_size": seen.detected.virtual_size}


def changed(image, values):
    """Of ``values`` what the record does not say yet."""
    found = {name: value for name, value in values.items() if name != "properties" and image[name] != value}
    properties = {name: text for name, text in values["properties"].items() if image["properties"].get(name) != text}
    return found | ({"properties": properties} if properties else {})


def has_size(path, size):
    try:
        return os.stat(path).st_size == size
    except OSError:
        return False
