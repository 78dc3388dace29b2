"""Descriptor of a vmdk: the text that names its type, its extents and its parent."""

import codecs
import re
from typing import NamedTuple

from cli.image_parents import TO_VMDK, is_present, readable

TITLE = "# disk descriptorfile"
NO_PARENT = "ffffffff"
MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
MOST_EXTENTS_NAMED = 3


class Descriptor(NamedTuple):
    """Facts of a descriptor; ``parent`` is the parent's file name, "" if it names none."""

    disk_type: str
    extents: tuple[str, ...]
    has_parent: bool
    parent: str


def parse_descriptor(content):
    """Return the Descriptor in the bytes ``content``, which zeros may follow."""
    text = decode_descriptor(content)
    fields = {name.lower(): value for name, value in re.findall(r'^\s*(\w+)\s*=\s*"?([^"\r\n]*)"?', text, re.MULTILINE)}
    extents = re.findall(r'^\s*(?:RW|RDONLY|NOACCESS)\s+\d+\s+\w+\s+"([^"\r\n]*)"', text, re.MULTILINE | re.IGNORECASE)
    parent = readable(fields.get("parentfilenamehint", ""))
    parent_id = fields.get("parentcid", NO_PARENT).strip().lower()
    return Descriptor(
        fields.get("createtype", ""), tuple(map(readable, extents)), parent_id != NO_PARENT or bool(parent), parent
    )


def is_descriptor(head):
    """Return whether a file begins like a descriptor, in any encoding."""
    return decode_descriptor(head[:1024]).lstrip("\ufeff \t\r\n").lower().startswith(TITLE)


def decode_descriptor(content):
    """Return the text of a descriptor, in the encoding of its mark or its own line."""
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return content.removeprefix(mark).decode(encoding, errors="replace").split("\0")[0]
    if content[1:2] == b"\0" and content[:1].isascii():
        return content[: len(content) // 2 * 2].decode("utf-16-le", errors="replace").split("\0")[0]
    content = content.split(b"\0")[0]
    named = re.search(rb'^\s*encoding\s*=\s*"([\w.-]{1,40})"', content, re.MULTILINE | re.IGNORECASE)
    for encoding in ("utf-8", named[1].decode() if named else "latin-1"):
        try:
            return content.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return content.decode("latin-1")


def describe_extents(extents):
    """Return the names of extents, for a message."""
    more = len(extents) - MOST_EXTENTS_NAMED
    return ", ".join(extents[:MOST_EXTENTS_NAMED]) + (f" and {more} more" if more > 0 else "")


def describe_vmdk_part(image):
    """Return what a file is that belongs to a vmdk without being one, or ""."""
    if image.head.startswith(b"COWD"):
        return f"is an extent of a vmdk in the old format COWD; convert the disk with: {TO_VMDK}"
    if not is_descriptor(image.head):
        return ""
    extents = parse_descriptor(image.head).extents
    files = f"other files ({describe_extents(extents)})" if extents else "other files"
    missing = [name for name in extents if is_present(name, image.folder) is False]
    advice = f"of which {missing[0]} does not exist" if missing else f"make one file of them with: {TO_VMDK}"
    return f"is the descriptor of a vmdk whose content is in {files}; {advice}"
