"""How long a file must be by what it says itself: its header, and the tables that tell where its content is."""

import os
import struct
import sys
from array import array

SECTOR = 512
# Tables are read up to so many bytes: those of 2 TiB that a qcow2 has, of 4 TiB in a vmdk.
MOST_TABLE_BYTES = 256 * 1024 * 1024
QCOW2_PLACE, QCOW2_COMPRESSED = 0x00FF_FFFF_FFFF_FE00, 1 << 62
QCOW2_SPECIAL = QCOW2_COMPRESSED | 1  # 1 is a cluster of zeros
VMDK_COMPRESSED, VMDK_MARKERS, VMDK_AT_END = 1 << 16, 1 << 17, 2**64 - 1
VHD_FREE, VHD_FOOTER = 2**32 - 1, 511  # the oldest are a byte shorter
# Of a disc the last blocks may be lost: what ends a track is no content.
ISO_ENDING_BLOCKS, ISO_ENDING_SHARE = 152, 64


def bytes_needed(kind, file, head, size):
    """By an image of ``kind`` (detecting's, and gpt), whose first bytes are ``head``.

    What is not looked at: tables of snapshots, whether tables are right, what is beyond MOST_TABLE_BYTES of tables.
    """
    find = ENDS.get(kind)
    ends = list(find(Tables(file), head, size)) if find else []
    return max(SECTOR, *ends) if ends else 0


class Tables:
    """Arrays of numbers in the open file, as long as it has them."""

    def __init__(self, file):
        self.file = file
        self.left = MOST_TABLE_BYTES

    def read(self, place, count, code, order):
        """``code`` is that of array, ``order`` as in sys.byteorder. Nothing where all is 0, or too much to be read."""
        found = array(code)
        length = found.itemsize * count
        if place >= 2**63 or length > self.left:
            return found
        self.left -= length
        content = os.pread(self.file, length, place)
        if content.strip(b"\0"):
            found.frombytes(content[: len(content) // found.itemsize * found.itemsize])
        if order != sys.byteorder:
            found.byteswap()
        return found


def qcow2_ends(tables, head, _):
    fields = struct.unpack_from(">IQIIQQIIQ", head, 20)
    bits, disk_size, _, l1_count, l1_place, counts_place, _, snapshots, snapshots_place = fields
    cluster = 1 << min(bits, 21)
    yield from (l1_place + 8 * l1_count, counts_place + 8, snapshots_place + 1 if snapshots else 0)
    for number, entry in enumerate(tables.read(l1_place, l1_count, "Q", "big")):
        if l2_place := entry & QCOW2_PLACE:
            yield l2_place + cluster
            whole = max(disk_size // cluster - number * (cluster // 8), 0)
            yield from cluster_ends(tables.read(l2_place, cluster // 8, "Q", "big"), cluster, whole)


def cluster_ends(entries, cluster, whole):
    """Of an L2 table, of which ``whole`` clusters are within the disk's size; of the others some may be left out."""
    for part, length in ((entries[:whole], cluster), (entries[whole:], 1)):
        yield max((each & QCOW2_PLACE for each in part if not each & QCOW2_SPECIAL), default=-length) + length
    shift = 71 - cluster.bit_length()
    for each in entries:
        if each & QCOW2_COMPRESSED:
            place, sectors = each & ((1 << shift) - 1), each % QCOW2_COMPRESSED >> shift
            # It ends somewhere in the last of its sectors.
            yield max(place, place // SECTOR * SECTOR + sectors * SECTOR) + 1


def vmdk_ends(tables, head, size):
    if not head.startswith(b"KDMV"):
        return
    if struct.unpack_from("<Q", head, 56) == (VMDK_AT_END,):
        head = os.pread(tables.file, SECTOR, max(size - 2 * SECTOR, 0)).ljust(SECTOR, b"\0")
    flags, capacity, grain, _, _, entries, _, directory, overhead = struct.unpack_from("<8xIQQQQIQQQ", head)
    yield overhead * SECTOR
    if not grain or not entries or directory == VMDK_AT_END:
        return
    count, length = -(-capacity // (grain * entries)), 1 if flags & VMDK_COMPRESSED else grain * SECTOR
    yield directory * SECTOR + 4 * count
    last = 0
    for number, place in enumerate(tables.read(directory * SECTOR, count, "I", "little")):
        grains = tables.read(place * SECTOR, entries, "I", "little") if place else ()
        whole = max(capacity // grain - number * entries, 0)
        for highest, each in ((max(grains[:whole], default=0), length), (max(grains[whole:], default=0), 1)):
            last = max(last, highest)
            yield highest * SECTOR + each if highest > 1 else 0  # 1 is a grain of zeros
    if last > 1 and flags & VMDK_COMPRESSED and flags & VMDK_MARKERS:
        marker = os.pread(tables.file, 12, last * SECTOR).ljust(12, b"\0")
        yield last * SECTOR + 12 + int.from_bytes(marker[8:], "little")


def vdi_ends(tables, head, _):
    places = struct.unpack_from("<II", head, 0x154)
    disk_size, block, extra, blocks, allocated = struct.unpack_from("<QIIII", head, 0x170)
    yield places[0] + 4 * blocks
    # The disk may end within its last block.
    yield places[1] + allocated * (block + extra) - (max(blocks * block - disk_size, 0) if allocated else 0)


def vhd_ends(tables, head, _):
    (place,) = struct.unpack_from(">Q", head, 16)
    yield place + 1024 + VHD_FOOTER
    if place >= 2**63:
        return
    header = os.pread(tables.file, SECTOR, place).ljust(SECTOR, b"\0")
    table, count, block = struct.unpack_from(">16xQ4xII", header)
    bitmap = -(-block // (8 * SECTOR * SECTOR)) * SECTOR
    yield table + 4 * count + VHD_FOOTER
    places = [each for each in tables.read(table, count, "I", "big") if each != VHD_FREE]
    yield max(places) * SECTOR + bitmap + block + VHD_FOOTER if places else 0


def iso_ends(tables, head, size):
    """By the primary volume descriptor, where it is the first there, and the partitions of a hybrid."""
    yield from gpt_ends(tables, head, size)
    if head[32768:32774] != b"\1CD001":
        return
    (blocks,), (block,) = struct.unpack_from("<I", head, 32768 + 80), struct.unpack_from("<H", head, 32768 + 128)
    yield blocks * block - min(ISO_ENDING_BLOCKS * block, blocks * block // ISO_ENDING_SHARE)


def gpt_ends(_, head, __):
    """By the place of the second header, which is the disk's last sector when it is made."""
    for sector in (512, 4096):
        if head[sector : sector + 8] == b"EFI PART":
            yield (struct.unpack_from("<Q", head, sector + 32)[0] + 1) * sector


ENDS = {
    "qcow2": qcow2_ends,
    "vmdk": vmdk_ends,
    "vdi": vdi_ends,
    "vhd": vhd_ends,
    "iso": iso_ends,
    "gpt": gpt_ends,
}
