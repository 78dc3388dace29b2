"""Damage to a write-ahead log, found by its documented format (sqlite.org: fileformat2.html, walformat.html)."""

import os
import struct

HEADER, FRAME, INDEX = struct.Struct(">8I"), struct.Struct(">6I"), struct.Struct("=12I")
FORMAT = 3007000
ORDERS = {0x377F0682: "<", 0x377F0683: ">"}  # magic number → byte order of the checksums
WORD = 2**32 - 1

# SQLite ends a log at the first invalid WAL frame, because a power loss leaves one. Each commit is synced
# before the index (the -shm file) counts it and before the next one begins. So no power loss leaves an invalid frame
# before one that continues from a later commit, nor fewer frames than the index counts: that is damage.


def log_of(path):
    """Return the path of the write-ahead log; SQLite follows links before it names it."""
    return f"{os.path.realpath(path)}-wal"


def unsynced_mark_of(path):
    """Return the path of the mark that exists while syncs are deferred.

    A power loss may then leave any frames.
    """
    return f"{os.path.realpath(path)}-unsynced"


def log_fault(path):
    """Return the problem of a database's log, or None.

    Call it first: opening the database cuts a damaged log.
    """
    if os.path.exists(unsynced_mark_of(path)):
        return None
    try:
        found = find_damage(path)
        while found != (again := found and find_damage(path)):  # another process writes
            found = again
    except FileNotFoundError:
        return None
    if found is None:
        return None
    name = os.path.basename(log_of(path))
    return f"is damaged: what was committed is missing in its log, {name}, from byte {found[1]} on"


def find_damage(path):
    """Return (log header, offset of the damage) if synced commits follow, or None."""
    salts_of_index, counted = committed_frames(f"{os.path.realpath(path)}-shm")  # before the log, which grows
    with open(log_of(path), "rb") as file:
        header = file.read(HEADER.size)
        if not is_header(header):
            return None  # a power loss can leave it half written, before frames that are in the database
        salts = HEADER.unpack(header)[4:6]
        place = first_lost_frame(file, header, counted if salts == salts_of_index else 0)
    return None if place is None else (header, place)


def first_lost_frame(file, header, counted):
    """Return the offset of the first invalid frame that hides commits, or None.

    They are lost if a later frame continues from a commit, or if the index has ``counted`` more frames.
    """
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
    """Return whether a log's header is complete and its checksum fits."""
    if len(header) < HEADER.size:
        return False
    magic, version, *_, first, second = HEADER.unpack(header)
    return magic in ORDERS and version == FORMAT and checksum(ORDERS[magic], header[:24]) == (first, second)


def committed_frames(index):
    """Return (salts, number of committed WAL frames) of the index, or (None, 0)."""
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
    """Return SQLite's checksum, which continues from that of the previous frame."""
    first, second = before
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & WORD
        second = (second + odd + first) & WORD
    return first, second
