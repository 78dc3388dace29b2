"""Image formats by content, refused files, and facts in file names."""

import os
import struct
import subprocess
from pathlib import Path

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

from cli.image_format import IMAGE, NONE, REFUSED, SKIPPED
from cli.image_names import parse_image_name


@pytest.mark.parametrize(
    ("kind", "options", "disk_format", "virtual_size"),
    [
        ("qcow2", [], "qcow2", 8 * MEBIBYTE),
        ("qcow2", ["compat=0.10"], "qcow2", 8 * MEBIBYTE),
        ("qcow2", ["compression_type=zstd"], "qcow2", 8 * MEBIBYTE),
        ("vmdk", [], "vmdk", 8 * MEBIBYTE),
        ("vdi", [], "vdi", 8 * MEBIBYTE),
        ("vpc", [], "vhd", 8_390_656),  # vpc knows only whole cylinders
        ("vpc", ["subformat=fixed"], "vhd", 8_390_656),
    ],
)
def test_a_format_is_known_by_the_content_alone(tmp_path, kind, options, disk_format, virtual_size):
    path = make(tmp_path / "image.txt", kind, *options)

    assert detected(path)[:3] == (IMAGE, disk_format, virtual_size)


def test_a_vmdk_that_was_written_as_a_stream_is_read_at_both_its_ends(tmp_path):
    source = make(tmp_path / "source.raw", "raw", size="64M")
    content = convert(source, tmp_path / "stream", "vmdk", "subformat=streamOptimized").read_bytes()
    # As VMware writes them: where the grain directory is, is said by a second header at the end.
    footer = struct.pack("<QII496s", 1, 0, 3, b"") + content[:512]
    begun = content[:56] + b"\xff" * 8 + content[64:].ljust(3 * MEBIBYTE, b"\0")
    whole, spoiled = tmp_path / "whole", tmp_path / "spoiled"
    whole.write_bytes(begun + footer + b"\0" * 512)
    spoiled.write_bytes(begun + footer + b"x" * 512)

    assert detected(whole)[:3] == (IMAGE, "vmdk", 64 * MEBIBYTE)
    assert detected(spoiled).verdict == REFUSED
    assert "End-of-stream" in detected(spoiled).reason


def test_a_disk_with_a_partition_table_is_raw_whatever_its_name(tmp_path):
    for name, table in (("gpt", partition_table(0xEE, 1, 0xFFFFFFFF)), ("mbr", partition_table(boot=0x80))):
        path = make_disk(tmp_path / name, table)

        assert detected(path)[:3] == (IMAGE, "raw", 8 * MEBIBYTE)


@pytest.mark.parametrize(
    "content",
    [partition_table(kind=0), partition_table(length=0), partition_table(boot=0x41), os.urandom(4096), bytes(4096)],
    ids=["no partition", "empty partition", "code", "encrypted", "blank"],
)
def test_what_has_no_format_is_an_image_only_where_its_name_says_raw(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)

    assert detected(path, "file.bin").verdict == NONE
    assert detected(path, "file.RAW")[:3] == (IMAGE, "raw", len(content))
    assert detected(path, "file.img").disk_format == "raw"
    assert detected(path, "file.img").is_guess


def test_an_empty_file_is_no_image(tmp_path):
    path = make_disk(tmp_path / "empty.img", size=0)

    assert detected(path)[:4] == (SKIPPED, None, None, "is empty")
    assert detected(path, "empty.qcow2").verdict == SKIPPED
    assert detected(path, "empty.txt").verdict == NONE


def test_an_iso_is_one_also_where_it_has_a_partition_table(tmp_path):
    extra = make_raw(tmp_path / "extra", MEBIBYTE)
    plain = make_iso(tmp_path / "plain")
    hybrid = make_iso(tmp_path / "hybrid", "-partition_offset", "16", "-append_partition", "2", "0xef", extra)

    assert hybrid.read_bytes()[510:512] == b"\x55\xaa"
    assert detected(plain)[:2] == detected(hybrid)[:2] == (IMAGE, "iso")


def test_what_is_two_formats_at_once_is_refused(tmp_path):
    path = make(tmp_path / "both", "qcow2")
    with path.open("r+b") as file:
        file.seek(32 * 1024)
        file.write(b"\1CD001\1".ljust(2048, b"\0"))

    assert detected(path).verdict == REFUSED
    assert detected(path).reason == "matches several formats at once (iso, qcow2); create it again in one format"


@pytest.mark.parametrize("version", ["compat=0.10", "compat=1.1"])
def test_a_qcow2_with_a_backing_file_is_refused_and_the_file_named(tmp_path, version):
    make(tmp_path / "base.qcow2", "qcow2")
    path = make(tmp_path / "top", "qcow2", version, f"backing_file={tmp_path / 'base.qcow2'}", "backing_fmt=qcow2")

    assert detected(path).verdict == REFUSED
    assert detected(path).reason.startswith(
        f"needs the backing file {tmp_path / 'base.qcow2'}; flatten it with: qemu-img"
    )


def test_a_qcow2_of_version_2_has_no_flags_whatever_is_in_their_place(tmp_path):
    head = struct.pack(">4sIQIIQ", b"QFI\xfb", 2, 0, 0, 16, MEBIBYTE).ljust(72, b"\0")
    path = tmp_path / "old"
    path.write_bytes((head + struct.pack(">II", 0x12345678, 4) + b"text").ljust(65536, b"\0"))

    assert detected(path)[:3] == (IMAGE, "qcow2", MEBIBYTE)


def test_a_backing_file_cannot_speak_to_the_terminal(tmp_path):
    name = b"\x1b]0;owned\x07"
    header = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 512, len(name), 16, MEBIBYTE).ljust(512, b"\0")
    path = tmp_path / "evil"
    path.write_bytes(header + name + b"\0" * 4096)

    assert "the backing file ?]0;owned?, which does not exist" in detected(path).reason


UNSAFE = {
    "external data": ("qcow2", ["data_file={folder}/data.raw"], "needs the data file "),
    "flat": (
        "vmdk",
        ["subformat=monolithicFlat"],
        "is the descriptor of a vmdk whose content is in other files (image-flat",
    ),
    "qed": ("qed", [], "has the unmaintained format qed"),
}


@pytest.mark.parametrize(("kind", "options", "reason"), UNSAFE.values(), ids=UNSAFE)
def test_what_leads_to_other_files_or_nobody_can_read_is_refused(tmp_path, kind, options, reason):
    path = make(tmp_path / "image", kind, *(option.format(folder=tmp_path) for option in options))

    assert detected(path).verdict == REFUSED
    assert detected(path).reason.startswith(reason)


def test_a_part_of_a_vmdk_is_refused(tmp_path):
    make(tmp_path / "parts.vmdk", "vmdk", "subformat=twoGbMaxExtentSparse")

    assert [detected(path).verdict for path in sorted(tmp_path.iterdir())] == [REFUSED, REFUSED]


def test_what_begins_like_a_format_and_is_broken_is_refused(tmp_path):
    path = make_disk(tmp_path / "broken", b"vhdxfile", 4 * MEBIBYTE)

    assert detected(path, formats=(*FORMATS, "vhdx")).verdict == REFUSED
    assert "starts like vhdx, but cannot be parsed" in detected(path).reason


def test_a_vmdk_that_names_its_file_in_any_letters_is_refused(tmp_path):
    path = make(tmp_path / "größe.vmdk", "vmdk", "subformat=monolithicFlat")

    assert "größe-flat.vmdk" in path.read_text(encoding="utf-8")
    assert detected(path).verdict == REFUSED
    assert detected(path).reason.startswith(
        "is the descriptor of a vmdk whose content is in other files (größe-flat.vmdk)"
    )


WHOLE = {
    **{f"qcow2 {option or 'plain'}": ("qcow2", option) for option in ("", "compat=0.10", "cluster_size=512")},
    "qcow2 large clusters": ("qcow2", "cluster_size=2M"),
    "qcow2 extended L2": ("qcow2", "extended_l2=on"),
    "qcow2 metadata": ("qcow2", "preallocation=metadata"),
    "qcow2 full": ("qcow2", "preallocation=full"),
    "vmdk": ("vmdk", ""),
    "vmdk stream": ("vmdk", "subformat=streamOptimized"),
    "vdi": ("vdi", ""),
    "vdi static": ("vdi", "static=on"),
    "vhd": ("vpc", ""),
}


@pytest.mark.parametrize(("kind", "option"), WHOLE.values(), ids=WHOLE)
def test_an_image_that_is_cut_short_is_refused_and_a_whole_one_is_not(tmp_path, kind, option):
    # Its end is within a cluster, a grain and a block of every format.
    source = make_raw(tmp_path / "source.raw", 5 * MEBIBYTE + 4096)
    path = convert(source, tmp_path / "image", kind, *([option] if option else []))
    size = path.stat().st_size

    assert detected(path).verdict == IMAGE
    for length in (size * 3 // 4, size // 2, 300):
        os.truncate(path, length)
        assert detected(path).verdict == REFUSED, length
        assert detected(path).reason.startswith("is truncated: its headers describe ")
        assert detected(path).reason.endswith(f" bytes, the file has {length}; copy it again")


def test_what_was_written_compressed_or_has_snapshots_or_was_resized_is_whole(tmp_path):
    source = make_raw(tmp_path / "source.raw", 5 * MEBIBYTE + 4096)
    kept, packed = convert(source, tmp_path / "kept", "qcow2"), tmp_path / "packed"
    subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", source, packed], check=True)
    for command in (["snapshot", "-c", "one", kept], ["resize", "-q", kept, "9G"], ["snapshot", "-c", "two", kept]):
        subprocess.run(["qemu-img", *command], check=True)

    assert [detected(path).verdict for path in (packed, kept)] == [IMAGE, IMAGE]
    os.truncate(packed, packed.stat().st_size - 1024)
    assert detected(packed).verdict == REFUSED


def test_a_disc_or_a_disk_that_is_cut_short_is_refused(tmp_path):
    extra = make_raw(tmp_path / "extra", 3 * MEBIBYTE)
    disc = make_iso(tmp_path / "disc", "-partition_offset", "16", "-append_partition", "2", "0xef", extra)
    header = b"EFI PART".ljust(32, b"\0") + struct.pack("<Q", 8 * MEBIBYTE // 512 - 1)
    disk = make_disk(tmp_path / "disk", partition_table(0xEE, 1, 0xFFFFFFFF) + header)
    assert [detected(path).verdict for path in (disc, disk)] == [IMAGE, IMAGE]

    for path in (disc, disk):
        os.truncate(path, path.stat().st_size // 2)

    assert [detected(path).verdict for path in (disc, disk)] == [REFUSED, REFUSED]
    cut = "is truncated: its partition table describes 8388608 bytes, the file has 4194304; copy it again"
    assert detected(disk).reason == cut


def luks(payload_sectors=0):
    """Version 1: where the payload begins stands at byte 104, in sectors of 512."""
    head = b"LUKS\xba\xbe\0\1".ljust(104, b"\0") + payload_sectors.to_bytes(4, "big")
    return head.ljust(64 * 1024, b"\0")


def test_luks_and_vhdx_are_skipped_unless_the_formats_are_configured(tmp_path):
    vhdx = make(tmp_path / "disk", "vhdx")
    secret = tmp_path / "secret.img"
    secret.write_bytes(luks())

    assert detected(vhdx)[:4] == (SKIPPED, None, None, "has format vhdx, which [api] disk_formats does not list")
    assert detected(secret)[:4] == (SKIPPED, None, None, "has format luks, which [api] disk_formats does not list")
    formats = (*FORMATS, "vhdx", "luks")
    assert detected(vhdx, formats=formats)[:3] == (IMAGE, "vhdx", 8 * MEBIBYTE)
    assert detected(secret, formats=formats)[:2] == (IMAGE, "luks")


def test_a_luks_disk_is_as_large_as_its_payload(tmp_path):
    path = make_disk(tmp_path / "secret", luks(payload_sectors=4096), 10 * MEBIBYTE)

    assert detected(path, formats=(*FORMATS, "luks"))[:3] == (IMAGE, "luks", 8 * MEBIBYTE)


@pytest.mark.parametrize("seed", range(3))
def test_no_beginning_of_an_image_breaks_the_look_at_it(tmp_path, seed):
    for kind in ("qcow2", "vmdk", "vdi", "vpc", "vhdx"):
        whole = make(tmp_path / f"{kind}{seed}", kind).read_bytes()
        for length in (1, 5, 64, 100, 511, 512, 1024, 70_000, 200_000):
            path = tmp_path / "cut"
            path.write_bytes(whole[: length + seed])

            assert detected(path).verdict in (IMAGE, NONE, SKIPPED, REFUSED)


# The names that the projects' own download pages had in November 2026, or had last.
NAMES = Path(__file__).with_name("image_names.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("line", [line for line in NAMES if line and line[0] != "#"])
def test_the_names_of_well_known_images_say_what_they_are(line):
    file_name, name, os_distro, os_version, architecture = line.split("\t")
    properties = {"os_distro": os_distro, "os_version": os_version, "architecture": architecture}

    assert parse_image_name(file_name) == (name, {key: text for key, text in properties.items() if text != "-"})


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("my-server-cloudimg-amd64.img", "my-server-cloudimg-amd64"),
        ("debian-13-generic-wrong.qcow2", "debian-13-generic-wrong"),
        ("disk.final.img", "disk.final"),
        (".hidden", ".hidden"),
        ("İstanbul.qcow2", "İstanbul"),
    ],
)
def test_any_other_name_is_its_stem_alone(file_name, name):
    assert parse_image_name(file_name) == (name, {})
