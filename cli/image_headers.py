"""Headers of image formats: other files that a disk needs, encryption, and virtual sizes.

Sizes and rules are those of qemu-img; offsets are those of each format's specification.
"""

import json
import os
import struct
import uuid
from typing import NamedTuple

from cli.image_parents import TO_QCOW2, TO_VMDK, describe_need, readable
from cli.truncation import SECTOR, read_vmdk_header
from cli.vmdk_descriptor import describe_vmdk_part, parse_descriptor

CLONE_VDI, CONVERT_VHD = "VBoxManage clonemedium disk IN OUT", "Convert-VHD -Path IN -DestinationPath OUT"
QCOW2_FEATURES = ("dirty", "corrupt", "external data file", "compression type", "extended L2 entries")
DATA_FILE, FEATURE_NAMES, DATA_FILE_NAME = 1 << 2, 0x6803F857, 0x44415441
# Creator applications of vhds whose size is the footer's; of others it is the disk geometry (qemu's block/vpc.c).
SIZED_BY_FOOTER = (b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS", b"wa\0\0")
MOST_GEOMETRY = 65535 * 16 * 255
VHD_FIXED, VHD_DYNAMIC, VHD_DIFFERENCING = 2, 3, 4
VHDX_METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
VHDX_PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
VHDX_LOCATOR = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
MOST_HEADER_BYTES = 1024 * 1024
VDI_KINDS = {3: "an undo disk", 4: "a differencing disk"}


class Header(NamedTuple):
    """Facts of an image's header: ``problem`` says why it is no whole image, ``needs_file`` if of another file.

    ``virtual_size`` is in bytes, None if unknown; ``encryption`` is luks, aes or None.
    """

    virtual_size: int | None = None
    encryption: str | None = None
    problem: str = ""
    needs_file: bool = False


def read_qcow2(image):
    """Return the Header of a qcow2 image."""
    version, backing_offset, backing_length, _, disk_size, method = struct.unpack_from(">IQIIQI", image.head, 4)
    if version == 1:
        return Header(problem=f"has the old format qcow (version 1); convert it with: {TO_QCOW2}")
    if version not in (2, 3):
        return Header(problem=f"has qcow2 version {version}; known are 2 and 3")
    # Version 2 has no feature flags; its header ends where version 3 has them.
    features, length = (0, 72) if version == 2 else struct.unpack_from(">Q20xI", image.head, 72)
    extensions = dict(find_extensions(image.head, length))
    if features & DATA_FILE:
        name = readable(extensions.get(DATA_FILE_NAME, b"").decode(errors="replace"))
        return Header(problem=describe_need("the data file", name, image.folder, TO_QCOW2), needs_file=True)
    if backing_offset:
        name = readable(image.read(backing_offset, min(backing_length, 1023)).decode(errors="replace"))
        return Header(problem=describe_need("the backing file", name, image.folder, TO_QCOW2), needs_file=True)
    if unknown := describe_features(features >> len(QCOW2_FEATURES), extensions.get(FEATURE_NAMES, b"")):
        return Header(problem=f"uses qcow2 features that are not known here: {unknown}; convert it without them")
    return Header(disk_size, {0: None, 1: "aes", 2: "luks"}.get(method, "unknown"))


def find_extensions(head, offset):
    """Yield (type, content) of a qcow2's header extensions."""
    while 72 <= offset <= len(head) - 8:
        kind, length = struct.unpack_from(">II", head, offset)
        if kind == 0:
            return
        yield kind, head[offset + 8 : offset + 8 + length]
        offset += 8 + -(-length // 8) * 8


def describe_features(bits, table):
    """Return the names of incompatible features, by the image's own table of names.

    ``bits`` begin with the first feature that is not in QCOW2_FEATURES.
    """
    names = {}
    for start in range(0, len(table) - 47, 48):
        kind, number = table[start], table[start + 1]
        if kind == 0:
            names[number] = readable(table[start + 2 : start + 48].rstrip(b"\0").decode(errors="replace"))
    first = len(QCOW2_FEATURES)
    found = [first + number for number in range(64 - first) if bits >> number & 1]
    return ", ".join(names.get(number) or f"bit {number}" for number in found)


def read_vmdk(image):
    """Return the Header of a vmdk, which is whole if it holds descriptor and content."""
    if not image.head.startswith(b"KDMV"):
        return Header(problem=describe_vmdk_part(image), needs_file=True)
    header = read_vmdk_header(image.file, image.head, image.size)
    capacity = struct.unpack_from("<Q", header, 12)[0] if header.startswith(b"KDMV") else 0
    place, length = struct.unpack_from("<QQ", image.head, 28)
    text = image.read(place * SECTOR, min(length * SECTOR, MOST_HEADER_BYTES))
    descriptor = parse_descriptor(text)
    if not descriptor.disk_type and len(text) == min(length * SECTOR, MOST_HEADER_BYTES):
        return Header(problem=f"is an extent of a split vmdk; convert the disk with: {TO_VMDK}", needs_file=True)
    if descriptor.has_parent:
        need = describe_need("the parent disk", descriptor.parent, image.folder, TO_VMDK)
        return Header(problem=need, needs_file=True)
    return Header(capacity * SECTOR or None)


def read_vhd(image):
    """Return the Header of a vhd, by the footer's copy at its start or the footer."""
    footer = image.head if image.head.startswith(b"conectix") else image.read(image.size - SECTOR, SECTOR)
    data_offset, creator, disk_size, cylinders, heads, sectors, kind = struct.unpack_from(">Q4x4s16xQHBBI", footer, 16)
    if kind == VHD_DIFFERENCING:
        name = image.read(data_offset + 64, SECTOR).decode("utf-16-be", errors="replace").split("\0")[0]
        need = describe_need("the parent disk", readable(name), image.folder, CONVERT_VHD)
        return Header(problem=need, needs_file=True)
    if kind not in (VHD_FIXED, VHD_DYNAMIC):
        return Header(problem=f"is a vhd of the unknown type {kind}; known are 2 (fixed) and 3 (dynamic)")
    geometry = cylinders * heads * sectors
    by_footer = creator in SIZED_BY_FOOTER or geometry == MOST_GEOMETRY
    return Header((disk_size // SECTOR if by_footer else geometry) * SECTOR or None)


def read_vhdx(image):
    """Return the Header of a vhdx; the virtual size is left to the caller."""
    metadata = find_vhdx_metadata(image)
    parameters = metadata.get(VHDX_PARAMETERS, b"").ljust(8, b"\0")
    if not parameters[4] & 2:
        return Header()
    places = parse_locator(metadata.get(VHDX_LOCATOR, b""))
    name = next((places[key] for key in ("relative_path", "absolute_win32_path", "volume_path") if key in places), "")
    need = describe_need("the parent disk", readable(name), image.folder, CONVERT_VHD)
    return Header(problem=need, needs_file=True)


def find_vhdx_metadata(image):
    """Return {id: content} of a vhdx's metadata items."""
    regions = image.read(192 * 1024, 64 * 1024)
    (count,) = struct.unpack_from("<I", regions.ljust(16, b"\0"), 8)
    for number in range(min(count, 2047)):
        entry = regions[16 + 32 * number : 48 + 32 * number].ljust(32, b"\0")
        if uuid.UUID(bytes_le=entry[:16]) == VHDX_METADATA:
            start, length = struct.unpack_from("<QI", entry, 16)
            return dict(find_metadata_items(image.read(start, min(length, MOST_HEADER_BYTES))))
    return {}


def find_metadata_items(table):
    """Yield (id, content) of the items in a vhdx's metadata region."""
    (count,) = struct.unpack_from("<H", table.ljust(12, b"\0"), 10)
    for number in range(min(count, 2047)):
        entry = table[32 + 32 * number : 64 + 32 * number].ljust(32, b"\0")
        offset, length = struct.unpack_from("<II", entry, 16)
        yield uuid.UUID(bytes_le=entry[:16]), table[offset : offset + length]


def parse_locator(locator):
    """Return {key: value} of a vhdx's parent locator."""
    (count,) = struct.unpack_from("<H", locator.ljust(20, b"\0"), 18)
    entries = [struct.unpack_from("<IIHH", locator.ljust(32 + 12 * count, b"\0"), 20 + 12 * n) for n in range(count)]

    def text(offset, length):
        return locator[offset : offset + length].decode("utf-16-le", errors="replace")

    return {text(key, key_length): text(value, value_length) for key, value, key_length, value_length in entries}


def read_vdi(image):
    """Return the Header of a vdi."""
    (kind,) = struct.unpack_from("<I", image.head, 0x4C)
    link, parent = image.head[0x1A8:0x1B8], image.head[0x1B8:0x1C8]
    if kind in VDI_KINDS or any(link) or any(parent):
        what = VDI_KINDS.get(kind, "a differencing disk")
        need = describe_need("its parent disk", f"with the id {uuid.UUID(bytes_le=parent)}", None, CLONE_VDI)
        return Header(problem=f"is {what}: it {need}", needs_file=True)
    (disk_size,) = struct.unpack_from("<Q", image.head, 0x170)
    return Header(-(-disk_size // SECTOR) * SECTOR or None)


def read_iso(image):
    """Return the Header of an iso.

    It is as large as its file, because partitions may follow its volume.
    """
    return Header(-(-image.size // SECTOR) * SECTOR)


def read_luks(image):
    """Return the Header of a LUKS volume, whose virtual size is its payload's."""
    (version,) = struct.unpack_from(">H", image.head, 6)
    if version == 1:
        (sectors,) = struct.unpack_from(">I", image.head, 104)
        offset, length = sectors * SECTOR, "dynamic"
    else:
        offset, length = find_luks2_segment(image)
    if offset is None or offset > image.size:
        return Header(None, "luks")
    return Header((image.size - offset if length == "dynamic" else length) or None, "luks")


def find_luks2_segment(image):
    """Return (offset, length) of the only segment of a LUKS2 volume.

    The length is "dynamic" up to the volume's end; (None, None) if the header has no single valid segment.
    """
    (header_size,) = struct.unpack_from(">Q", image.head, 8)
    try:
        area = image.read(4096, min(max(header_size, 4096), 4 * MOST_HEADER_BYTES) - 4096).split(b"\0")[0]
        (segment,) = json.loads(area)["segments"].values()
        length = segment["size"]
        return int(segment["offset"]), length if length == "dynamic" else int(length)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, None


class ImageFile(NamedTuple):
    """Open image: descriptor, first bytes (padded with zeros), size in bytes, and its folder or None."""

    file: int
    head: bytes
    size: int
    folder: str | None

    def read(self, offset, length):
        """Return the bytes at ``offset``, fewer at the file's end; none outside of it."""
        return os.pread(self.file, max(length, 0), offset) if 0 <= offset < self.size else b""


READERS = {
    "qcow2": read_qcow2,
    "vmdk": read_vmdk,
    "vhd": read_vhd,
    "vhdx": read_vhdx,
    "vdi": read_vdi,
    "iso": read_iso,
    "luks": read_luks,
}
