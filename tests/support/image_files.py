"""Files of every format: by qemu-img and xorriso where they are there, by hand where a few bytes do."""

import os
import shutil
import struct
import subprocess

import pytest

MEBIBYTE = 1024 * 1024


def need(program, package):
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}: apt install {package}")


def make(path, kind, *options, size="8M"):
    """A new image of qemu-img's."""
    need("qemu-img", "qemu-utils")
    words = [part for option in options for part in ("-o", option)]
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *words, path, size], check=True, capture_output=True)
    return path


def convert(source, path, kind, *options):
    need("qemu-img", "qemu-utils")
    words = [part for option in options for part in ("-o", option)]
    subprocess.run(["qemu-img", "convert", "-O", kind, *words, source, path], check=True, capture_output=True)
    return path


def make_iso(path, *options):
    need("xorriso", "xorriso")
    folder = path.parent / "tree"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("content")
    command = ["xorriso", "-as", "mkisofs", "-quiet", "-o", path, *options, folder]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(folder)
    return path


def partition_table(kind=0x83, start=2048, length=2048, boot=0):
    """The first sector of a disk with one partition."""
    entry = struct.pack("<B3sB3sII", boot, b"\0\2\0", kind, b"\xff\xff\xff", start, length)
    return (b"\0" * 446 + entry).ljust(510, b"\0") + b"\x55\xaa"


def make_disk(path, content=b"", size=8 * MEBIBYTE):
    """A sparse file that begins with ``content``."""
    with path.open("wb") as file:
        file.write(content)
        file.truncate(size)
    return path


def make_raw(path, size=64 * 1024):
    path.write_bytes(os.urandom(size))
    return path
