"""Headers of image formats, compared with qemu-img: other files, encryption, virtual sizes, reasons."""

import json
import os
import struct
import subprocess
import uuid

import pytest
from support.image_files import (
    FORMATS,
    MEBIBYTE,
    convert,
    detected,
    make,
    make_disk,
    make_iso,
    make_raw,
    partition_table,
)

from cli.image_format import IMAGE, REFUSED

SECTOR = 512
EVERY_FORMAT = (*FORMATS, "vhdx", "luks")


def qemu_size(path, kind):
    """Return the virtual size that qemu-img reports."""
    command = ["qemu-img", "info", "-f", kind, "--output=json", path]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["virtual-size"]


def patch(path, *changes):
    """Overwrite bytes of a file, given as (offset, bytes) pairs."""
    with path.open("r+b") as file:
        for offset, content in changes:
            file.seek(offset)
            file.write(content)
    return path


def vmdk_overlay(folder):
    make(folder / "base.vmdk", "vmdk")
    command = ["qemu-img", "create", "-q", "-f", "vmdk", "-b", folder / "base.vmdk", "-F", "vmdk", folder / "top"]
    subprocess.run(command, check=True)
    return folder / "top"


def qcow2_overlay(folder):
    make(folder / "base.qcow2", "qcow2")
    return make(folder / "top", "qcow2", f"backing_file={folder / 'base.qcow2'}", "backing_fmt=qcow2")


def qcow2_with_data_file(folder):
    return make(folder / "top", "qcow2", f"data_file={folder / 'data.raw'}", "data_file_raw=on")


def vhd_overlay(folder):
    """Return a differencing vhd; its dynamic header names the parent in UTF-16."""
    (folder / "eltern-größe.vhd").touch()
    path = make(folder / "top", "vpc")
    (offset,) = struct.unpack_from(">Q", path.read_bytes(), 16)
    name = "eltern-größe.vhd".encode("utf-16-be").ljust(SECTOR, b"\0")
    return patch(path, (60, struct.pack(">I", 4)), (offset + 64, name))


def vhdx_overlay(folder):
    """Return a vhdx with a parent: a flag of its file parameters, and a parent locator."""
    (folder / "parent.vhdx").touch()
    path = make(folder / "top", "vhdx")
    content = path.read_bytes()
    regions = {content[at : at + 16]: content[at + 16 : at + 32] for at in range(196624, 196624 + 64, 32)}
    metadata, _ = struct.unpack_from("<QI", regions[uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le])
    (count,) = struct.unpack_from("<H", content, metadata + 10)
    (parameters,) = struct.unpack_from("<I", content, metadata + 32 + 16)
    key, value = "relative_path".encode("utf-16-le"), ".\\parent.vhdx".encode("utf-16-le")
    locator = bytes(18) + struct.pack("<HIIHH", 1, 32, 32 + len(key), len(key), len(value)) + key + value
    entry = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c").bytes_le
    entry += struct.pack("<II", 512 * 1024, len(locator)).ljust(16, b"\0")
    return patch(
        path,
        (metadata + parameters + 4, b"\2"),
        (metadata + 10, struct.pack("<H", count + 1)),
        (metadata + 32 + 32 * count, entry),
        (metadata + 512 * 1024, locator),
    )


OVERLAYS = {
    "vmdk": (vmdk_overlay, "the parent disk {folder}/base.vmdk", "base.vmdk", "qemu-img convert -O vmdk"),
    "qcow2": (qcow2_overlay, "the backing file {folder}/base.qcow2", "base.qcow2", "qemu-img convert -O qcow2"),
    "data": (qcow2_with_data_file, "the data file {folder}/data.raw", "data.raw", "qemu-img convert -O qcow2"),
    "vhd": (vhd_overlay, "the parent disk eltern-größe.vhd", "eltern-größe.vhd", "Convert-VHD"),
    "vhdx": (vhdx_overlay, "the parent disk .\\parent.vhdx", "parent.vhdx", "Convert-VHD"),
}


@pytest.mark.parametrize(("create", "need", "other", "command"), OVERLAYS.values(), ids=OVERLAYS)
def test_a_disk_that_needs_another_file_is_refused_and_the_file_named(tmp_path, create, need, other, command):
    path = create(tmp_path)
    need = f"needs {need.format(folder=tmp_path)}"

    found = detected(path, formats=EVERY_FORMAT)
    (tmp_path / other).unlink()
    alone = detected(path, formats=EVERY_FORMAT)

    assert (found.verdict, found.needs_file) == (alone.verdict, alone.needs_file) == (REFUSED, True)
    assert found.reason.startswith(f"{need}; flatten it with: {command}")
    assert alone.reason == f"{need}, which does not exist; restore that file, or get a whole image instead"


@pytest.mark.parametrize(("kind", "what"), [(3, "an undo disk"), (4, "a differencing disk")])
def test_a_vdi_that_needs_its_parent_is_refused(tmp_path, kind, what):
    path = make(tmp_path / "top.vdi", "vdi")
    parent = uuid.UUID("12345678-1234-5678-1234-567812345678")

    patch(path, (0x4C, struct.pack("<I", kind)), (0x1B8, parent.bytes_le))

    assert detected(path).verdict == REFUSED
    assert detected(path).reason.startswith(f"is {what}: it needs its parent disk with the id {parent};")


def patch_vhd(path, *changes):
    """Overwrite bytes of a dynamic vhd's footer and of its copy, and the checksums of both."""
    footer = bytearray(path.read_bytes()[-SECTOR:])
    for offset, content in changes:
        footer[offset : offset + len(content)] = content
    footer[64:68] = bytes(4)
    footer[64:68] = struct.pack(">I", ~sum(footer) & 0xFFFFFFFF)
    return patch(path, (0, footer), (path.stat().st_size - SECTOR, footer))


def grown_vhd(folder):
    """Return a dynamic vhd that Hyper-V has resized: its current size is larger than its original one."""
    path = make(folder / "disk.vhd", "vpc", "force_size=on", size="6M")
    return patch_vhd(path, (28, b"win "), (40, struct.pack(">Q", 3 * MEBIBYTE)))


def vhd_of_virtual_pc(folder):
    """Return a vhd whose size is its geometry."""
    path = make(folder / "disk.vhd", "vpc", "force_size=on", size="6M")
    return patch_vhd(path, (28, b"vpc "))


def stream_with_footer(folder):
    """Return a streamOptimized vmdk whose footer has another capacity than its header."""
    source = make_raw(folder / "source.raw", 6 * MEBIBYTE)
    path = convert(source, folder / "disk.vmdk", "vmdk", "subformat=streamOptimized")
    content = path.read_bytes()
    footer = struct.pack("<QII496s", 1, 0, 3, b"") + content[:SECTOR] + bytes(SECTOR)
    path.write_bytes(content + footer)
    return patch(path, (12, struct.pack("<Q", 100)), (56, b"\xff" * 8))


def hybrid_iso(folder):
    extra = make_raw(folder / "extra", MEBIBYTE)
    return make_iso(folder / "disc.iso", "-partition_offset", "16", "-append_partition", "2", "0xef", extra)


SIZED = {
    "qcow2": (lambda folder: make(folder / "disk", "qcow2", size="7M"), "qcow2"),
    "extended L2": (lambda folder: make(folder / "disk", "qcow2", "extended_l2=on"), "qcow2"),
    "large clusters": (lambda folder: make(folder / "disk", "qcow2", "cluster_size=2M"), "qcow2"),
    "vdi": (lambda folder: make(folder / "disk", "vdi", size="7M"), "vdi"),
    "vhdx": (lambda folder: make(folder / "disk", "vhdx", size="7M"), "vhdx"),
    "vhd fixed": (lambda folder: make(folder / "disk", "vpc", "subformat=fixed"), "vpc"),
    "vhd grown": (grown_vhd, "vpc"),
    "vhd by geometry": (vhd_of_virtual_pc, "vpc"),
    "vmdk": (lambda folder: make(folder / "disk", "vmdk", size="7M"), "vmdk"),
    "vmdk with a footer": (stream_with_footer, "vmdk"),
    "iso with partitions": (hybrid_iso, "raw"),
    "raw of odd length": (lambda folder: make_disk(folder / "disk.img", partition_table(length=1), 5_000_001), "raw"),
}


@pytest.mark.parametrize(("create", "kind"), SIZED.values(), ids=SIZED)
def test_the_virtual_size_is_that_of_qemu_img(tmp_path, create, kind):
    path = create(tmp_path)

    found = detected(path, formats=EVERY_FORMAT)

    assert (found.verdict, found.virtual_size) == (IMAGE, qemu_size(path, kind)), found.reason


def test_the_content_of_a_vhd_of_fixed_size_is_not_read_as_its_header(tmp_path):
    source = make_raw(tmp_path / "source.raw", 4 * MEBIBYTE)
    path = convert(source, tmp_path / "disk.vhd", "vpc", "subformat=fixed", "force_size=on")

    assert detected(path)[:3] == (IMAGE, "vhd", 4 * MEBIBYTE), detected(path).reason


@pytest.mark.parametrize("method", ["aes", "luks"])
def test_an_encrypted_qcow2_is_told_from_a_plain_one(tmp_path, method):
    plain = make(tmp_path / "plain", "qcow2")
    secret = make(tmp_path / "secret", "qcow2")
    patch(secret, (32, struct.pack(">I", {"aes": 1, "luks": 2}[method])))

    assert detected(plain).encryption is None
    assert detected(secret)[:3] == (IMAGE, "qcow2", 8 * MEBIBYTE)
    assert detected(secret).encryption == method


def luks2(area):
    """Return the header of a LUKS2 volume, with the JSON text ``area``."""
    return (b"LUKS\xba\xbe\0\2" + struct.pack(">Q", 16384)).ljust(4096, b"\0") + area.encode()


@pytest.mark.parametrize(
    ("area", "virtual_size"),
    [
        ('{"segments": {"0": {"offset": "16777216", "size": "dynamic"}}}', 4 * MEBIBYTE),
        ('{"segments": {"0": {"offset": "16777216", "size": "1048576"}}}', MEBIBYTE),
        ('{"segments": {"0": {"offset": "999999999999", "size": "dynamic"}}}', None),
        ('{"segments": {"0": {"offset": "x", "size": "dynamic"}}}', None),
        ('{"segments": {}}', None),
        ("[" * 5000, None),
    ],
)
def test_the_virtual_size_of_a_luks2_volume_is_its_segments_or_unknown(tmp_path, area, virtual_size):
    path = make_disk(tmp_path / "secret", luks2(area), 20 * MEBIBYTE)

    assert detected(path, formats=EVERY_FORMAT)[:3] == (IMAGE, "luks", virtual_size)


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "latin-1", "shift-jis"])
def test_a_vmdk_whose_descriptor_names_it_in_any_encoding_is_an_image(tmp_path, encoding):
    path = make(tmp_path / "disk.vmdk", "vmdk")
    names = {"latin-1": "Büro größer.vmdk"}
    content = path.read_bytes()
    place, length = (number * SECTOR for number in struct.unpack_from("<QQ", content, 28))
    text = (
        content[place : place + length]
        .rstrip(b"\0")
        .replace(b"disk.vmdk", names.get(encoding, "東京.vmdk").encode(encoding))
    )
    patch(path, (place, text.ljust(length, b"\0")))

    assert detected(path)[:3] == (IMAGE, "vmdk", 8 * MEBIBYTE)


def features(bits, names=b""):
    """Return the header of a qcow2 of version 3 with incompatible features, and a table that names them."""
    head = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 16, MEBIBYTE).ljust(72, b"\0")
    head += struct.pack(">Q", bits).ljust(24, b"\0") + struct.pack(">II", 4, 104)
    return head + (struct.pack(">II", 0x6803F857, len(names)) + names if names else b"")


WRONG = {
    "version": (struct.pack(">4sI", b"QFI\xfb", 9), "has qcow2 version 9; known are 2 and 3"),
    "qcow": (struct.pack(">4sI", b"QFI\xfb", 1), "has the old format qcow (version 1)"),
    "unknown feature": (features(1 << 7), "uses qcow2 features that are not known here: bit 7;"),
    "named feature": (
        features(1 << 9 | 1 << 60, bytes([0, 9]) + b"time travel".ljust(46, b"\0")),
        "uses qcow2 features that are not known here: time travel, bit 60;",
    ),
}


@pytest.mark.parametrize(("head", "reason"), WRONG.values(), ids=WRONG)
def test_the_real_cause_is_told_and_not_the_length(tmp_path, head, reason):
    path = tmp_path / "disk.qcow2"
    path.write_bytes(head.ljust(SECTOR, b"\0"))

    assert detected(path).verdict == REFUSED
    assert detected(path).reason.startswith(reason)


def test_a_missing_backing_file_outranks_a_truncated_end(tmp_path):
    path = qcow2_overlay(tmp_path)
    patch(path, (40, struct.pack(">Q", 1 << 30)))
    os.truncate(path, 70_000)

    assert detected(path).reason.startswith("needs the backing file ")
