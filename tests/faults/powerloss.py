"""A disk after a power cut, from the trace of shim.c: what was synced, and of the rest what chance would have."""

import json
import os
import random
import struct
from typing import NamedTuple

from faults.writers import Ledger, State

HEAD = struct.Struct("<IIQQ")
WRITE, TRUNCATE, SYNC_BEGINS, SYNC_ENDS, CREATE, UNLINK, RENAME, SENT, ACKNOWLEDGED = range(1, 10)
FOLDER = 0  # its number, among the files' inodes
SECTOR = 512


class Record(NamedTuple):
    operation: int
    inode: int
    place: int
    content: bytes


class TracedLedger:
    """What the writers sent and heard, in one order with what the server did to its files."""

    def __init__(self, trace):
        self.file = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.possible = {}

    def sent(self, image_id, state):
        self.note(SENT, image_id, state)

    def acknowledged(self, image_id, state):
        self.note(ACKNOWLEDGED, image_id, state)

    def note(self, operation, image_id, state):
        content = json.dumps([image_id, *state]).encode()
        os.write(self.file, HEAD.pack(len(content), operation, 0, 0) + content)

    def close(self):
        os.close(self.file)


def read_trace(path):
    content, at, records = memoryview(path.read_bytes()), 0, []
    while at < len(content):
        length, operation, inode, place = HEAD.unpack_from(content, at)
        at += HEAD.size
        records.append(Record(operation, inode, place, bytes(content[at : at + length])))
        at += length
    return records


def ledger_of(records):
    ledger = Ledger()
    for record in records:
        if record.operation in (SENT, ACKNOWLEDGED):
            image_id, *state = json.loads(record.content)
            note = ledger.sent if record.operation == SENT else ledger.acknowledged
            note(image_id, State(*state))
    return ledger


def synced_until(records):
    """{inode: the number of the record before which all is on disk}"""
    begun, until = {}, {}
    for number, record in enumerate(records):
        if record.operation == SYNC_BEGINS:
            begun[record.place] = number
        elif record.operation == SYNC_ENDS:
            until[record.inode] = max(until.get(record.inode, 0), begun[record.place])
    return until


class Chance:
    """What becomes of writes that were not synced: none are there, all, or some, of these some only in part."""

    def __init__(self, chance: random.Random):
        self.chance = chance
        self.kept = chance.choice([0, 1, chance.random()])
        self.torn = chance.choice([0, 0.3])

    def keeps(self):
        return self.chance.random() < self.kept

    def parts(self, record):
        """[(offset, content)] of a write that was not synced."""
        if not self.keeps():
            return []
        if self.kept == 1 or self.chance.random() >= self.torn:
            return [(record.place, record.content)]
        sectors = range(0, len(record.content), SECTOR)
        return [(record.place + at, record.content[at : at + SECTOR]) for at in sectors if self.chance.random() < 0.5]


def disk_after(records, chance, before=()):
    """{name: content} of what a disk may hold when the power goes after ``records``.

    As strict as POSIX: a file's name is there for certain only after its folder was synced. ``before`` are the
    (name, inode, content) that were on it.
    """
    until = synced_until(records)
    files = {inode: bytearray(content) for _, inode, content in before}
    names = {name: inode for name, inode, _ in before}
    for number, record in enumerate(records):
        operation, inode, place, content = record
        if operation in (WRITE, TRUNCATE):
            file = files.setdefault(inode, bytearray())
            is_synced = number < until.get(inode, 0)
            if operation == TRUNCATE and (is_synced or chance.keeps()):
                resize(file, place)
            elif operation == WRITE:
                for offset, part in [(place, content)] if is_synced else chance.parts(record):
                    resize(file, max(len(file), offset + len(part)))
                    file[offset : offset + len(part)] = part
        elif operation == CREATE:
            files[inode] = bytearray()
        if operation in (CREATE, UNLINK, RENAME) and (number < until.get(FOLDER, 0) or chance.keeps()):
            names = renamed(names, record)
    return {name: bytes(files[inode]) for name, inode in names.items()}


def resize(file, size):
    del file[size:]
    file.extend(bytes(size - len(file)))


def renamed(names, record):
    """{name: inode} after a file was created, removed or renamed."""
    old, _, new = record.content.decode().partition("/")
    kept = {name: inode for name, inode in names.items() if name != old}
    if record.operation == CREATE:
        return kept | {old: record.inode}
    return kept | {new: names[old]} if record.operation == RENAME and old in names else kept
