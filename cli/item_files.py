"""Files of a mirror's items on this machine."""

from contextlib import suppress

from cli import mirror_files
from cli.checksums import Hasher
from cli.image_format import IMAGE
from cli.inspection import inspect_file, open_regular_file
from cli.mirror_files import FetchError
from formatting import file_url

MISMATCH, ABSENT = "differs from the index in size or sha256", "is missing in the mirror's folder"


class ItemFiles:
    """Files of items: fetched to ``folder``, found in the mirror's folder, or left on the mirror."""

    def __init__(self, mirror, folder, disk_formats):
        self.mirror = mirror
        self.folder = folder
        self.disk_formats = disk_formats
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
        try:
            return facts | {"checksum": digests["md5"]} | self.detect_format(path)
        except FetchError:
            if self.folder:
                self.remove(path)
            raise

    def remove(self, path):
        """Remove a refused file from the folder for downloads, with emptied folders."""
        path.unlink(missing_ok=True)
        with suppress(OSError):
            for parent in path.parents:
                if parent == self.folder:
                    break
                parent.rmdir()

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
            raise FetchError(seen.reason)
        return {"disk_format": seen.detected.disk_format, "virtual_size": seen.detected.virtual_size}
