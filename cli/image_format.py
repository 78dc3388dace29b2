"""Detection of a file's disk format by its content, with safety checks."""

import logging
import os
import struct
from typing import NamedTuple

from cli.truncation import find_needed_size

# Enough to detect every format; the inspectors of vmdk and vhdx need more to check it.
HEAD_BYTES = 64 * 1024
MOST_BYTES = {"vmdk": 1024 * 1024 + 1024, "vhdx": 8 * 1024 * 1024}
TAIL_BYTES = 1536  # a streamOptimized vmdk has its valid header in a footer
SECTOR = 512
RAW_NAMES = (".raw", ".img")
IMAGE, NONE, SKIPPED, REFUSED = "image", "none", "skipped", "refused"
# Files that may be named like raw images: magic number → format.
ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"(\xb5/\xfd": "zstd",
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
    b"0707": "cpio",
    b"PK\x03\x04": "zip",
}
DESCRIPTOR = b"# disk descriptorfile"  # oslo's inspector does not detect a descriptor that is not ASCII
CONVERT = "with: qemu-img convert -O {format} IN OUT"
TO_QCOW2, TO_VMDK = CONVERT.format(format="qcow2"), CONVERT.format(format="vmdk")
# (format, failed safety check) → message; {failure} is the inspector's own text.
REASONS = {
    ("qcow2", "backing_file"): f"needs {{backing_file}}; flatten it {TO_QCOW2}",
    ("qcow2", "data_file"): f"keeps its data in an external data file; merge it {TO_QCOW2}",
    ("qcow2", "unknown_features"): f"uses qcow2 features that some programs cannot read; convert it {TO_QCOW2}",
    ("vmdk", "descriptor"): f"is a vmdk that may refer to other files ({{failure}}); convert it {TO_VMDK}",
    ("vmdk", "footer"): "is a vmdk whose footer contradicts its header ({failure})",
    ("qed", "banned"): f"has the unmaintained format qed; convert it {TO_QCOW2}",
}


class Detected(NamedTuple):
    """Result of a detection: ``verdict`` is IMAGE, NONE, SKIPPED or REFUSED.

    All but IMAGE have a reason.
    """

    verdict: str
    disk_format: str | None = None
    virtual_size: int | None = None
    reason: str = ""


def detect_format(file, name, size, disk_formats):
    """Return the Detected of an open regular file (a descriptor) called ``name``.

    Raises: OSError.
    """
    if size == 0:
        return Detected(SKIPPED if is_raw_name(name) else NONE, reason="is empty")
    head = os.pread(file, HEAD_BYTES, 0)
    padded, found = head.ljust(HEAD_BYTES, b"\0"), {}
    # Inspectors need a whole header. A short file gets a second try, padded; require_whole refuses it later.
    for kind, inspector, broken in list(run_inspectors(file, head, size)) or run_inspectors(file, padded, size):
        if broken:
            return Detected(REFUSED, reason=f"starts like {kind}, but cannot be parsed: {broken}")
        found[kind] = inspector
    if not is_partitioned(head):
        found.pop("gpt", None)
    if set(found) <= {"gpt"} and (disk_size := find_fixed_vhd_size(file, size)) is not None:
        return skip_unlisted(Detected(IMAGE, "vhd", disk_size), disk_formats)
    if set(found) == {"gpt", "iso"}:
        del found["gpt"]  # a hybrid iso, which boots from USB sticks too
    if len(found) > 1:
        kinds = ", ".join(sorted(found))
        return Detected(REFUSED, reason=f"matches several formats at once ({kinds}); create it again in one format")
    kind, inspector = next(iter(found.items()), (None, None))
    if kind in (None, "gpt"):
        detected = judge_raw(head, name, size, is_disk=kind == "gpt")
    else:
        detected = judge_format(kind, inspector, file, padded, size)
    return require_whole(skip_unlisted(detected, disk_formats), kind, file, padded, size)


def require_whole(detected, kind, file, head, size):
    """Return ``detected``, or a refusal if an image of this ``kind`` is truncated."""
    if detected.verdict not in (IMAGE, REFUSED) or (needed := find_needed_size(kind, file, head, size)) <= size:
        return detected
    reason = f"is truncated: its headers describe {needed} bytes, the file has {size}; copy it again"
    return Detected(REFUSED, reason=reason)


def run_inspectors(file, head, size):
    """Yield (format, inspector, error or None) of each format that may match."""
    for kind, inspector_class in load_inspectors().items():
        inspector, broken = inspector_class(), None
        try:
            inspector.eat_chunk(head)
            if kind in MOST_BYTES and has_match(inspector):
                feed_rest(inspector, file, size, MOST_BYTES[kind])
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


def feed_rest(inspector, file, size, most):
    """Pass the inspector up to ``most`` bytes after the head, and the tail of a vmdk."""
    position = HEAD_BYTES
    while position < min(size, most) and not inspector.complete:
        chunk = os.pread(file, HEAD_BYTES, position)
        if not chunk:
            return
        inspector.eat_chunk(chunk)
        position += len(chunk)
    if inspector.NAME == "vmdk" and size > position:
        inspector.eat_chunk(os.pread(file, TAIL_BYTES, max(size - TAIL_BYTES, 0)))


def judge_format(kind, inspector, file, head, size):
    """Return the Detected of a file that matches one format, after its safety checks."""
    if kind == "luks":
        # The inspector subtracts its header from the bytes that it was given, not from the file's size.
        return Detected(IMAGE, kind, max(inspector.virtual_size - inspector.actual_size + size, 0) or None)
    failures = find_failures(inspector)
    if kind == "qcow2" and head[4:8] == b"\0\0\0\2":
        failures.pop("data_file", None)  # version 2 has no feature flags; its header has other fields there
    if not failures:
        return Detected(IMAGE, kind, inspector.virtual_size or None)
    check, failure = next(iter(failures.items()))
    reason = REASONS.get((kind, check), f"has format {kind}, but is unsafe: {{failure}}")
    backing_file = describe_backing_file(file, head) if kind == "qcow2" else ""
    return Detected(REFUSED, reason=reason.format(failure=failure, backing_file=backing_file))


def find_failures(inspector):
    """Return {check: message} of failed safety checks."""
    try:
        inspector.safety_check()
    except Exception as error:
        found = getattr(error, "failures", {"format": error})
        return {check: str(failure) for check, failure in found.items()}
    return {}


def describe_backing_file(file, head):
    """Return the name of a qcow2's backing file, in printable characters."""
    offset, length = struct.unpack_from(">QI", head, 8)
    try:
        name = os.pread(file, min(length, 1023), offset) if offset < 1 << 32 else b""
    except OSError:
        name = b""
    text = "".join(letter if letter.isprintable() else "?" for letter in name.decode(errors="replace"))
    return f"the backing file {text}" if text else "a backing file"


def judge_raw(head, name, size, is_disk):
    """Return the Detected of a file that matches no format.

    ``is_disk`` if it has a partition table.
    """
    if is_disk:
        return Detected(IMAGE, "raw", size)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[: len(DESCRIPTOR)].lower() == DESCRIPTOR:
        return Detected(REFUSED, reason=REASONS["vmdk", "descriptor"].format(failure="a descriptor"))
    if not is_raw_name(name):
        return Detected(NONE, reason="has no known image format")
    archive = next((kind for magic, kind in ARCHIVES.items() if head.startswith(magic)), None)
    if archive:
        return Detected(SKIPPED, reason=f"is compressed or an archive ({archive}); unpack it first")
    return Detected(IMAGE, "raw", size)


def is_raw_name(name):
    """Return whether a file is named like a raw image."""
    return name.lower().endswith(RAW_NAMES)


def skip_unlisted(detected, disk_formats):
    """Return ``detected``, or SKIPPED if its format is not one of ``disk_formats``."""
    if detected.verdict == IMAGE and detected.disk_format not in disk_formats:
        reason = f"has format {detected.disk_format}, which [api] disk_formats does not list"
        return Detected(SKIPPED, reason=reason)
    return detected


def is_partitioned(head):
    """Return whether the first sector has a partition table with a partition.

    Linux kernels and boot loaders have its signature too, without partitions.
    """
    if len(head) < SECTOR or head[514:518] == b"HdrS":
        return False
    entries = [struct.unpack_from("<B3xB3xII", head, 446 + 16 * number) for number in range(4)]
    return all(boot in (0, 0x80) for boot, *_ in entries) and any(kind and length for _, kind, _, length in entries)


def find_fixed_vhd_size(file, size):
    """Return the disk size of a fixed vhd, whose only header is a footer.

    None for any other file.
    """
    if size <= SECTOR:
        return None
    footer = os.pread(file, SECTOR, size - SECTOR)
    if len(footer) < SECTOR or not footer.startswith(b"conectix"):
        return None
    disk_size, disk_type = struct.unpack_from(">Q4xI", footer, 48)
    return disk_size if disk_type == 2 and disk_size <= size - SECTOR else None
