"""Records of one mirror's images, told from those of other mirrors with the same content_id."""

import os
from urllib.parse import urlsplit

from formatting import file_url, local_file

# Properties that hold an item's key, and the one that holds the mirror's address.
KEYS = ("stream", "stream_product", "version", "stream_item")
SOURCE = "stream_source"
DEFAULT_PORTS = {"http": 80, "https": 443}


class MirrorRecords:
    """Records that were synced from a mirror.

    Records of earlier versions have no address: those whose file is on the mirror or in ``folder``, or has the content
    of an item, are this mirror's.
    """

    def __init__(self, client, mirror, folder):
        self.client = client
        self.source = mirror_address(mirror.base)
        self.places = [self.source, *([file_url(str(folder)).rstrip("/") + "/"] if folder else [])]
        self.by_key = {}

    def load(self, items, streams):
        """Read the records of these streams from the registry."""
        contents = {item.key: item.sha256 for item in items}
        unclaimed = {}
        for stream in sorted(streams):
            for image in self.client.every_image(properties={"stream": stream}):
                key = tuple(image["properties"].get(name) for name in KEYS)
                source = image["properties"].get(SOURCE)
                if source is not None:
                    if is_same_address(source, self.source):
                        self.by_key[key] = image
                elif self.is_located_here(image) or image["properties"].get("os_hash_value") == contents.get(key):
                    unclaimed[key] = image
        self.by_key = unclaimed | self.by_key

    def is_located_here(self, image):
        """Return whether a record's file is on the mirror, or in the folder for downloads."""
        path = local_file(image)
        location = file_url(path) if path is not None else image["location"] or ""
        return any(is_below_address(location, place) for place in self.places)

    def find(self, item):
        """Return the record of an item, or None."""
        return self.by_key.get(item.key)

    def find_gone(self, published):
        """Return the records whose key is not one of ``published``."""
        return [image for key, image in self.by_key.items() if key not in published]


def mirror_address(base):
    """Return the address of a mirror without user and default port.

    That of a folder is its file: URL.
    """
    if not isinstance(base, str):
        return file_url(os.path.realpath(base)).rstrip("/") + "/"
    parts = urlsplit(base)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path}"


def is_same_address(one, other):
    """Return whether two addresses are those of one mirror, over http or https."""
    return without_scheme(one) == without_scheme(other)


def is_below_address(location, place):
    """Return whether a URL is below an address."""
    return without_scheme(location).startswith(without_scheme(place))


def without_scheme(address):
    """Return an address without http: or https:."""
    return address.removeprefix("https:").removeprefix("http:")
