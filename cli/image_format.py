"""What a file is, by its content: one of Glance's disk formats, no image, or one that is refused."""

import logging
import os
import struct
from typing import NamedTuple

from cli.truncation import bytes_needed

# Every format but two says what it is within this; those two are read further only where they have begun.
HEAD_BYTES = 64 * 1024
READ_OF = {"vmdk": 1024 * 1024 + 1024, "vhdx": 8 * 1024 * 1024}
TAIL_BYTES = 1536  # where a vmdk that was written as a stream keeps what counts
SECTOR = 512
RAW_NAMES = (".raw", ".img")
IMAGE, NONE, SKIPPED, REFUSED = "image", "none", "skipped", "refused"
# What also bears the names of raw images, and is none as it is.
WRAPPED = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"(\xb5/\xfd": "zstd",
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
    b"0707": "cpio",
    b"PK\x03\x04": "zip",
}
DESCRIPTOR = b"# disk descriptorfile"  # in any letters; an inspector knows one of ASCII only
CONVERT = "; qemu-img convert makes a file of its own of it"
REASONS = {
    ("qcow2", "backing_file"): f"has a backing file{{backing}}, so that it is no image by itself{CONVERT}",
    ("qcow2", "data_file"): f"keeps its data in another file (data_file){CONVERT}",
    ("qcow2", "unknown_features"): f"has qcow2 features or a version that not every reader knows{CONVERT}",
    ("vmdk", "descriptor"): f"is a vmdk that may name other files ({{failure}}){CONVERT}",
    ("vmdk", "footer"): "is a vmdk whose end contradicts its beginning ({failure})",
    ("qed", "banned"): f"is qed, that nobody maintains{CONVERT}",
}


class Detected(NamedTuple):
    """``verdict`` is IMAGE, NONE, SKIPPED or REFUSED; all but the first have a reason instead of a format."""

    verdict: str
    disk_format: str | None = None
    virtual_size: int | None = None
    reason: str = ""


def detect(file, name, size, disk_formats):
    """What the open file is (a descriptor, of a regular file), which bears ``name``. Raises OSError."""
    if size == 0:
        return Detected(SKIPPED, reason="is empty") if is_raw_name(name) else Detected(NONE, reason="is empty")
    head = os.pread(file, HEAD_BYTES, 0)
    padded, found = head.ljust(HEAD_BYTES, b"\0"), {}
    # An inspector knows no header that the file ends in; that it ends there is said below.
    for kind, inspector, broken in list(inspected(file, head, size)) or inspected(file, padded, size):
        if broken:
            return Detected(REFUSED, reason=f"begins like {kind}, and is broken: {broken}")
        found[kind] = inspector
    if not is_partitioned(head):
        found.pop("gpt", None)
    if set(found) <= {"gpt"} and (disk_size := fixed_vhd_size(file, size)) is not None:
        return known(Detected(IMAGE, "vhd", disk_size), disk_formats)
    if set(found) == {"gpt", "iso"}:
        del found["gpt"]  # a hybrid, that boots from a stick too
    if len(found) > 1:
        return Detected(REFUSED, reason=f"is several formats at once: {', '.join(sorted(found))}")
    if not found or "gpt" in found:
        judged = known(raw(head, name, size, is_sure=bool(found)), disk_formats)
        return whole(judged, "gpt" if found else None, file, padded, size)
    ((kind, inspector),) = found.items()
    judged = judge(kind, inspector, file, padded)
    if kind == "luks":
        # The inspector counts what it was shown, not the file.
        judged = judged._replace(virtual_size=max(inspector.virtual_size - inspector.actual_size + size, 0) or None)
    return whole(known(judged, disk_formats), kind, file, padded, size)


def whole(judged, kind, file, head, size):
    """What was judged, unless it ends too early, which says more than that what is missing is missing."""
    if judged.verdict not in (IMAGE, REFUSED) or (needed := bytes_needed(kind, file, head, size)) <= size:
        return judged
    return Detected(REFUSED, reason=f"is cut short: its header speaks of {needed} bytes, and it has {size}")


def inspected(file, head, size):
    """(kind, inspector, what is wrong with it or None) of each format that the file begins like."""
    for kind, inspector_class in format_inspectors().items():
        inspector, broken = inspector_class(), None
        try:
            inspector.eat_chunk(head)
            if kind in READ_OF and matches(inspector):
                read_on(inspector, file, size, READ_OF[kind])
            inspector.finish()
        except Exception as error:  # it parses what anybody may have made
            broken = " ".join(str(error).split())[:200] or type(error).__name__
        if matches(inspector):
            yield kind, inspector, broken


def matches(inspector):
    try:
        return inspector.format_match
    except Exception:
        return False  # it has not come so far as to know


def format_inspectors():
    """{name: class} of OpenStack's own inspectors; imported here, since a server has no use for them."""
    from oslo_utils.imageutils import format_inspector

    # What it would say on the terminal, the verdict says.
    logging.getLogger(format_inspector.__name__).disabled = True
    return {name: kind for name, kind in format_inspector.ALL_FORMATS.items() if name != "raw"}


def read_on(inspector, file, size, most):
    position = HEAD_BYTES
    while position < min(size, most) and not inspector.complete:
        chunk = os.pread(file, HEAD_BYTES, position)
        if not chunk:
            return
        inspector.eat_chunk(chunk)
        position += len(chunk)
    if inspector.NAME == "vmdk" and size > position:
        inspector.eat_chunk(os.pread(file, TAIL_BYTES, max(size - TAIL_BYTES, 0)))


def judge(kind, inspector, file, head):
    """Of one that is just one format."""
    failures = {} if kind == "luks" else failures_of(inspector)
    if kind == "qcow2" and head[4:8] == b"\0\0\0\2":
        failures.pop("data_file", None)  # version 2 has no such flag: other things are there
    if failures:
        check, failure = next(iter(failures.items()))
        reason = REASONS.get((kind, check), f"is {kind}, and unsafe: {{failure}}")
        backing = backing_file(file, head) if kind == "qcow2" else ""
        return Detected(REFUSED, reason=reason.format(failure=failure, backing=backing))
    return Detected(IMAGE, kind, inspector.virtual_size or None)


def failures_of(inspector):
    """{check: what it says}"""
    try:
        inspector.safety_check()
    except Exception as error:
        found = getattr(error, "failures", {"format": error})
        return {check: str(failure) for check, failure in found.items()}
    return {}


def backing_file(file, head):
    """Its name, to be shown."""
    offset, length = struct.unpack_from(">QI", head, 8)
    try:
        name = os.pread(file, min(length, 1023), offset) if offset < 1 << 32 else b""
    except OSError:
        name = b""
    text = name.decode(errors="replace")
    return f" ({''.join(letter if letter.isprintable() else '?' for letter in text)})" if text else ""


def raw(head, name, size, is_sure):
    """Of a file that has a partition table at most. ``is_sure``: it has."""
    if is_sure:
        return Detected(IMAGE, "raw", size)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[: len(DESCRIPTOR)].lower() == DESCRIPTOR:
        return Detected(REFUSED, reason=REASONS["vmdk", "descriptor"].format(failure="a descriptor"))
    if not is_raw_name(name):
        return Detected(NONE, reason="has no format that is known")
    wrapped = next((packer for magic, packer in WRAPPED.items() if head.startswith(magic)), None)
    if wrapped:
        return Detected(SKIPPED, reason=f"is packed ({wrapped})")
    return Detected(IMAGE, "raw", size)


def is_raw_name(name):
    return name.lower().endswith(RAW_NAMES)


def known(detected, disk_formats):
    if detected.verdict == IMAGE and detected.disk_format not in disk_formats:
        return Detected(SKIPPED, reason=f"is {detected.disk_format}, that [api] disk_formats does not have")
    return detected


def is_partitioned(head):
    """Whether the first sector's partition table has partitions; kernels and boot loaders bear its signature too."""
    if len(head) < SECTOR or head[514:518] == b"HdrS":
        return False
    entries = [struct.unpack_from("<B3xB3xII", head, 446 + 16 * number) for number in range(4)]
    return all(boot in (0, 0x80) for boot, *_ in entries) and any(kind and length for _, kind, _, length in entries)


def fixed_vhd_size(file, size):
    """The disk's size where the file is a vhd that says so at its end alone, else None."""
    if size <= SECTOR:
        return None
    footer = os.pread(file, SECTOR, size - SECTOR)
    if len(footer) < SECTOR or not footer.startswith(b"conectix"):
        return None
    disk_size, disk_type = struct.unpack_from(">Q4xI", footer, 48)
    return disk_size if disk_type == 2 and disk_size <= size - SECTOR else None
