"""Reader of a mirror's documents and files, over HTTP or in a folder."""

import hashlib
import json
import os
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import click
import orjson

from cli import record_files, simplestreams
from cli.other_content import describe_content
from cli.param_types import cleaned
from cli.simplestreams import INDEX_PATH, Published, Refused, StreamError
from formatting import SAFE
from security import is_loopback

MOST_DOCUMENT_BYTES = 128 * 1024 * 1024
TOO_LARGE = f"is larger than {MOST_DOCUMENT_BYTES // 1024**2} MiB, the limit for documents of a mirror"
MOST_REDIRECTS = 5
TIMEOUT_SECONDS = 60
BLOCK_BYTES = 1024 * 1024


class FetchError(Exception):
    """Failure to read a document or file; its text says why."""


class MirrorUnreachable(FetchError):
    """Failure to connect to the mirror."""


class Mirror:
    """Source of documents and items.

    ``base`` is a URL that ends in a slash, or a folder (Path).
    """

    def __init__(self, base, http=None):
        self.base = base
        self.http = http

    @property
    def is_local(self):
        """Return whether the mirror is a folder."""
        return isinstance(self.base, Path)

    def read_document(self, path):
        """Return the value of a JSON document. Raises: FetchError."""
        place = self.base / path if self.is_local else self.url(path)
        content = read_file(place) if self.is_local else self.read_url(place)
        try:
            orjson.loads(content)  # refuses what json.loads takes beyond the standard
            return json.loads(content, parse_float=str)  # 22.10 is a version
        except (ValueError, RecursionError):
            raise FetchError(f"{cleaned(str(place))}: is not JSON, but {describe_bytes(content)}") from None

    def url(self, path):
        """Return the URL of a path."""
        return self.base + quote(path, safe=SAFE)

    def read_url(self, url):
        """Return the content at a URL, up to MOST_DOCUMENT_BYTES. Raises: FetchError."""
        parts, count = [], 0
        for block in self.read_blocks(url):
            count += len(block)
            if count > MOST_DOCUMENT_BYTES:
                raise FetchError(f"{cleaned(url)}: {TOO_LARGE}")
            parts.append(block)
        return b"".join(parts)

    def read_blocks(self, url):
        """Yield the content at a URL.

        Raises: FetchError, also if the connection closes early.
        """
        import httpx2

        try:
            with self.http.stream("GET", url) as response:
                schemes = {each.url.scheme for each in (*response.history, response)}
                if url.startswith("https:") and schemes != {"https"}:
                    raise FetchError(f"{cleaned(url)}: redirects from https to http")
                if response.status_code != 200:
                    raise FetchError(f"{cleaned(url)}: the server answered {response.status_code}")
                yield from response.iter_bytes(BLOCK_BYTES)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            kind = MirrorUnreachable if isinstance(error, httpx2.TransportError) else FetchError
            reason = cleaned(" ".join(str(error).split())) or "the connection closed early"
            raise kind(f"{cleaned(url)}: {reason}") from None


def describe_bytes(content):
    """Return what the bytes of a broken document are, as in "is an HTML or XML page"."""
    if not content.strip(b"\0"):
        return f"{len(content)} zero bytes" if content else "is empty"
    return describe_content(content[:4096], b"") or "is binary"


def read_file(path):
    """Return the content of a file, up to MOST_DOCUMENT_BYTES. Raises: FetchError."""
    try:
        if path.stat().st_size > MOST_DOCUMENT_BYTES:
            raise FetchError(f"{cleaned(str(path))}: {TOO_LARGE}")
        return path.read_bytes()
    except OSError as error:
        raise FetchError(f"{cleaned(str(path))}: {(error.strerror or '').lower()}") from None


@contextmanager
def open_mirror(source):
    """Yield (Mirror, path of its first document) of a URL, a file or a folder.

    Raises: ClickException.
    """
    if source.endswith(".sjson"):
        raise click.UsageError("Signatures (.sjson) cannot be verified. Name the .json document beside it.")
    if "://" not in source:
        yield open_folder(Path(os.path.realpath(source)))
        return
    parts = urlsplit(source)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise click.UsageError(
            f"The source must be an http or https URL without a query, a file, or a folder; got {cleaned(source)}."
        )
    if parts.scheme == "http":
        click.echo("Warning: http does not protect the index from forgery, and signatures are not verified.", err=True)
    import httpx2

    options = {"follow_redirects": True, "max_redirects": MOST_REDIRECTS, "timeout": TIMEOUT_SECONDS}
    options["trust_env"] = not (parts.hostname == "localhost" or is_loopback(parts.hostname))
    base, path = split_url(source)
    with httpx2.Client(**options) as http:
        yield Mirror(base, http), path


def split_url(url):
    """Return (URL of the mirror's root, path of the document below it)."""
    if not url.endswith(".json"):
        return url.rstrip("/") + "/", INDEX_PATH
    before, found, name = url.rpartition("/streams/v1/")
    if found:
        return before + "/", f"streams/v1/{name}"
    before, _, name = url.rpartition("/")
    return before + "/", name


def open_folder(path):
    """Return (Mirror, path of its first document) of a folder, or of a document in it."""
    if path.is_dir():
        return Mirror(path), INDEX_PATH
    parent = path.parent
    base = parent.parent.parent if parent.parts[-2:] == ("streams", "v1") else parent
    return Mirror(base), str(path.relative_to(base))


def read_published(mirror, path):
    """Return what a mirror's document publishes, an index or a list of products.

    Raises: FetchError if the document itself cannot be read, or lists nothing.
    """
    document = mirror.read_document(path)
    try:
        if not simplestreams.is_index(document):
            return simplestreams.parse_products(document)
        paths = simplestreams.find_product_paths(document)
    except StreamError as error:
        raise FetchError(f"{cleaned(path)}: {error}") from None
    if not paths:
        raise FetchError(f"{cleaned(path)}: lists no documents with images to download")
    found = Published([], [], Counter())
    for each in paths:
        try:
            items, refused, others = simplestreams.parse_products(mirror.read_document(each))
        except (FetchError, StreamError) as error:
            found.refused.append(Refused(each, str(error)))
        else:
            found.items.extend(items)
            found.refused.extend(refused)
            found.others.update(others)
    return found


def download(mirror, item, target, advance):
    """Fetch an item to the path ``target``.

    The file appears there only when it is whole and verified.

    Returns: {algorithm: hexadecimal digest}.
    Raises: FetchError, OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha256")}
    count = 0
    with record_files.replacing(target, 0o666) as file:  # readable by hypervisors, as far as the umask allows
        for block in mirror.read_blocks(mirror.url(item.path)):
            count += len(block)
            if count > item.size:
                raise FetchError(f"is larger than the {item.size} bytes that the index says")
            for each in hashes.values():
                each.update(block)
            file.write(block)
            advance(len(block))
        digests = {name: each.hexdigest() for name, each in hashes.items()}
        require_match(item, count, digests)
    return digests


def require_match(item, size, digests):
    """Raise FetchError unless a file has the item's size and sha256."""
    if size != item.size:
        raise FetchError(f"has {size} bytes, the index says {item.size}")
    if digests["sha256"] != item.sha256:
        raise FetchError("differs from the index in sha256")
