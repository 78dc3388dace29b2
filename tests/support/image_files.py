"""Image files of every format, made by qemu-img and xorriso, or written byte by byte."""

import os
import shutil
import struct
import subprocess

import pytest

from cli.image_format import detect_format
from config import read_settings

MEBIBYTE = 1024 * 1024
FORMATS = read_settings({}).api.disk_formats


def need(program, package):
    """Skip the test if a program is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: apt install {package}")


def make(path, kind, *options, size="8M"):
    """Return the path of a new image made by qemu-img."""
    need("qemu-img", "qemu-utils")
    words = [part for option in options for part in ("-o", option)]
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *words, path, size], check=True, capture_output=True)
    return path


def convert(source, path, kind, *options):
    """Return the path of a copy that qemu-img makes in another format."""
    need("qemu-img", "qemu-utils")
    words = [part for option in options for part in ("-o", option)]
    subprocess.run(["qemu-img", "convert", "-O", kind, *words, source, path], check=True, capture_output=True)
    return path


def make_iso(path, *options):
    """Return the path of a new iso made by xorriso."""
    need("xorriso", "xorriso")
    folder = path.parent / "tree"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("content")
    command = ["xorriso", "-as", "mkisofs", "-quiet", "-o", path, *options, folder]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(folder)
    return path


def partition_table(kind=0x83, start=2048, length=2048, boot=0):
    """Return the first sector of a disk with one partition."""
    entry = struct.pack("<B3sB3sII", boot, b"\0\2\0", kind, b"\xff\xff\xff", start, length)
    return (b"\0" * 446 + entry).ljust(510, b"\0") + b"\x55\xaa"


def make_disk(path, content=b"", size=8 * MEBIBYTE):
    """Return the path of a sparse file that begins with ``content``."""
    with path.open("wb") as file:
        file.write(content)
        file.truncate(size)
    return path


def make_raw(path, size=64 * 1024):
    """Return the path of a file of random bytes."""
    path.write_bytes(os.urandom(size))
    return path


def detected(path, name=None, formats=FORMATS):
    """Return what the product detects in a file, which may be called ``name``."""
    file = os.open(path, os.O_RDONLY)
    try:
        return detect_format(file, name or path.name, os.fstat(file).st_size, formats, path.parent)
    finally:
        os.close(file)
