"""What a scan knows of the registry's records, and makes of a file that was read."""

import fcntl
import os
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
from flask import current_app

from cli import database_copy, output
from cli.checksums import MD5, SHA512
from cli.image_format import NONE, REFUSED
from cli.inspection import CHANGED, IMAGE, UNREADABLE
from cli.param_types import cleaned
from cli.runtime import FAILED as FAILURE
from cli.runtime import Failure, program
from formatting import file_url, path_of_url
from storage import engine, wal

ADDED, UPDATED, UNCHANGED, MISSING, FAILED = "added", "updated", "unchanged", "missing", "failed"
# Properties that a scan keeps, to know a file again; the size is the record's own.
MODIFIED, INODE, HOST, GONE = "scan_mtime_ns", "scan_inode", "scan_host", "scan_missing"
LONGEST_NAME = 255
NO_FILES = (
    "This server takes no file: locations from callers who are no admins. Give the token of an admin"
    " ({} token create --role admin), or let the server's [api] location_schemes have file."
)


class Outcome(NamedTuple):
    """``word`` is one of the constants here, or detecting's NONE, SKIPPED, REFUSED."""

    word: str
    reason: str = ""
    image: dict | None = None  # its record, or what would be


class Register:
    """The records of files. ``host`` is this machine's name where the registry is another's, else None."""

    def __init__(self, client, is_public, host, is_dry, marks_missing):
        self.client = client
        self.is_public = is_public
        self.host = host
        self.is_dry = is_dry
        self.marks_missing = marks_missing
        self.records = {}
        self.others = {}
        self.inodes = {}
        self.moved = {}
        self.contents = {}
        self.is_ours = lambda path: True

    def learn(self, is_ours):
        """Read the registry's records of the paths that ``is_ours`` says."""
        self.records, self.others, self.inodes, self.contents, self.is_ours = {}, {}, {}, {}, is_ours
        for image in self.client.images():
            if image["properties"].get(HOST) not in (None, self.host) and self.host is not None:
                continue
            for entry in image["location_data"]:
                path = path_of_url(entry["url"])
                if path is not None:
                    self.note_content(image, path)
                    self.inodes.setdefault(image["properties"].get(INODE), []).append(path)
                    if is_ours(path):
                        self.records.setdefault(path, image)
                    else:
                        self.others.setdefault(path, image["id"])

    def paths(self):
        return list(self.records)

    def as_registered(self, entry):
        """The entry under the path that its file is registered under, whatever links, hard ones too, led here."""
        if entry.path in self.records:
            return entry
        for path in (os.path.realpath(entry.path), *self.inodes.get(str(entry.status.st_ino), ())):
            if (path in self.records or path in self.others) and is_same(path, entry):
                if path not in self.records and (image := self.client.show_or_none(self.others[path])):
                    self.records[path] = image
                return entry._replace(path=path)
        return entry

    def algorithm_of(self, path):
        """Of a file's os_hash_value: its record's, where that has one, so that a sync and a scan agree."""
        image = self.records.get(path)
        named = image and image["properties"].get("os_hash_algo")
        return named if named in ("sha256", "sha384", SHA512) else SHA512

    def note_content(self, image, path):
        if digest := image["properties"].get("os_hash_value"):
            self.contents.setdefault(digest, set()).add(path)

    def doubles(self):
        """[paths] of files with the same content, one of which at least is ours."""
        return sorted(
            sorted(paths) for paths in self.contents.values() if len(paths) > 1 and any(map(self.is_ours, paths))
        )

    def expect_moves(self, gone):
        """What is now at another path is known by size, time and inode."""
        self.moved = {kept_signature(self.records[path]): path for path in gone if path in self.records}

    def known(self, entry):
        """The Outcome of a file that need not be read, else None."""
        image = self.records.get(entry.path)
        signature = shown_signature(entry)
        if image is not None and kept_signature(image) == signature:
            if GONE in image["properties"]:
                return self.change(entry.path, image, {"status": "active"}, without=GONE)
            return Outcome(UNCHANGED, image=image)
        if image is None and signature in self.moved:
            return self.move(entry, self.moved.pop(signature))
        return None

    def move(self, entry, old):
        image = self.records.pop(old)
        self.contents.get(image["properties"].get("os_hash_value"), set()).discard(old)
        values = {"location": file_url(entry.path)}
        values |= {"status": "active"} if GONE in image["properties"] else {}
        return self.change(entry.path, image, values, f"was {cleaned(old)}", without=GONE)

    def add(self, entry, found):
        """The Outcome of a file that was read."""
        image = self.records.get(entry.path)
        if found.verdict in (UNREADABLE, CHANGED):
            return Outcome(FAILED, found.reason, image)
        if found.verdict == NONE and image is not None:
            return Outcome(REFUSED, f"is registered as {image['disk_format']}, and {found.reason} now", image)
        if found.verdict != IMAGE:
            return Outcome(found.verdict, found.reason, image)
        facts, properties = facts_of(found), self.properties_of(found)
        if image is None:
            return self.create(entry, facts, properties)
        differs = any(image[name] != value for name, value in facts.items() if not self.is_dry or name == "size")
        values = facts | ({"status": "active"} if GONE in image["properties"] else {}) | {"properties": properties}
        if differs and image["properties"].get("os_hash_value"):
            self.contents.get(image["properties"]["os_hash_value"], set()).discard(entry.path)
        outcome = self.change(entry.path, image, values, without=GONE)
        return outcome if differs or outcome.word == FAILED or self.is_dry else Outcome(UNCHANGED, image=image)

    def create(self, entry, facts, properties):
        # Imported here: its patterns take a twentieth of a second, which a server need not wait for.
        from cli.image_names import guess

        guessed = guess(os.fsencode(os.path.basename(entry.path)).decode(errors="replace"))
        values = {
            "name": guessed.name[:LONGEST_NAME],
            "status": "active",
            "container_format": "bare",
            "is_public": self.is_public,
            "location": file_url(entry.path),
            **facts,
            "properties": guessed.properties | properties,
        }
        return self.send(ADDED, "", entry.path, self.client.create, values, values)

    def change(self, path, image, values, reason="", *, without):
        """``without`` is a property that goes, where there is one."""
        if without in image["properties"]:
            kept = {name: value for name, value in image["properties"].items() if name != without}
            values = values | {"properties": kept | values.get("properties", {})}
        change = partial(self.client.update, image["id"], purge=without in image["properties"])
        return self.send(UPDATED, reason, path, change, values, image)

    def miss(self, path):
        """The Outcome of a record whose file is gone, unless it was found elsewhere."""
        image = self.records.get(path)
        if image is None:
            return Outcome(UNCHANGED)
        if self.marks_missing and not self.is_dry and GONE not in image["properties"]:
            values = {"status": "deactivated", "properties": {GONE: "true"}}
            change = partial(self.client.update, image["id"])
            return self.send(MISSING, "now deactivated", None, change, values, image)
        return Outcome(MISSING, f"its record is {image['id']}", image)

    def send(self, word, reason, path, call, values, before):
        """Do it, unless dry. ``before`` is the record as it is, or would be. Raises Failure where no other file would
        fare better."""
        if self.is_dry:
            return Outcome(word, reason, before)
        try:
            image = call(values)
        except Failure as failure:
            if "location: Must be a URL of one of the schemes" in failure.message:
                raise click.ClickException(NO_FILES.format(program())) from None
            if failure.exit_code != FAILURE:
                raise
            return Outcome(FAILED, failure.message, before)
        if path is not None:
            self.note_content(image, path)
        return Outcome(word, reason, image)

    def properties_of(self, found):
        status = found.status
        kept = {MODIFIED: str(status.st_mtime_ns), INODE: str(status.st_ino)} | ({HOST: self.host} if self.host else {})
        if self.is_dry:
            return kept
        algorithm = next(name for name in found.digests if name != MD5)
        return {"os_hash_algo": algorithm, "os_hash_value": found.digests[algorithm]} | kept


def told(label, where, image, reason):
    """One line: words for people; into a pipe what was done, id, path or URL, format, name and reason, with tabs."""
    image = image or {}
    texts = [image.get(name) or "" for name in ("disk_format", "name")]
    if not output.is_terminal():
        output.echo("\t".join(map(cleaned, (label, image.get("id") or "", where, *texts, reason))))
        return
    text = reason or ", ".join(filter(None, texts))
    output.echo(f"{label:<9}  {cleaned(where)}{f': {cleaned(text)}' if text else ''}")


def is_same(path, entry):
    try:
        status = os.stat(path)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == entry.identity


def facts_of(found):
    return {
        "disk_format": found.detected.disk_format,
        "size": found.status.st_size,
        "virtual_size": found.detected.virtual_size,
        "checksum": found.digests.get(MD5),
    }


def shown_signature(entry):
    return entry.status.st_size, str(entry.status.st_mtime_ns), str(entry.status.st_ino)


def kept_signature(image):
    return image["size"], image["properties"].get(MODIFIED), image["properties"].get(INODE)


@contextmanager
def alone(is_local, paths):
    """Wait until no other scan or sync is at work: two that read the records at once would both add what is missing.

    For the local database the lock is that of its folder, for a server that of each of the folders or files ``paths``.
    """
    folder = os.path.dirname(os.path.abspath(current_app.settings.database.path))
    with ExitStack() as opened:
        for path in [folder] if is_local else sorted(paths):
            with suppress(OSError):  # where files have no locks nobody is kept out
                handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                opened.callback(os.close, handle)
                take_turn(handle)
        yield


def take_turn(handle):
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        click.echo("waiting for another scan or sync to end; Ctrl-C ends this one", err=True)
        fcntl.flock(handle, fcntl.LOCK_EX)


@contextmanager
def synced_together(is_local):
    """In the local database, all that is registered meanwhile is synced at the end, not each by itself.

    Where power is lost before, records are missing, and the next scan makes them; none is half there.
    """
    if not is_local:
        yield
        return
    path = current_app.settings.database.path
    log, mark = Path(wal.log_of(path)), Path(wal.unsynced_mark_of(path))
    mark.touch(0o600)
    database_copy.sync_folder(mark)
    engine.execute("PRAGMA synchronous = normal", ())
    try:
        yield
    finally:
        engine.execute("PRAGMA synchronous = full", ())
        if log.exists():
            database_copy.sync(log)
        mark.unlink(missing_ok=True)


def is_public_by_default():
    """Whether what a command adds is public: unless callers are identified, by a token or by [auth] flavor."""
    parameters = click.get_current_context().params
    if parameters.get("url"):
        return not parameters.get("token")
    return current_app.settings.auth.flavor == "none"
