"""Whether a write-ahead log was damaged, by what SQLite documents of it (fileformat2.html, walformat.html)."""

import os
import struct

HEADER, FRAME, INDEX = struct.Struct(">8I"), struct.Struct(">6I"), struct.Struct("=12I")
FORMAT = 3007000
ORDERS = {0x377F0682: "<", 0x377F0683: ">"}  # the magic numbers: in which order of bytes checksums are taken
WORD = 2**32 - 1

# SQLite ends a log at the first frame that does not fit, as a loss of power leaves one, and says nothing. What no loss
# of power leaves, since each commit is synced before the index counts it and before the next begins: a frame that goes
# on from a commit beyond, and fewer frames than the index (the -shm file) counts.


def log_of(path):
    """SQLite follows links before it names the log."""
    return f"{os.path.realpath(path)}-wal"


def unsynced_mark_of(path):
    """A file that is there while commits are synced together: a loss of power may then leave anything of them."""
    return f"{os.path.realpath(path)}-unsynced"


def log_fault(path):
    """What is wrong with the log of the database ``path``, or None. Who opens the database ends a log at its damage."""
    if os.path.exists(unsynced_mark_of(path)):
        return None
    try:
        found = damage_of(path)
        while found != (again := found and damage_of(path)):  # another process writes
            found = again
    except FileNotFoundError:
        return None
    if found is None:
        return None
    name = os.path.basename(log_of(path))
    return f"is damaged: what was committed is missing in its log, {name}, from byte {found[1]} on"


def damage_of(path):
    """(the log's header, the byte where it breaks off), if a commit beyond that was on the disk; else None."""
    salts_of_index, counted = counted_in(f"{os.path.realpath(path)}-shm")  # before the log, which grows
    with open(log_of(path), "rb") as file:
        header = file.read(HEADER.size)
        if not is_header(header):
            return None  # a loss of power can leave it half written, before frames that had been copied to the database
        salts = HEADER.unpack(header)[4:6]
        place = break_in(file, header, counted if salts == salts_of_index else 0)
    return None if place is None else (header, place)


def break_in(file, header, counted):
    """Where the log's frames break off, of which the index has ``counted`` so many; None if nothing is behind."""
    magic, _, page_size, _, *salts, first, second = HEADER.unpack(header)
    size, place, number = FRAME.size + page_size, HEADER.size, 0
    broken, before, is_commit = None, (first, second), False
    while len(frame := file.read(size)) == size:
        _, pages, *salts_of_frame, first, second = FRAME.unpack_from(frame)
        is_asked = salts_of_frame == salts and (broken is None or is_commit)
        fits = is_asked and checksum(ORDERS[magic], frame[:8] + frame[FRAME.size :], before) == (first, second)
        if broken is None and not fits:
            broken = place
        if (broken is not None and fits) or (not fits and number < counted):
            return broken
        before, is_commit = (first, second), salts_of_frame == salts and pages > 0
        place, number = place + size, number + 1
    return place if broken is None and number < counted else None


def is_header(header):
    if len(header) < HEADER.size:
        return False
    magic, version, *_, first, second = HEADER.unpack(header)
    return magic in ORDERS and version == FORMAT and checksum(ORDERS[magic], header[:24]) == (first, second)


def counted_in(index):
    """(salts, how many frames of the log are committed), by the index's header where that is whole, else (None, 0)."""
    try:
        with open(index, "rb") as file:
            header, copy = file.read(INDEX.size), file.read(INDEX.size)
    except OSError:
        return None, 0
    if len(header) < INDEX.size or header != copy:
        return None, 0
    version, _, _, _, frames, *_, first, second = INDEX.unpack(header)
    is_whole = version == FORMAT and checksum("=", header[:40]) == (first, second)
    return (struct.unpack_from(">2I", header, 32), frames) if is_whole else (None, 0)


def checksum(order, content, before=(0, 0)):
    """SQLite's, which goes on from that of the frame before."""
    first, second = before
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & WORD
        second = (second + odd + first) & WORD
    return first, second
