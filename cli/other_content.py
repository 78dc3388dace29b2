"""Content of files that are no disk images: packed files, documents, programs, films, text."""

import codecs

from cli.truncation import SECTOR

# Files that hold an image or another file in packed form: magic number → name. Most signatures stand at the start.
PACKED = {
    b"\x1f\x8b\x08": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"(\xb5/\xfd": "zstd",
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
    b"LZIP": "lzip",
    b"\x89LZO\0\r\n\x1a\n": "lzop",
    b"\x5d\0\0": "lzma",
    b"\x1f\x9d\x90": "compress",
    b"7z\xbc\xaf\x27\x1c": "7-zip",
    b"Rar!\x1a\x07": "rar",
    b"PK\x03\x04": "zip",
    b"0707": "cpio",
    b"MSWIM\0\0\0": "wim",
    b"\x3a\xff\x26\xed": "Android's sparse format",
}
TAR_MAGIC, TAR_OFFSET = b"ustar", 257
KERNEL_MAGIC, KERNEL_OFFSET = b"HdrS", 514
DMG_MAGIC = b"koly"  # begins the trailer, in the last sector
PROGRAMS = (b"\x7fELF", b"MZ\x90\0")
GIT_LFS = b"version https://git-lfs.github.com/spec/"
# Tab, line feed, form feed, carriage return and escape are characters of text.
NOT_CONTROLS = bytes({*range(32, 256), 9, 10, 12, 13, 27})
NOT_ASCII = bytes(range(128, 256))
FEWEST_ASCII = 0.7  # of text in other encodings; an erased flash disk (all 0xFF) has none
HTML = (b"<!doctype html", b"<html", b"<head", b"<?xml")
# The library's shorter signatures match by chance, and so do those of zeros.
FEWEST_BYTES = 3
# What these match are disks and file systems, which raw images hold.
DISK_WORDS = ("disk", "boot sector", "filesystem", "file allocation table", "luks", "iso-9660", "cd image")
# Signatures of file systems and volumes that a raw image holds without a partition table: (offset, magic number).
# Their sources are the formats' own headers, as util-linux's libblkid lists them.
VOLUMES = (
    (1080, b"\x53\xef"),  # ext2, ext3, ext4
    (0, b"XFSB"),
    (0x10040, b"_BHRfS_M"),  # btrfs
    (3, b"NTFS    "),
    (3, b"EXFAT   "),
    (54, b"FAT1"),
    (82, b"FAT32   "),
    (0, b"hsqs"),  # squashfs
    (1024, b"\xe2\xe1\xf5\xe0"),  # erofs
    (1024, b"\x10\x20\xf5\xf2"),  # f2fs
    (512, b"LABELONE"),  # LVM2
    (4086, b"SWAPSPACE2"),
    (3, b"-FVE-FS-"),  # BitLocker
)


def find_packing(head):
    """Return the name of the packing that a file begins with, or None."""
    if head[TAR_OFFSET:].startswith(TAR_MAGIC):
        return "tar"
    return next((name for magic, name in PACKED.items() if head.startswith(magic)), None)


def has_volume(head):
    """Return whether a file holds a file system or volume without a partition table."""
    return any(head[offset:].startswith(magic) for offset, magic in VOLUMES)


def describe_content(head, tail):
    """Return a reason such as "is text" for content that is no disk, else None.

    ``head`` are the first bytes, ``tail`` the last SECTOR.
    """
    if packing := find_packing(head):
        return f"is packed with {packing}; unpack it first"
    if tail.startswith(DMG_MAGIC):
        return "is an Apple disk image (dmg); convert it with: qemu-img convert -f dmg -O qcow2 IN OUT"
    if head.startswith(GIT_LFS):
        return "is a Git LFS pointer; get the file itself with: git lfs pull"
    if head[KERNEL_OFFSET:].startswith(KERNEL_MAGIC):
        return "is a Linux kernel"
    if head.startswith(PROGRAMS):
        return "is a program"
    if head.removeprefix(codecs.BOM_UTF8).lstrip()[:64].lower().startswith(HTML):
        return "is an HTML or XML page; a download may have failed"
    if is_text(head):
        return "is text"
    if has_volume(head):
        return None
    kind = find_known_kind(head)
    return f"looks like another kind of file: {kind}" if kind else None


def is_text(head):
    """Return whether a file begins with text, mostly of ASCII if it is not Unicode."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    if not head or head.translate(None, NOT_CONTROLS):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # which allows that the last letter is cut off
    except UnicodeDecodeError:
        return len(head.translate(None, NOT_ASCII)) >= FEWEST_ASCII * len(head)
    return True


def find_known_kind(head):
    """Return puremagic's name of a file's kind.

    None if no signature of enough bytes matches.
    """
    import puremagic  # only commands that read files need its table of signatures

    try:
        matches = puremagic.magic_string(head[: 8 * SECTOR])
    except puremagic.PureError:
        return None
    for match in matches:
        is_disk = any(word in match.name.lower() for word in DISK_WORDS)
        if len(match.byte_match.translate(None, b"\0\xff")) >= FEWEST_BYTES and not is_disk:
            return match.name
    return None
