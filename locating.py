"""Files as locations: absolute paths as ``file:`` URLs and back, whatever bytes their names have."""

import os
from urllib.parse import quote, unquote_to_bytes, urlsplit

SAFE = "/-._~!$&'()*+,;=:@"  # what RFC 3986 lets stand in a path


def location_of(path):
    """The URL of an absolute path, as the operating system's functions give it."""
    return f"file://{quote(os.fsencode(path), safe=SAFE)}"


def path_of(url):
    """The path that a location names on this machine, or None where it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    content = unquote_to_bytes(parts.path)
    return os.fsdecode(content) if content.startswith(b"/") and b"\0" not in content else None


def file_of(image):
    """The path of a record's first location that is a file here, or None."""
    urls = [entry["url"] for entry in image["location_data"]]
    return next((path for path in map(path_of, urls) if path is not None), None)
