"""Documents and files of a mirror: over HTTP, or in a folder."""

import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import click
import orjson

from cli import record_files, simplestreams
from cli.param_types import cleaned
from cli.simplestreams import INDEX_PATH, StreamError
from formatting import SAFE
from security import is_loopback

MOST_DOCUMENT_BYTES = 128 * 1024 * 1024
MOST_REDIRECTS = 5
SECONDS = 60
BLOCK_BYTES = 1024 * 1024


class FetchError(Exception):
    """What was not to be had, in words."""


class NoAnswer(FetchError):
    """What the mirror does not give at all."""


class Mirror:
    """Where documents and items come from; ``base`` is a URL that ends in a slash, or a folder (Path)."""

    def __init__(self, base, http=None):
        self.base = base
        self.http = http

    @property
    def is_local(self):
        return isinstance(self.base, Path)

    def document(self, path):
        """JSON. Raises FetchError."""
        where = self.base / path if self.is_local else self.url(path)
        content = read_file(where) if self.is_local else self.read_url(where)
        try:
            return orjson.loads(content)
        except ValueError:
            raise FetchError(f"{cleaned(str(where))}: is no JSON") from None

    def url(self, path):
        return self.base + quote(path, safe=SAFE)

    def read_url(self, url):
        parts, count = [], 0
        for block in self.blocks(url):
            count += len(block)
            if count > MOST_DOCUMENT_BYTES:
                raise FetchError(f"{cleaned(url)}: is longer than {MOST_DOCUMENT_BYTES // 1024**2} MiB")
            parts.append(block)
        return b"".join(parts)

    def blocks(self, url):
        """The content at a URL. Raises FetchError, also for one that breaks off."""
        import httpx2

        try:
            with self.http.stream("GET", url) as answer:
                if any(each.url.scheme != "https" for each in (*answer.history, answer)) and url.startswith("https:"):
                    raise FetchError(f"{cleaned(url)}: leads from https to http")
                if answer.status_code != 200:
                    raise FetchError(f"{cleaned(url)}: is answered {answer.status_code}")
                yield from answer.iter_bytes(BLOCK_BYTES)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            kind = NoAnswer if isinstance(error, httpx2.TransportError) else FetchError
            raise kind(f"{cleaned(url)}: {cleaned(' '.join(str(error).split())) or 'breaks off'}") from None


def read_file(path):
    try:
        if path.stat().st_size > MOST_DOCUMENT_BYTES:
            raise FetchError(f"{cleaned(str(path))}: is longer than {MOST_DOCUMENT_BYTES // 1024**2} MiB")
        return path.read_bytes()
    except OSError as error:
        raise FetchError(f"{cleaned(str(path))}: {(error.strerror or '').lower()}") from None


@contextmanager
def opened(where):
    """(Mirror, path of its first document) of a URL, a file or a folder. Raises ClickException."""
    if where.endswith(".sjson"):
        raise click.UsageError("Signatures are not verified here: give the .json beside it.")
    if "://" not in where:
        yield local(Path(os.path.realpath(where)))
        return
    parts = urlsplit(where)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise click.UsageError("Give a URL of http or https without a query, a file, or a folder.")
    if parts.scheme == "http":
        click.echo("http: nobody vouches for this index; its signature is not verified either.", err=True)
    import httpx2

    options = {"follow_redirects": True, "max_redirects": MOST_REDIRECTS, "timeout": SECONDS}
    options["trust_env"] = not (parts.hostname == "localhost" or is_loopback(parts.hostname))
    base, path = divided(where)
    with httpx2.Client(**options) as http:
        yield Mirror(base, http), path


def divided(url):
    """(base, path of the document): below streams/v1/ where it is said."""
    if not url.endswith(".json"):
        return url.rstrip("/") + "/", INDEX_PATH
    before, found, name = url.rpartition("/streams/v1/")
    if found:
        return before + "/", f"streams/v1/{name}"
    before, _, name = url.rpartition("/")
    return before + "/", name


def local(path):
    if path.is_dir():
        return Mirror(path), INDEX_PATH
    parent = path.parent
    base = parent.parent.parent if parent.parts[-2:] == ("streams", "v1") else parent
    return Mirror(base), str(path.relative_to(base))


def items_of(mirror, path):
    """(Items, [Refused]) of the document at ``path``, an index or products.

    Raises FetchError where not even that is to be had.
    """
    document = mirror.document(path)
    found, refused = [], []
    try:
        paths = simplestreams.product_paths(document) if simplestreams.is_index(document) else None
        if paths is None:
            return simplestreams.items_of(document)
    except StreamError as error:
        raise FetchError(f"{cleaned(path)}: {error}") from None
    for each in paths:
        try:
            more, others = simplestreams.items_of(mirror.document(each))
        except (FetchError, StreamError) as error:
            refused.append(simplestreams.Refused(each, str(error), None))
        else:
            found, refused = found + more, refused + others
    return found, refused


def download(mirror, item, target, advance):
    """Fetch an item to the path ``target``, which is whole and right when it is there; {algorithm: digest}.

    Raises FetchError, OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha256")}
    count = 0
    with record_files.replacing(target, 0o666) as file:  # for machines to read, as the umask lets them
        for block in mirror.blocks(mirror.url(item.path)):
            count += len(block)
            if count > item.size:
                raise FetchError(f"is longer than the {item.size} bytes that the index says")
            for each in hashes.values():
                each.update(block)
            file.write(block)
            advance(len(block))
        digests = {name: each.hexdigest() for name, each in hashes.items()}
        require_right(item, count, digests)
    return digests


def require_right(item, size, digests):
    """Raises FetchError where a file is not the item's."""
    if size != item.size:
        raise FetchError(f"has {size} bytes instead of {item.size}")
    if digests["sha256"] != item.sha256:
        raise FetchError("has another sha256 than the index says")
