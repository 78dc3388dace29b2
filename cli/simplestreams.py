"""Parser for simplestreams, the format of image mirrors: documents to validated items."""

import re
from collections import Counter
from datetime import date
from typing import NamedTuple

from cli.operating_systems import normalize_architecture, normalize_distro, version_of_codename

INDEX, PRODUCTS, DOWNLOADS = "index:1.0", "products:1.0", "image-downloads"
INDEX_PATH = "streams/v1/index.json"
# ftype → disk_format, of items that are whole disks; others are archives, or parts of container images.
FTYPES = {
    "disk.img": "qcow2",
    "disk1.img": "qcow2",
    "disk-kvm.img": "qcow2",
    "disk-uefi.img": "qcow2",
    "uefi1.img": "qcow2",
    "qcow2": "qcow2",
    "vmdk": "vmdk",
    "iso": "iso",
}
# A version has at most one of these, so its name needs no ftype.
PLAIN_FTYPES = ("disk.img", "disk1.img", "qcow2")
SHA256 = re.compile("[0-9a-f]{64}")
MD5 = re.compile("[0-9a-f]{32}")
# A version number, also in "24.04 LTS" and "9-Stream".
VERSION = re.compile(r"(?P<version>\d[\d.]{0,30})([ -](LTS|Stream))?")
LONGEST_PATH = 2048
LARGEST_SIZE = 2**63 - 1
LONGEST_TEXT = 255
END_OF_LIFE = "end_of_life"


class StreamError(ValueError):
    """Document or item that violates the format."""


class Item(NamedTuple):
    """Disk image of a stream; ``texts`` are its product's and version's attributes."""

    stream: str
    product: str
    version: str
    item: str
    disk_format: str
    ftype: str
    path: str
    size: int
    sha256: str
    md5: str | None
    texts: dict[str, str]

    @property
    def key(self):
        """Return what identifies the item on every mirror and in every sync."""
        return self.stream, self.product, self.version, self.item

    @property
    def architecture(self):
        """Return the architecture of the item."""
        return get_architecture(self.texts)

    @property
    def name(self):
        """Return the name of the image: the published one, or one made of its attributes."""
        texts = self.texts
        if published := texts.get("pubname"):
            return (published if self.ftype in PLAIN_FTYPES else f"{published} {self.ftype}")[:LONGEST_TEXT]
        release = texts.get("release_title") or texts.get("version") or texts.get("release")
        words = (texts.get("os"), release, texts.get("variant"), texts.get("arch"), self.version)
        return " ".join(word for word in words if word)[:LONGEST_TEXT]

    @property
    def is_past_support(self):
        """Return whether the publisher no longer supports the release."""
        try:
            return date.fromisoformat(self.texts.get("support_eol", "")) < date.today()
        except ValueError:
            return self.texts.get("supported") == "false"

    @property
    def properties(self):
        """Return the properties of the image's record."""
        texts = self.texts
        os_distro = normalize_distro(texts["os"]) if "os" in texts else None
        found = {
            "os_distro": os_distro,
            "os_version": get_os_version(texts, os_distro),
            "architecture": self.architecture,
            "release": texts.get("release"),
            "variant": texts.get("variant"),
            "version": self.version,
            "os_hash_algo": "sha256",
            "os_hash_value": self.sha256,
            "stream": self.stream,
            "stream_product": self.product,
            "stream_item": self.item,
            "support_eol": texts.get("support_eol"),
            END_OF_LIFE: "true" if self.is_past_support else None,
        }
        return {name: text for name, text in found.items() if text}


class Refused(NamedTuple):
    """Refused item with its key and attributes ``texts``, or document without any."""

    place: str
    reason: str
    texts: dict[str, str] | None = None
    key: tuple[str, ...] | None = None


class Published(NamedTuple):
    """Content of a mirror's documents; ``others`` is {type: number} of items that are no disk images."""

    items: list[Item]
    refused: list[Refused]
    others: Counter


def choose_names(items):
    """Return {key: name}, with names that items share extended by parts of their keys."""
    chosen, unnamed = {}, items
    for first in (4, 3, 1, 0):  # nothing; the item; product, version and item; the whole key
        names = {item.key: extend_name(item, item.key[first:]) for item in unnamed}
        counts = Counter([*names.values(), *chosen.values()])
        chosen |= {key: name for key, name in names.items() if counts[name] == 1}
        unnamed = [item for item in unnamed if item.key not in chosen]
    return chosen | {item.key: extend_name(item, item.key) for item in unnamed}


def extend_name(item, parts):
    """Return the name of an item followed by parts of its key, within LONGEST_TEXT."""
    ending = " ".join(["", *parts])[:LONGEST_TEXT]
    return f"{item.name[: LONGEST_TEXT - len(ending)]}{ending}".strip()


def find_product_paths(index):
    """Return the paths of an index's documents that list images to download.

    Raises: StreamError.
    """
    entries = get_section(index, "index", INDEX)
    listed = [entry for entry in entries.values() if isinstance(entry, dict)]
    wanted = [entry for entry in listed if entry.get("datatype") == DOWNLOADS and entry.get("format") == PRODUCTS]
    return [require_path(entry.get("path")) for entry in wanted]


def get_section(document, name, form):
    """Return the object ``name`` of a document of the format ``form``.

    Raises: StreamError.
    """
    if not isinstance(document, dict) or document.get("format") != form:
        found = document.get("format") if isinstance(document, dict) else None
        what = f"but has the format {str(found)[:40]!r}" if found else "but JSON of another kind"
        raise StreamError(f"is not a simplestreams document of format {form}, {what}")
    if not isinstance(document.get(name), dict):
        raise StreamError(f"is not a simplestreams document of format {form}: it has no object {name!r}")
    return document[name]


def is_index(document):
    """Return whether a document is an index."""
    return isinstance(document, dict) and document.get("format") == INDEX


def parse_products(document):
    """Return the Published items of a document of products. Raises: StreamError."""
    products = get_section(document, "products", PRODUCTS)
    stream = document.get("content_id")
    if not isinstance(stream, str) or not 1 <= len(stream) <= LONGEST_TEXT:
        raise StreamError("has no valid content_id")
    if not products:
        raise StreamError("lists no products")
    published = Published([], [], Counter())
    for names, attributes in walk_items(products, get_texts(document)):
        try:
            item = parse_item(stream, names, attributes)
        except StreamError as error:
            published.refused.append(Refused(" ".join(names), str(error), attributes[0], (stream, *names)))
        else:
            if item is None:
                published.others[str(attributes[1].get("ftype"))[:LONGEST_TEXT]] += 1
            else:
                published.items.append(item)
    return published


def walk_items(products, inherited):
    """Yield ((product, version, item), (attributes, item's object)).

    Inner attributes override outer ones.
    """
    for product, entry in get_objects(products):
        of_product = inherited | get_texts(entry)
        for version, versioned in get_objects(entry.get("versions")):
            of_version = of_product | get_texts(versioned)
            for name, item in get_objects(versioned.get("items")):
                yield (product, version, name), (of_version, item)


def get_objects(value):
    """Return (name, object) of the objects within a JSON value."""
    entries = value.items() if isinstance(value, dict) else ()
    return [(name, entry) for name, entry in entries if isinstance(entry, dict)]


def get_texts(entry):
    """Return the texts, numbers and truth values of an object as texts."""
    texts = {name: text_of(value) for name, value in entry.items()}
    return {name: text for name, text in texts.items() if text is not None and len(text) <= LONGEST_TEXT}


def text_of(value):
    """Return a JSON value as text, None for objects, lists and null."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (str, int)) else None


def parse_item(stream, names, attributes):
    """Return the Item, None if it is not a disk. Raises: StreamError."""
    texts, item = attributes
    ftype = item.get("ftype")
    disk_format = FTYPES.get(ftype) if isinstance(ftype, str) else None
    if disk_format is None:
        return None
    size, sha256, md5 = item.get("size"), item.get("sha256"), item.get("md5")
    if type(size) is not int or not 0 < size <= LARGEST_SIZE:
        raise StreamError("has no valid size")
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256.lower()):
        raise StreamError("has no valid sha256")
    md5 = md5.lower() if isinstance(md5, str) and MD5.fullmatch(md5.lower()) else None
    path = require_path(item.get("path"))
    return Item(stream, *names, disk_format, ftype, path, size, sha256.lower(), md5, texts)


def require_path(path):
    """Return a path if it stays below the mirror's root.

    Raises: StreamError.
    """
    if not isinstance(path, str) or not 1 <= len(path) <= LONGEST_PATH or not path.isprintable():
        raise StreamError("has no valid path")
    parts = path.split("/")
    if "\\" in path or ":" in parts[0] or {"", ".", ".."} & set(parts):
        raise StreamError(f"its path leads out of the mirror: {path}")
    return path


def get_architecture(texts):
    """Return Glance's name of the architecture, or the stream's if it has none."""
    return normalize_architecture(texts.get("arch")) or texts.get("arch")


def get_releases(texts):
    """Return all names of a product's release, in lower case.

    An alias is a name, or has the release after the operating system: ubuntu/24.04/cloud.
    """
    names = {texts.get(name) for name in ("release", "version", "release_title", "release_codename")} - {None}
    for alias in texts.get("aliases", "").split(","):
        parts = alias.strip().split("/")
        names |= {alias.strip(), parts[1] if len(parts) > 1 else alias.strip()}
    names |= {name.removesuffix(" LTS") for name in names}
    return {name.lower() for name in names} - {""}


def get_os_version(texts, os_distro):
    """Return the version of a product's operating system, a number if it has one."""
    release = texts.get("release")
    for text in (texts.get("version"), texts.get("release_title"), release, *sorted(get_releases(texts))):
        number = VERSION.fullmatch(text or "")
        if number:
            return number["version"]
    return version_of_codename(os_distro, release) or texts.get("version") or texts.get("release_title") or release
