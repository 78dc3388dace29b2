"""Detection of a file's disk format by its content, with safety checks."""

import logging
import os
import struct
from typing import NamedTuple

from cli.image_headers import READERS, VHD_FIXED, Header, ImageFile
from cli.image_parents import TO_QCOW2, TO_VMDK
from cli.other_content import describe_content, has_volume
from cli.truncation import SECTOR, find_needed_size, read_partitions
from cli.vmdk_descriptor import describe_vmdk_part

# Enough to detect every format; the inspectors of vmdk and vhdx need more to check it.
HEAD_BYTES = 64 * 1024 + SECTOR
MOST_BYTES = {"vmdk": 1024 * 1024 + 1024, "vhdx": 8 * 1024 * 1024}
TAIL_BYTES = 1536  # a streamOptimized vmdk has its valid header in a footer
IMAGE, NONE, SKIPPED, REFUSED = "image", "none", "skipped", "refused"
# What the ending of a file's name promises. An .img may have any format.
PROMISES = {f".{kind}": kind for kind in ("raw", "img", "qcow2", "vmdk", "vdi", "vhd", "vhdx", "iso", "ova")}
PACKED_NAMES = (".gz", ".xz", ".zst", ".bz2", ".lz4", ".zip", ".7z", ".tar", ".tgz", ".txz", ".lzma", ".rar")
RAW_NAMES = (".raw", ".img")
# What a file with the content of a raw disk is, if its name promises one of these.
PARTS = {
    "vmdk": "may be an extent of a flat or split vmdk, whose descriptor is another file",
    "vhd": "may be a vhd that has lost its footer, the last 512 bytes; copy it again",
}
# oslo's inspector refuses a descriptor that is not ASCII; file names in it may be.
TO_ASCII = bytes(range(128)) + b"?" * 128
# Formats that are named by what their file begins with, but that no inspector knows.
MAGICS = {"ploop": (b"WithoutFreeSpace", b"WithouFreSpacExt")}


class Detected(NamedTuple):
    """Result of a detection: ``verdict`` is IMAGE, NONE, SKIPPED or REFUSED.

    All but IMAGE have a reason; that of an IMAGE is a difference between its name and its content.
    ``is_guess`` if the format is raw only because nothing was recognised. ``needs_file`` if another file is needed.
    """

    verdict: str
    disk_format: str | None = None
    virtual_size: int | None = None
    reason: str = ""
    encryption: str | None = None
    is_guess: bool = False
    needs_file: bool = False


def detect_format(file, name, size, disk_formats, folder=None):
    """Return the Detected of an open regular file (a descriptor) called ``name``.

    ``folder`` is where its relative names of other files lead. Raises: OSError.
    """
    if size == 0:
        return Detected(SKIPPED if find_promise(name) else NONE, reason="is empty")
    head = os.pread(file, HEAD_BYTES, 0)
    image = ImageFile(file, head.ljust(HEAD_BYTES, b"\0"), size, folder)
    detected = compare_with_name(detect_content(image, head, name), name)
    return skip_unlisted(detected, disk_formats)


def detect_content(image, head, name):
    """Return the Detected of an image file by its content; ``head`` is not padded."""
    # Inspectors need a whole header. A short file gets a second try, padded; the length check refuses it later.
    matches = list(run_inspectors(image, head)) or run_inspectors(image, image.head)
    found = {kind: (inspector, broken) for kind, inspector, broken in matches}
    if not is_partitioned(head):
        found.pop("gpt", None)
    if set(found) <= {"gpt"} and has_fixed_vhd_footer(image):
        found = {"vhd": (None, None)}
    if set(found) == {"gpt", "iso"}:
        del found["gpt"]  # a hybrid iso, which boots from USB sticks too
    if len(found) > 1:
        kinds = ", ".join(sorted(found))
        return Detected(REFUSED, reason=f"matches several formats at once ({kinds}); create it again in one format")
    kind, (inspector, broken) = next(iter(found.items()), (None, (None, None)))
    if kind in (None, "gpt"):
        return judge_raw(image, head, name, is_disk=kind == "gpt")
    return judge_format(kind, inspector, broken, image)


def judge_format(kind, inspector, broken, image):
    """Return the Detected of a file that matches one format.

    The real cause of a refusal outranks the length of the file.
    """
    header, broken = read_header(kind, image, broken)
    if header.problem:
        return Detected(REFUSED, kind, reason=header.problem, needs_file=header.needs_file)
    if cut := describe_missing_bytes(kind, image):
        return Detected(REFUSED, kind, reason=cut)
    if broken:
        return Detected(REFUSED, reason=f"starts like {kind}, but cannot be parsed: {broken}")
    if failure := find_failure(kind, inspector, image):
        return Detected(REFUSED, kind, reason=failure)
    virtual_size = header.virtual_size if kind != "vhdx" else inspector.virtual_size or None
    return Detected(IMAGE, kind, virtual_size, encryption=header.encryption)


def read_header(kind, image, broken):
    """Return (Header, error or None) of an image; ``broken`` is the inspector's error."""
    try:
        return READERS[kind](image) if kind in READERS else Header(), broken
    except (struct.error, ValueError, IndexError) as error:  # offsets that lead nowhere
        return Header(), broken or str(error)


def describe_missing_bytes(kind, image):
    """Return the reason to refuse a truncated image, "" if it is whole."""
    if (needed := find_needed_size(kind, image.file, image.head, image.size)) <= image.size:
        return ""
    what = "partition table describes" if kind == "gpt" else "headers describe"
    return f"is truncated: its {what} {needed} bytes, the file has {image.size}; copy it again"


def run_inspectors(image, head):
    """Yield (format, inspector, error or None) of each format that may match."""
    for kind, inspector_class in load_inspectors().items():
        inspector, broken = inspector_class(), None
        try:
            inspector.eat_chunk(head[:SECTOR] + head[SECTOR:].translate(TO_ASCII) if kind == "vmdk" else head)
            if kind in MOST_BYTES and has_match(inspector):
                feed_rest(inspector, image, len(head), MOST_BYTES[kind])
            inspector.finish()
        except Exception as error:  # the content is untrusted, and an inspector may raise anything
            broken = " ".join(str(error).split())[:200] or type(error).__name__
        if has_match(inspector):
            yield kind, inspector, broken


def has_match(inspector):
    """Return whether the inspector detected its format.

    False if it has seen too little.
    """
    try:
        return inspector.format_match
    except Exception:
        return False


def load_inspectors():
    """Return {format: class} of oslo.utils' inspectors, which only commands import."""
    from oslo_utils.imageutils import format_inspector

    # Its warnings repeat the reasons of the verdicts.
    logging.getLogger(format_inspector.__name__).disabled = True
    return {name: kind for name, kind in format_inspector.ALL_FORMATS.items() if name != "raw"}


def feed_rest(inspector, image, position, most):
    """Pass the inspector up to ``most`` bytes after the head, and the tail of a vmdk."""
    is_vmdk = inspector.NAME == "vmdk"
    while position < min(image.size, most) and not inspector.complete:
        chunk = image.read(position, HEAD_BYTES)
        if not chunk:
            return
        inspector.eat_chunk(chunk.translate(TO_ASCII) if is_vmdk else chunk)
        position += len(chunk)
    if is_vmdk and image.size > position:
        inspector.eat_chunk(image.read(max(image.size - TAIL_BYTES, 0), TAIL_BYTES))


def find_failure(kind, inspector, image):
    """Return the reason of the first failed safety check, or ""."""
    if kind not in ("vmdk", "qed"):  # READERS check the others
        return ""
    try:
        inspector.safety_check()
    except Exception as error:
        check, failure = next(iter(getattr(error, "failures", {"format": error}).items()))
    else:
        return ""
    if kind == "qed":
        return f"has the unmaintained format qed; convert it with: {TO_QCOW2}"
    if check == "footer":
        return f"is a vmdk whose footer contradicts its header ({failure}); copy it again"
    return f"is a vmdk that may refer to other files ({failure}); convert it with: {TO_VMDK}"


def judge_raw(image, head, name, is_disk):
    """Return the Detected of a file that matches no format.

    ``is_disk`` if it has a partition table.
    """
    virtual_size = -(-image.size // SECTOR) * SECTOR  # as qemu-img has it
    if is_disk:
        if cut := describe_missing_bytes("gpt", image):
            return Detected(REFUSED, "raw", reason=cut)
        return Detected(IMAGE, "raw", virtual_size)
    if part := describe_vmdk_part(image):
        return Detected(REFUSED, "vmdk", reason=part)
    if ploop := next((kind for kind, magics in MAGICS.items() if head.startswith(magics)), None):
        return Detected(IMAGE, ploop)
    reason = describe_content(head, image.read(image.size - SECTOR, SECTOR))
    if reason or not name.lower().endswith(RAW_NAMES):
        return Detected(NONE, reason=reason or "has no known image format")
    if image.size % SECTOR:
        length = f"{image.size} bytes are no multiple of {SECTOR}, so it is no raw disk"
        return Detected(NONE, reason=f"has no known image format, and {length}")
    return Detected(IMAGE, "raw", virtual_size, is_guess=not has_volume(head))


def find_promise(name):
    """Return the format that a file's name promises, one of PROMISES, or None."""
    stem, ending = os.path.splitext(name.lower())
    while ending in PACKED_NAMES:
        stem, ending = os.path.splitext(stem)
    return PROMISES.get(ending)


def compare_with_name(detected, name):
    """Return ``detected``, with the difference to what the file's name promises."""
    promised = find_promise(name)
    if promised is None or detected.verdict not in (NONE, IMAGE):
        return detected
    if detected.verdict == NONE:
        return detected._replace(verdict=SKIPPED, reason=complete_reason(detected.reason, promised))
    if promised in ("img", detected.disk_format):
        return detected
    if detected.disk_format == "raw" and promised in PARTS:
        return detected._replace(
            verdict=REFUSED, reason=f"is named .{promised}, but has no header of one; it {PARTS[promised]}"
        )
    return detected._replace(reason=f"is named .{promised}, but its format is {detected.disk_format}")


def complete_reason(reason, promised):
    """Return the reason why a file is no image, with what its name lets expect."""
    return f"{reason}; it {PARTS[promised]}" if promised in PARTS and reason.startswith("has no known") else reason


def skip_unlisted(detected, disk_formats):
    """Return ``detected``, or SKIPPED if its format is not one of ``disk_formats``."""
    if detected.verdict == IMAGE and detected.disk_format not in disk_formats:
        reason = f"has format {detected.disk_format}, which [api] disk_formats does not list"
        return Detected(SKIPPED, reason=reason)
    return detected


def has_signature(disk_format):
    """Return whether every image of a format has a signature that is checked here."""
    return disk_format in READERS or disk_format in MAGICS


def is_partitioned(head):
    """Return whether the first sector has a partition table with a partition.

    Linux kernels and boot loaders have its signature too, without partitions.
    """
    if len(head) < SECTOR or head[514:518] == b"HdrS":
        return False
    bootable = [head[446 + 16 * number] for number in range(4)]
    return all(each in (0, 0x80) for each in bootable) and any(
        kind and length for kind, _, length in read_partitions(head)
    )


def has_fixed_vhd_footer(image):
    """Return whether a file is a fixed vhd, whose only header is a footer."""
    footer = image.read(image.size - SECTOR, SECTOR)
    if len(footer) < SECTOR or not footer.startswith(b"conectix"):
        return False
    disk_size, kind = struct.unpack_from(">Q4xI", footer, 48)
    return kind == VHD_FIXED and disk_size <= image.size - SECTOR
