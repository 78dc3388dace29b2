"""Parser for simplestreams, the format of image mirrors: documents to validated items."""

import re
from collections import Counter
from typing import NamedTuple

from cli.operating_systems import normalize_architecture, normalize_distro

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
LONGEST_PATH = 2048
LARGEST_SIZE = 2**63 - 1
LONGEST_TEXT = 255


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
        """Return the architecture, as the stream spells it if Glance has no name for it."""
        return normalize_architecture(self.texts.get("arch")) or self.texts.get("arch")

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
    def properties(self):
        """Return the properties of the image's record."""
        texts = self.texts
        found = {
            "os_distro": normalize_distro(texts["os"]) if "os" in texts else None,
            "os_version": texts.get("version") or texts.get("release_title") or texts.get("release"),
            "architecture": self.architecture,
            "release": texts.get("release"),
            "variant": texts.get("variant"),
            "version": self.version,
            "os_hash_algo": "sha256",
            "os_hash_value": self.sha256,
            "stream": self.stream,
            "stream_product": self.product,
            "stream_item": self.item,
        }
        return {name: text for name, text in found.items() if text}


class Refused(NamedTuple):
    """Refused item with its attributes ``texts``, or document without any."""

    place: str
    reason: str
    texts: dict[str, str] | None


def choose_names(items):
    """Return {key: name}, with names that items share extended by their key."""
    counts = Counter(item.name for item in items)
    return {item.key: item.name if counts[item.name] == 1 else extend_name(item) for item in items}


def extend_name(item):
    """Return the name of an item followed by its key, within LONGEST_TEXT."""
    return f"{item.name[: LONGEST_TEXT - 1 - len(item.item)]} {item.item}"[:LONGEST_TEXT]


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
    if not isinstance(document, dict) or document.get("format") != form or not isinstance(document.get(name), dict):
        raise StreamError(f"is not a simplestreams document of format {form}")
    return document[name]


def is_index(document):
    """Return whether a document is an index."""
    return isinstance(document, dict) and document.get("format") == INDEX


def parse_products(document):
    """Return (Items, Refused items) of a document of products. Raises: StreamError."""
    products = get_section(document, "products", PRODUCTS)
    stream = document.get("content_id")
    if not isinstance(stream, str) or not 1 <= len(stream) <= LONGEST_TEXT:
        raise StreamError("has no valid content_id")
    found, refused = [], []
    for names, attributes in walk_items(products, get_texts(document)):
        try:
            item = parse_item(stream, names, attributes)
        except StreamError as error:
            refused.append(Refused(" ".join(names), str(error), attributes[0]))
        else:
            found += [item] if item else []
    return found, refused


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
    """Return the attributes of an object that are texts of an acceptable length."""
    return {name: value for name, value in entry.items() if isinstance(value, str) and len(value) <= LONGEST_TEXT}


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


def is_wanted(texts, archs, releases):
    """Return whether attributes match the architectures and releases."""
    wanted = {normalize_architecture(arch) or arch for arch in archs}
    arch = normalize_architecture(texts.get("arch")) or texts.get("arch")
    return (not wanted or arch in wanted) and (not releases or bool(set(releases) & get_releases(texts)))


def select_newest(items):
    """Return the items of each product's newest version."""
    versions = {}
    for item in items:
        product = item.stream, item.product
        versions[product] = max(versions.get(product, ""), item.version)
    return [item for item in items if item.version == versions[item.stream, item.product]]


def get_releases(texts):
    """Return all names of a product's release."""
    names = {texts.get(name) for name in ("release", "version", "release_title", "release_codename")}
    return names | set(texts.get("aliases", "").split(","))
