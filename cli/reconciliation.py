"""Reconciliation of image files with the registry's records."""

import os
from functools import partial
from typing import NamedTuple

import click

from cli.checksums import SHA512
from cli.image_format import IMAGE, REFUSED
from cli.inspection import CHANGED, UNREADABLE
from cli.param_types import cleaned
from cli.runtime import FAILED as FAILURE
from cli.runtime import Failure, program
from cli.scan_properties import (
    ENCRYPTION,
    GONE,
    HOST,
    INODE,
    MARKS,
    MODIFIED,
    PROBLEM,
    describe_image,
    entry_signature,
    get_facts,
    get_hash,
    has_content,
    has_mark,
    is_same_kind,
    record_signature,
    restored_status,
)
from formatting import file_url, path_of_url

ADDED, UPDATED, UNCHANGED, MISSING, FAILED = "added", "updated", "unchanged", "missing", "failed"
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
        self.moves = {}  # new path → (old path, record), of files that were found elsewhere
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

    def expect_moves(self, entries, gone):
        """Find the records whose file is now at another path.

        It is recognised by size, mtime and inode. ``entries`` are the files found, ``gone`` the paths of missing ones.
        A rotation moves a file and puts another one in its place. A path keeps its record unless that one moves too.
        """
        found = {entry.path: entry_signature(entry) for entry in entries}
        displaced = {
            record_signature(image): (path, image)
            for path, image in self.by_path.items()
            if path in gone or record_signature(image) != found.get(path, record_signature(image))
        }
        self.moves = {path: displaced[signature] for path, signature in found.items() if signature in displaced}
        while taken := self.moves.keys() & self.by_path.keys() - {old for old, _ in self.moves.values()}:
            self.moves = {path: origin for path, origin in self.moves.items() if path not in taken}
        for old, _ in self.moves.values():
            self.by_path.pop(old, None)

    def reconcile_unread(self, entry):
        """Return the Outcome of a file whose signature is known; None if it must be read."""
        if entry.path in self.moves:
            return self.move(entry, *self.moves.pop(entry.path))
        image = self.by_path.get(entry.path)
        if image is None or record_signature(image) != entry_signature(entry):
            return None
        if has_mark(image):
            return self.change(entry.path, image, restored_status(image))
        return Outcome(UNCHANGED, image=image)

    def move(self, entry, old, image, properties=None):
        """Change the location of a record whose file was at the path ``old``."""
        self.by_path.pop(old, None)
        self.forget_content(image, old)
        values = {"location": file_url(entry.path)} | restored_status(image)
        values |= {"properties": properties} if properties else {}
        return self.change(entry.path, image, values, f"moved from {cleaned(old)}")

    def is_worth_hashing(self, entry, detected):
        """Return whether a file must be read whole.

        It must if it is an image, or perhaps the unchanged content of a record.
        """
        image = self.by_path.get(entry.path)
        return detected.verdict == IMAGE or (image is not None and image["size"] == entry.status.st_size)

    def get_contents(self, gone, entries):
        """Return the os_hash_values of records whose file is gone or in ``entries``."""
        paths = {*gone, *(entry.path for entry in entries)} & {*self.by_path}
        return {self.by_path[path]["properties"].get("os_hash_value") for path in paths} - {None}

    def find_copied(self, readings, gone):
        """Return {entry: (old path, record)} of new files with content that others lost.

        ``readings`` is {entry: Inspected}. The old path is gone or has another content now.
        """
        lost = {}
        for path, image in self.by_path.items():
            if path in gone:
                lost.setdefault(image["properties"].get("os_hash_value"), (path, image))
        for entry, found in readings.items():
            image = self.by_path.get(entry.path)
            if image is not None and found.status is not None and not has_content(image, found):
                lost.setdefault(image["properties"].get("os_hash_value"), (entry.path, image))
        lost.pop(None, None)
        copied = {}
        for entry, found in readings.items():
            _, digest = get_hash(found)
            if entry.path not in self.by_path and found.verdict == IMAGE and digest in lost:
                copied[entry] = lost.pop(digest)
        return copied

    def reconcile(self, entry, found):
        """Create or update the record of a file that was read; return the Outcome."""
        image = self.by_path.get(entry.path)
        if found.verdict in (UNREADABLE, CHANGED):
            return Outcome(FAILED, found.reason, image)
        if image is None:
            if found.verdict != IMAGE:
                return Outcome(found.verdict, found.reason)
            return self.create(entry, found)
        if not is_same_kind(image, found.detected):
            return self.keep_record(entry, found, image)
        facts = get_facts(found)
        differs = any(image[name] != value for name, value in facts.items() if not self.is_dry or name == "size")
        values = facts | restored_status(image) | {"properties": self.get_properties(found)}
        if differs:
            self.forget_content(image, entry.path)
        outcome = self.change(entry.path, image, values, describe_image(found))
        return outcome if differs or outcome.word == FAILED or self.is_dry else Outcome(UNCHANGED, image=image)

    def keep_record(self, entry, found, image):
        """Keep the facts of a record, and mark it if its file has changed to no image.

        A file may have been registered as raw on purpose: then its content has not changed.
        """
        if has_content(image, found):
            values = restored_status(image) | {"properties": self.get_properties(found)}
            outcome = self.change(entry.path, image, values)
            return outcome if outcome.word == FAILED else Outcome(UNCHANGED, image=image)
        problem = found.reason or "has no known image format"
        reason = f"is registered as {image['disk_format']}, but {problem}"
        if image["properties"].get(PROBLEM) == problem:
            return Outcome(REFUSED, reason, image)
        update = partial(self.client.update, image["id"])
        return self.send(REFUSED, reason, None, update, {"properties": {PROBLEM: problem}}, image)

    def create(self, entry, found):
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
            **get_facts(found),
            "properties": parsed.properties | self.get_properties(found),
        }
        return self.send(ADDED, describe_image(found), entry.path, self.client.create, values, values)

    def change(self, path, image, values, reason=""):
        """Update a record, and remove its marks and outdated properties."""
        outdated = {name for name in MARKS if name in image["properties"]}
        if "properties" in values and ENCRYPTION not in values["properties"]:
            outdated |= {ENCRYPTION} & {*image["properties"]}
        if outdated:
            kept = {name: value for name, value in image["properties"].items() if name not in outdated}
            values = values | {"properties": kept | values.get("properties", {})}
        update = partial(self.client.update, image["id"], purge=bool(outdated))
        return self.send(UPDATED, reason, path, update, values, image)

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
        kept |= {ENCRYPTION: found.detected.encryption} if found.detected.encryption else {}
        if self.is_dry:
            return kept
        algorithm, digest = get_hash(found)
        return {"os_hash_algo": algorithm, "os_hash_value": digest} | kept


def is_same_file(path, entry):
    """Return whether a path leads to the file of ``entry``."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == entry.identity
