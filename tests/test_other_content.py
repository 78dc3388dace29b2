"""Files that are no disk images although their names may promise one, and parts of a disk."""

import gzip
import io
import lzma
import os
import struct
import subprocess
import tarfile

import pytest
from support.image_files import MEBIBYTE, convert, detected, make, make_disk, make_raw, need, partition_table

from cli.image_format import IMAGE, NONE, REFUSED, SKIPPED
from cli.other_content import describe_content

SECTOR = 512


def tar():
    """Return a tar archive of one file."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("disk.raw"), io.BytesIO())
    return content.getvalue()


def kernel():
    """Return the first sectors of a Linux kernel, which has the signature of a boot sector."""
    return partition_table()[:510] + b"\x55\xaa" + b"\xeb\x66HdrS" + b"\0" * 600


def dmg():
    """Return an Apple disk image, known by its last sector only."""
    return os.urandom(SECTOR) + b"koly".ljust(SECTOR, b"\0")


OTHERS = {
    "HTML": (b"\n<!DOCTYPE html>\n<html><title>404</title></html>", "is an HTML or XML page"),
    "HTML in capitals": (b"\xef\xbb\xbf<HTML><BODY>", "is an HTML or XML page"),
    "text": ("Größe: 4 GB\n".encode() * 900, "is text"),
    "text in another encoding": ("Größe: 4 GB\n".encode("latin-1") * 900, "is text"),
    "UTF-16": ("Größe\n".encode("utf-16") * 90, "is text"),
    "Chinese text": ("磁盘映像不存在。\n".encode() * 90, "is text"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a Git LFS pointer"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n\0", "looks like another kind of file: Adobe Portable Document Format"),
    "program": (b"\x7fELF\x02\x01\x01".ljust(64, b"\0"), "is a program"),
    "Windows program": (b"MZ\x90\0\3\0\0\0".ljust(512, b"\0"), "is a program"),
    "film": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", "looks like another kind of file: MPEG-4 video"),
    "picture": (b"\x89PNG\r\n\x1a\n\0", "looks like another kind of file: Portable Network Graphics"),
    "database": (b"SQLite format 3\0".ljust(100, b"\0"), "looks like another kind of file: SQLite database"),
    "kernel": (kernel(), "is a Linux kernel"),
    "dmg": (dmg(), "is an Apple disk image (dmg)"),
    "gzip": (gzip.compress(b"disk"), "is packed with gzip"),
    "xz": (lzma.compress(b"disk"), "is packed with xz"),
    "zstd": (b"(\xb5/\xfd\4", "is packed with zstd"),
    "bzip2": (b"BZh91AY&SY", "is packed with bzip2"),
    "cpio": (b"070701", "is packed with cpio"),
    "zip": (b"PK\3\4\x14\0", "is packed with zip"),
    "7-zip": (b"7z\xbc\xaf\x27\x1c", "is packed with 7-zip"),
    "tar": (tar(), "is packed with tar"),
}


@pytest.mark.parametrize(("content", "reason"), OTHERS.values(), ids=OTHERS)
def test_another_kind_of_file_is_no_raw_disk_and_is_named(tmp_path, content, reason):
    path = tmp_path / "file"
    path.write_bytes(content.ljust(-(-len(content) // SECTOR) * SECTOR, b"\0") if b"\0" in content else content)

    for name in ("disk.img", "disk.raw", "disk.qcow2", "disk.qcow2.xz"):
        assert detected(path, name).verdict == SKIPPED
        assert detected(path, name).reason.startswith(reason)
    assert detected(path, "file.bin").verdict == NONE


FILE_SYSTEMS = {
    "ext4": ("mkfs.ext4", ["-q", "-F"], "e2fsprogs", MEBIBYTE),
    "fat": ("mkfs.vfat", [], "dosfstools", MEBIBYTE),
    "xfs": ("mkfs.xfs", ["-q"], "xfsprogs", 320 * MEBIBYTE),
    "btrfs": ("mkfs.btrfs", ["-q"], "btrfs-progs", 128 * MEBIBYTE),
    "swap": ("mkswap", ["-q"], "util-linux", MEBIBYTE),
}


@pytest.mark.parametrize(("program", "options", "package", "size"), FILE_SYSTEMS.values(), ids=FILE_SYSTEMS)
def test_a_file_system_without_partitions_is_a_raw_image(tmp_path, program, options, package, size):
    need(program, package)
    path = make_disk(tmp_path / "disk.img", size=size)
    subprocess.run([program, *options, path], check=True, capture_output=True)

    assert detected(path)[:3] == (IMAGE, "raw", size)
    assert not detected(path).is_guess


SIGNATURES = {
    "squashfs": (0, b"hsqs"),
    "NTFS": (0, b"\xebR\x90NTFS    "),
    "BitLocker": (0, b"\xebX\x90-FVE-FS-"),
    "LVM": (512, b"LABELONE"),
}


@pytest.mark.parametrize(("offset", "signature"), SIGNATURES.values(), ids=SIGNATURES)
def test_a_volume_that_is_known_by_its_signature_is_a_raw_image(tmp_path, offset, signature):
    path = make_disk(tmp_path / "disk.img", bytes(offset) + signature)

    assert detected(path)[:3] == (IMAGE, "raw", 8 * MEBIBYTE)
    assert not detected(path).is_guess


def test_random_bytes_are_never_taken_for_another_kind_of_file():
    # The content of an encrypted volume. A signature of three bytes would match once in some 100,000 of them.
    assert [describe_content(os.urandom(4096), b"") for _ in range(500)] == [None] * 500


def test_an_erased_flash_disk_is_a_raw_image(tmp_path):
    path = tmp_path / "flash.img"
    path.write_bytes(b"\xff" * MEBIBYTE)

    assert detected(path)[:3] == (IMAGE, "raw", MEBIBYTE)


def test_a_length_that_no_disk_has_is_told(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(os.urandom(1000))

    assert detected(path).verdict == SKIPPED
    assert detected(path).reason == (
        "has no known image format, and 1000 bytes are no multiple of 512, so it is no raw disk"
    )


@pytest.mark.parametrize("subformat", ["twoGbMaxExtentFlat", "monolithicFlat", "twoGbMaxExtentSparse"])
def test_no_part_of_a_vmdk_is_an_image(tmp_path, subformat):
    disk = make_disk(tmp_path / "disk.raw", partition_table(length=14 * 1024))
    convert(disk, tmp_path / "parts.vmdk", "vmdk", f"subformat={subformat}")
    disk.unlink()

    found = {path.name: detected(path) for path in tmp_path.iterdir()}

    assert len(found) == 2
    assert [each.verdict for each in found.values()] == [REFUSED, REFUSED]
    extent = next(name for name in found if name != "parts.vmdk")
    assert f"whose content is in other files ({extent})" in found["parts.vmdk"].reason
    assert "extent of a" in found[extent].reason


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le"])
def test_a_descriptor_is_known_in_every_encoding(tmp_path, encoding):
    text = '# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 2048 FLAT "größe-flat.vmdk" 0\n'
    path = tmp_path / "disk.vmdk"
    path.write_bytes(text.encode(encoding))

    assert detected(path).verdict == REFUSED
    assert "is the descriptor of a vmdk whose content is in other files (größe-flat.vmdk)" in detected(path).reason


def test_a_descriptor_whose_extents_are_missing_advises_no_conversion(tmp_path):
    path = make(tmp_path / "disk.vmdk", "vmdk", "subformat=monolithicFlat")
    whole = detected(path).reason
    (tmp_path / "disk-flat.vmdk").unlink()

    assert "qemu-img convert" in whole
    assert "qemu-img" not in detected(path).reason
    assert "disk-flat.vmdk" in detected(path).reason


def test_an_old_extent_of_esx_is_refused(tmp_path):
    path = make_disk(tmp_path / "disk.vmdk", b"COWD\1\0\0\0")

    assert detected(path).verdict == REFUSED
    assert detected(path).reason.startswith("is an extent of a vmdk in the old format COWD")


def test_a_vhd_without_its_footer_is_refused(tmp_path):
    disk = make_disk(tmp_path / "disk.raw", partition_table(length=14 * 1024))
    path = convert(disk, tmp_path / "disk.vhd", "vpc", "subformat=fixed", "force_size=on")
    whole = detected(path)
    os.truncate(path, path.stat().st_size - SECTOR)

    assert whole[:2] == (IMAGE, "vhd")
    assert detected(path).verdict == REFUSED
    assert detected(path).reason.endswith("it may be a vhd that has lost its footer, the last 512 bytes; copy it again")


def test_a_disk_whose_partitions_reach_beyond_its_end_is_refused(tmp_path):
    path = make_disk(tmp_path / "card.img", partition_table(start=2048, length=14336))
    assert detected(path)[:2] == (IMAGE, "raw")

    os.truncate(path, 4 * MEBIBYTE)

    assert detected(path).verdict == REFUSED
    assert detected(path).reason.startswith("is truncated: its partition table describes 8388608 bytes")


def test_a_protective_partition_may_be_longer_than_the_disk(tmp_path):
    header = b"EFI PART".ljust(32, b"\0") + struct.pack("<Q", 8 * MEBIBYTE // SECTOR - 1)
    path = make_disk(tmp_path / "disk.img", partition_table(0xEE, 1, 0xFFFFFFFF) + header)

    assert detected(path)[:2] == (IMAGE, "raw")


def test_a_name_that_promises_another_format_is_told(tmp_path):
    path = make(tmp_path / "disk.vdi", "qcow2")

    assert detected(path)[:2] == (IMAGE, "qcow2")
    assert detected(path).reason == "is named .vdi, but its format is qcow2"
    assert detected(path, "disk.img").reason == ""
    assert detected(make_raw(tmp_path / "raw"), "disk.qcow2").verdict == SKIPPED
