"""Reconciliation of image files with the registry's records."""

import os
from functools import partial
from typing import NamedTuple

import click

from cli.checksums import MD5, SHA512
from cli.image_format import NONE, REFUSED
from cli.inspection import CHANGED, IMAGE, UNREADABLE
from cli.param_types import cleaned
from cli.runtime import FAILED as FAILURE
from cli.runtime import Failure, program
from formatting import file_url, path_of_url

ADDED, UPDATED, UNCHANGED, MISSING, FAILED = "added", "updated", "unchanged", "missing", "failed"
# Properties by which the next scan recognises a file; the third part of its signature is the record's size.
MODIFIED, INODE, HOST, GONE = "scan_mtime_ns", "scan_inode", "scan_host", "scan_missing"
LONGEST_NAME = 255
FILES_FORBIDDEN = (
    "The server accepts file: locations only from admins. Use the token of an admin ({} token create --role admin),"
    " or add file to the server's [api] location_schemes."
)


class Outcome(NamedTuple):
    """Result for one file: ``word`` is one of the above, or of image_format.

    ``image`` is the record; in a dry run the record to be created or changed.
    """

    word: str
    reason: str = ""
    image: dict | None = None


class FileRecords:
    """Records of image files, loaded from the registry and changed in it.

    ``host`` is this machine's name if the registry is a server's, else None.
    """

    def __init__(self, client, is_public, host, is_dry, marks_missing):
        self.client = client
        self.is_public = is_public
        self.host = host
        self.is_dry = is_dry
        self.marks_missing = marks_missing
        self.by_path = {}  # path → record, of files in scope
        self.others = {}  # path → image id, of other files
        self.inodes = {}  # scan_inode → paths
        self.moved = {}  # signature → path, of files that are gone
        self.contents = {}  # os_hash_value → paths
        self.is_in_scope = lambda path: True

    def load(self, is_in_scope):
        """Read all records from the registry.

        Those of paths that ``is_in_scope`` accepts can be changed.
        """
        self.by_path, self.others, self.inodes, self.contents, self.is_in_scope = {}, {}, {}, {}, is_in_scope
        for image in self.client.every_image():
            if image["properties"].get(HOST) not in (None, self.host) and self.host is not None:
                continue
            for entry in image["location_data"]:
                path = path_of_url(entry["url"])
                if path is not None:
                    self.add_content(image, path)
                    self.inodes.setdefault(image["properties"].get(INODE), []).append(path)
                    if is_in_scope(path):
                        self.by_path.setdefault(path, image)
                    else:
                        self.others.setdefault(path, image["id"])

    def use_registered_path(self, entry):
        """Return the entry under the path in its file's record, if any."""
        if entry.path in self.by_path:
            return entry
        for path in (os.path.realpath(entry.path), *self.inodes.get(str(entry.status.st_ino), ())):
            if (path in self.by_path or path in self.others) and is_same_file(path, entry):
                if path not in self.by_path and (image := self.client.show_or_none(self.others[path])):
                    self.by_path[path] = image
                return entry._replace(path=path)
        return entry

    def choose_algorithm(self, path):
        """Return the record's algorithm of os_hash_value, or sha512."""
        image = self.by_path.get(path)
        named = image and image["properties"].get("os_hash_algo")
        return named if named in ("sha256", "sha384", SHA512) else SHA512

    def add_content(self, image, path):
        """Remember the content of a path, by the record's os_hash_value."""
        if digest := image["properties"].get("os_hash_value"):
            self.contents.setdefault(digest, set()).add(path)

    def forget_content(self, image, path):
        """Forget the content of a path that was moved or changed."""
        self.contents.get(image["properties"].get("os_hash_value"), set()).discard(path)

    def find_duplicates(self):
        """Return lists of paths with identical content, at least one in scope."""
        return sorted(
            sorted(paths) for paths in self.contents.values() if len(paths) > 1 and any(map(self.is_in_scope, paths))
        )

    def expect_moves(self, gone):
        """Remember signatures of the paths ``gone``, to recognise moved files."""
        self.moved = {record_signature(self.by_path[path]): path for path in gone if path in self.by_path}

    def reconcile_unread(self, entry):
        """Return the Outcome of a file whose signature is known; None if it must be read."""
        image = self.by_path.get(entry.path)
        signature = entry_signature(entry)
        if image is not None and record_signature(image) == signature:
            if GONE in image["properties"]:
                return self.change(entry.path, image, {"status": "active"}, without=GONE)
            return Outcome(UNCHANGED, image=image)
        if image is None and signature in self.moved:
            return self.move(entry, self.moved.pop(signature))
        return None

    def move(self, entry, old):
        """Change the location of a record whose file was at the path ``old``."""
        image = self.by_path.pop(old)
        self.forget_content(image, old)
        values = {"location": file_url(entry.path)}
        values |= {"status": "active"} if GONE in image["properties"] else {}
        return self.change(entry.path, image, values, f"moved from {cleaned(old)}", without=GONE)

    def reconcile(self, entry, found):
        """Create or update the record of a file that was read; return the Outcome."""
        image = self.by_path.get(entry.path)
        if found.verdict in (UNREADABLE, CHANGED):
            return Outcome(FAILED, found.reason, image)
        if found.verdict == NONE and image is not None:
            return Outcome(REFUSED, f"is registered as {image['disk_format']}, but now {found.reason}", image)
        if found.verdict != IMAGE:
            return Outcome(found.verdict, found.reason, image)
        facts, properties = get_facts(found), self.get_properties(found)
        if image is None:
            return self.create(entry, facts, properties)
        differs = any(image[name] != value for name, value in facts.items() if not self.is_dry or name == "size")
        values = facts | ({"status": "active"} if GONE in image["properties"] else {}) | {"properties": properties}
        if differs:
            self.forget_content(image, entry.path)
        outcome = self.change(entry.path, image, values, without=GONE)
        return outcome if differs or outcome.word == FAILED or self.is_dry else Outcome(UNCHANGED, image=image)

    def create(self, entry, facts, properties):
        """Create the record of a file, with name and properties from its file name."""
        # Imported here: compiling its patterns takes 50 ms, which the start of a server should not pay for.
        from cli.image_names import parse_image_name

        parsed = parse_image_name(os.fsencode(os.path.basename(entry.path)).decode(errors="replace"))
        values = {
            "name": parsed.name[:LONGEST_NAME],
            "status": "active",
            "container_format": "bare",
            "is_public": self.is_public,
            "location": file_url(entry.path),
            **facts,
            "properties": parsed.properties | properties,
        }
        return self.send(ADDED, "", entry.path, self.client.create, values, values)

    def change(self, path, image, values, reason="", *, without):
        """Update a record, and remove the property ``without`` if it is there."""
        if without in image["properties"]:
            kept = {name: value for name, value in image["properties"].items() if name != without}
            values = values | {"properties": kept | values.get("properties", {})}
        change = partial(self.client.update, image["id"], purge=without in image["properties"])
        return self.send(UPDATED, reason, path, change, values, image)

    def report_missing(self, path):
        """Return the Outcome of a file that is gone, unless it was found elsewhere.

        Deactivate its image if asked to.
        """
        image = self.by_path.get(path)
        if image is None:
            return Outcome(UNCHANGED)
        if self.marks_missing and not self.is_dry and GONE not in image["properties"]:
            values = {"status": "deactivated", "properties": {GONE: "true"}}
            change = partial(self.client.update, image["id"])
            return self.send(MISSING, "image deactivated", None, change, values, image)
        return Outcome(MISSING, f"no longer exists, but image {image['id']} is located there", image)

    def send(self, word, reason, path, call, values, before):
        """Return the Outcome of a request to the registry, not made in a dry run.

        ``before`` is the record without it.

        Raises: ClickException for failures that all further files would meet too.
        """
        if self.is_dry:
            return Outcome(word, reason, before)
        try:
            image = call(values)
        except Failure as failure:
            if "location: Must be a URL of one of the schemes" in failure.message:
                raise click.ClickException(FILES_FORBIDDEN.format(program())) from None
            if failure.exit_code != FAILURE:
                raise
            return Outcome(FAILED, failure.message, before)
        if path is not None:
            self.add_content(image, path)
        return Outcome(word, reason, image)

    def get_properties(self, found):
        """Return the properties that a scan keeps of a file."""
        status = found.status
        kept = {MODIFIED: str(status.st_mtime_ns), INODE: str(status.st_ino)} | ({HOST: self.host} if self.host else {})
        if self.is_dry:
            return kept
        algorithm = next(name for name in found.digests if name != MD5)
        return {"os_hash_algo": algorithm, "os_hash_value": found.digests[algorithm]} | kept


def is_same_file(path, entry):
    """Return whether a path leads to the file of ``entry``."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == entry.identity


def get_facts(found):
    """Return the record's fields that depend on a file's content."""
    return {
        "disk_format": found.detected.disk_format,
        "size": found.status.st_size,
        "virtual_size": found.detected.virtual_size,
        "checksum": found.digests.get(MD5),
    }


def entry_signature(entry):
    """Return the signature of a file, in the types of a record."""
    return entry.status.st_size, str(entry.status.st_mtime_ns), str(entry.status.st_ino)


def record_signature(image):
    """Return the signature of the file that a record was made of."""
    return image["size"], image["properties"].get(MODIFIED), image["properties"].get(INODE)
