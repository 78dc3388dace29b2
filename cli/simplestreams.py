"""Simplestreams, the format of image mirrors: documents to items, each checked before anything is done with it."""

import re
from collections import Counter
from typing import NamedTuple

from cli.operating_systems import architecture_of, distro_of

INDEX, PRODUCTS, DOWNLOADS = "index:1.0", "products:1.0", "image-downloads"
INDEX_PATH = "streams/v1/index.json"
# ftype → disk_format, of the items that are a machine's disk by themselves: others are packed, or parts of containers.
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
# Of these a version has one, that needs no word of its own in the name.
PLAIN_FTYPES = ("disk.img", "disk1.img", "qcow2")
SHA256 = re.compile("[0-9a-f]{64}")
MD5 = re.compile("[0-9a-f]{32}")
LONGEST_PATH = 2048
LARGEST_SIZE = 2**63 - 1
LONGEST_TEXT = 255


class StreamError(ValueError):
    """A document, or an item, that is not as the format says."""


class Item(NamedTuple):
    """One image of a stream; ``texts`` are its product's and version's attributes. ``sha256`` is in lower case."""

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
        """What is the same at every mirror, and in every sync."""
        return self.stream, self.product, self.version, self.item

    @property
    def architecture(self):
        return architecture_of(self.texts.get("arch")) or self.texts.get("arch")

    @property
    def name(self):
        texts = self.texts
        if published := texts.get("pubname"):
            return (published if self.ftype in PLAIN_FTYPES else f"{published} {self.ftype}")[:LONGEST_TEXT]
        release = texts.get("release_title") or texts.get("version") or texts.get("release")
        words = (texts.get("os"), release, texts.get("variant"), texts.get("arch"), self.version)
        return " ".join(word for word in words if word)[:LONGEST_TEXT]

    @property
    def properties(self):
        texts = self.texts
        found = {
            "os_distro": distro_of(texts["os"]) if "os" in texts else None,
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
    """``texts`` are those of an Item; None where all of a document is refused."""

    where: str
    reason: str
    texts: dict[str, str] | None


def names_of(items):
    """{key: name}; where several have one name, what they are of goes with it."""
    counts = Counter(item.name for item in items)
    return {item.key: item.name if counts[item.name] == 1 else with_item(item) for item in items}


def with_item(item):
    return f"{item.name[: LONGEST_TEXT - 1 - len(item.item)]} {item.item}"[:LONGEST_TEXT]


def product_paths(index):
    """The paths of an index's documents that list images to download. Raises StreamError."""
    entries = section(index, "index", INDEX)
    listed = [entry for entry in entries.values() if isinstance(entry, dict)]
    wanted = [entry for entry in listed if entry.get("datatype") == DOWNLOADS and entry.get("format") == PRODUCTS]
    return [require_path(entry.get("path")) for entry in wanted]


def section(document, name, form):
    if not isinstance(document, dict) or document.get("format") != form or not isinstance(document.get(name), dict):
        raise StreamError(f"is no simplestreams document of the format {form}")
    return document[name]


def is_index(document):
    return isinstance(document, dict) and document.get("format") == INDEX


def items_of(document):
    """(the Items, [Refused]) of a document of products. Raises StreamError."""
    products = section(document, "products", PRODUCTS)
    stream = document.get("content_id")
    if not isinstance(stream, str) or not 1 <= len(stream) <= LONGEST_TEXT:
        raise StreamError("has no content_id")
    found, refused = [], []
    for names, attributes in walk(products, texts_of(document)):
        try:
            item = item_of(stream, names, attributes)
        except StreamError as error:
            refused.append(Refused(" ".join(names), str(error), attributes[0]))
        else:
            found += [item] if item else []
    return found, refused


def walk(products, inherited):
    """((product, version, item), attributes) of each item; attributes are inherited unless they are given anew."""
    for product, entry in objects(products):
        of_product = inherited | texts_of(entry)
        for version, versioned in objects(entry.get("versions")):
            of_version = of_product | texts_of(versioned)
            for name, item in objects(versioned.get("items")):
                yield (product, version, name), (of_version, item)


def objects(value):
    return (
        [(name, entry) for name, entry in value.items() if isinstance(entry, dict)] if isinstance(value, dict) else []
    )


def texts_of(entry):
    return {name: value for name, value in entry.items() if isinstance(value, str) and len(value) <= LONGEST_TEXT}


def item_of(stream, names, attributes):
    """An Item, or None for one that is no disk. Raises StreamError."""
    texts, item = attributes
    ftype = item.get("ftype")
    disk_format = FTYPES.get(ftype) if isinstance(ftype, str) else None
    if disk_format is None:
        return None
    size, sha256, md5 = item.get("size"), item.get("sha256"), item.get("md5")
    if type(size) is not int or not 0 < size <= LARGEST_SIZE:
        raise StreamError("has no size")
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256.lower()):
        raise StreamError("has no sha256")
    md5 = md5.lower() if isinstance(md5, str) and MD5.fullmatch(md5.lower()) else None
    path = require_path(item.get("path"))
    return Item(stream, *names, disk_format, ftype, path, size, sha256.lower(), md5, texts)


def require_path(path):
    """A path below the mirror's root. Raises StreamError for any that could lead elsewhere."""
    if not isinstance(path, str) or not 1 <= len(path) <= LONGEST_PATH or not path.isprintable():
        raise StreamError("has no path")
    parts = path.split("/")
    if "\\" in path or ":" in parts[0] or {"", ".", ".."} & set(parts):
        raise StreamError(f"its path leads elsewhere: {path}")
    return path


def is_wanted(texts, archs, releases):
    """Whether what has these texts is of one of the architectures and releases, any way they are named."""
    wanted = {architecture_of(arch) or arch for arch in archs}
    arch = architecture_of(texts.get("arch")) or texts.get("arch")
    return (not wanted or arch in wanted) and (not releases or bool(set(releases) & releases_of(texts)))


def newest(items):
    """Of each product the newest version's."""
    versions = {}
    for item in items:
        product = item.stream, item.product
        versions[product] = max(versions.get(product, ""), item.version)
    return [item for item in items if item.version == versions[item.stream, item.product]]


def releases_of(texts):
    names = {texts.get(name) for name in ("release", "version", "release_title", "release_codename")}
    return names | set(texts.get("aliases", "").split(","))
