"""Truncation check: the size that an image needs by its header and allocation tables."""

import os
import struct
import sys
from array import array

SECTOR = 512
# Limit on table bytes read: enough for 2 TiB of content in a qcow2, 4 TiB in a vmdk.
MOST_TABLE_BYTES = 256 * 1024 * 1024
QCOW2_OFFSET, QCOW2_COMPRESSED = 0x00FF_FFFF_FFFF_FE00, 1 << 62
QCOW2_EXTENDED = 1 << 4
QCOW2_NO_CLUSTER = QCOW2_COMPRESSED | 1  # bit 0 marks a cluster of zeros
VMDK_COMPRESSED, VMDK_MARKERS, VMDK_AT_END = 1 << 16, 1 << 17, 2**64 - 1
VHD_UNALLOCATED, VHD_FOOTER = 2**32 - 1, 511  # the footer of old versions is one byte shorter than a sector
PROTECTIVE = 0xEE
# Blocks after the content that a track ends with, which may be missing.
ISO_TRAILING_BLOCKS, ISO_TRAILING_SHARE = 152, 64


def find_needed_size(kind, file, head, size):
    """Return the least size of an image in bytes, 0 if unknown.

    Not checked: snapshot tables, the correctness of tables, and table bytes beyond MOST_TABLE_BYTES.
    """
    find_ends = ENDS.get(kind)
    ends = list(find_ends(Tables(file), head, size)) if find_ends else []
    return max(SECTOR, *ends) if ends else 0


class Tables:
    """Reader of number arrays in an open file, up to MOST_TABLE_BYTES in all."""

    def __init__(self, file):
        self.file = file
        self.left = MOST_TABLE_BYTES

    def read(self, offset, count, typecode, byteorder):
        """Return ``count`` numbers as an array.

        An empty one if all are 0, or the limit is reached.
        """
        found = array(typecode)
        length = found.itemsize * count
        if offset >= 2**63 or length > self.left:
            return found
        self.left -= length
        content = os.pread(self.file, length, offset)
        if content.strip(b"\0"):
            found.frombytes(content[: len(content) // found.itemsize * found.itemsize])
        if byteorder != sys.byteorder:
            found.byteswap()
        return found


def find_qcow2_ends(tables, head, _):
    """Yield the end offsets of a qcow2's tables and allocated clusters."""
    fields = struct.unpack_from(">IQIIQQIIQ", head, 20)
    bits, disk_size, _, l1_count, l1_offset, refcounts_offset, _, snapshots, snapshots_offset = fields
    cluster = 1 << min(bits, 21)
    yield from (l1_offset + 8 * l1_count, refcounts_offset + 8, snapshots_offset + 1 if snapshots else 0)
    (features,) = struct.unpack_from(">Q", head, 72) if head[7] == 3 else (0,)
    for number, entry in enumerate(tables.read(l1_offset, l1_count, "Q", "big")):
        if l2_offset := entry & QCOW2_OFFSET:
            yield l2_offset + cluster
            entries = tables.read(l2_offset, cluster // 8, "Q", "big")
            if features & QCOW2_EXTENDED:
                yield from find_subcluster_ends(entries, cluster)
            else:
                whole = max(disk_size // cluster - number * (cluster // 8), 0)
                yield from find_cluster_ends(entries, cluster, whole)


def find_cluster_ends(entries, cluster, whole):
    """Yield the end offsets of an L2 table's clusters.

    The first ``whole`` clusters must be complete; those beyond the disk's size may be cut off after a byte.
    """
    for part, length in ((entries[:whole], cluster), (entries[whole:], 1)):
        yield max((each & QCOW2_OFFSET for each in part if not each & QCOW2_NO_CLUSTER), default=-length) + length
    yield from find_compressed_ends(entries, cluster)


def find_subcluster_ends(entries, cluster):
    """Yield the end offsets of an extended L2 table's clusters.

    They end with their last allocated subcluster. An entry is two numbers: the cluster, and a bitmap whose low half
    has a bit for each of 32 subclusters.
    """
    for each, bitmap in zip(entries[::2], entries[1::2], strict=False):
        if not each & QCOW2_COMPRESSED and (allocated := bitmap & 0xFFFF_FFFF):
            # The last allocated subcluster may be cut off after a byte, at the disk's end.
            yield (each & QCOW2_OFFSET) + (allocated.bit_length() - 1) * (cluster // 32) + 1
    yield from find_compressed_ends(entries[::2], cluster)


def find_compressed_ends(entries, cluster):
    """Yield the least end offsets of an L2 table's compressed clusters."""
    shift = 71 - cluster.bit_length()
    for each in entries:
        if each & QCOW2_COMPRESSED:
            offset, sectors = each & ((1 << shift) - 1), each % QCOW2_COMPRESSED >> shift
            # Compressed data ends anywhere in its last sector.
            yield max(offset, offset // SECTOR * SECTOR + sectors * SECTOR) + 1


def read_vmdk_header(file, head, size):
    """Return the valid header of a sparse vmdk, the footer if the first one says so."""
    if struct.unpack_from("<Q", head, 56) != (VMDK_AT_END,):
        return head
    return os.pread(file, SECTOR, max(size - 2 * SECTOR, 0)).ljust(SECTOR, b"\0")


def find_vmdk_ends(tables, head, size):
    """Yield the end offsets of a vmdk's metadata, grain tables and grains."""
    if not head.startswith(b"KDMV"):
        return
    head = read_vmdk_header(tables.file, head, size)
    flags, capacity, grain, _, _, entries, _, directory, overhead = struct.unpack_from("<8xIQQQQIQQQ", head)
    yield overhead * SECTOR
    if not grain or not entries or directory == VMDK_AT_END:
        return
    count, length = -(-capacity // (grain * entries)), 1 if flags & VMDK_COMPRESSED else grain * SECTOR
    yield directory * SECTOR + 4 * count
    last = 0
    for number, offset in enumerate(tables.read(directory * SECTOR, count, "I", "little")):
        grains = tables.read(offset * SECTOR, entries, "I", "little") if offset else ()
        whole = max(capacity // grain - number * entries, 0)
        for highest, each in ((max(grains[:whole], default=0), length), (max(grains[whole:], default=0), 1)):
            last = max(last, highest)
            yield highest * SECTOR + each if highest > 1 else 0  # 1 marks a grain of zeros
    if last > 1 and flags & VMDK_COMPRESSED and flags & VMDK_MARKERS:
        marker = os.pread(tables.file, 12, last * SECTOR).ljust(12, b"\0")
        yield last * SECTOR + 12 + int.from_bytes(marker[8:], "little")


def find_vdi_ends(tables, head, _):
    """Yield the end offsets of a vdi's block map and allocated blocks."""
    map_offset, blocks_offset = struct.unpack_from("<II", head, 0x154)
    disk_size, block, extra, blocks, allocated = struct.unpack_from("<QIIII", head, 0x170)
    yield map_offset + 4 * blocks
    # The last block may be cut off at the disk's size.
    yield blocks_offset + allocated * (block + extra) - (max(blocks * block - disk_size, 0) if allocated else 0)


def find_vhd_ends(tables, head, _):
    """Yield the end offsets of a dynamic vhd's header, table and blocks.

    One of fixed size begins with its content; its footer has been compared with its length.
    """
    if not head.startswith(b"conectix"):
        return
    (offset,) = struct.unpack_from(">Q", head, 16)
    yield offset + 1024 + VHD_FOOTER
    if offset >= 2**63:
        return
    header = os.pread(tables.file, SECTOR, offset).ljust(SECTOR, b"\0")
    table, count, block = struct.unpack_from(">16xQ4xII", header)
    bitmap = -(-block // (8 * SECTOR * SECTOR)) * SECTOR
    yield table + 4 * count + VHD_FOOTER
    blocks = [each for each in tables.read(table, count, "I", "big") if each != VHD_UNALLOCATED]
    yield max(blocks) * SECTOR + bitmap + block + VHD_FOOTER if blocks else 0


def find_iso_ends(tables, head, size):
    """Yield the end offsets of an iso's primary volume, and of a hybrid's GPT."""
    yield from find_gpt_ends(tables, head, size)
    if head[32768:32774] != b"\1CD001":
        return
    (blocks,), (block,) = struct.unpack_from("<I", head, 32768 + 80), struct.unpack_from("<H", head, 32768 + 128)
    yield blocks * block - min(ISO_TRAILING_BLOCKS * block, blocks * block // ISO_TRAILING_SHARE)


def find_disk_ends(tables, head, size):
    """Yield the end offsets of a disk's partitions by its MBR, and of its GPT."""
    yield from find_gpt_ends(tables, head, size)
    for kind, start, length in read_partitions(head):
        # The protective partition of a GPT may be longer than the disk (UEFI 2.10, 5.2.3).
        yield (start + length) * SECTOR if kind not in (0, PROTECTIVE) and length else 0


def read_partitions(head):
    """Return (type, first sector, number of sectors) of the four partitions of an MBR."""
    return [struct.unpack_from("<4xB3xII", head, 446 + 16 * number) for number in range(4)]


def find_gpt_ends(_, head, __):
    """Yield the end offset of the backup GPT header, the disk's last sector."""
    for sector in (512, 4096):
        if head[sector : sector + 8] == b"EFI PART":
            yield (struct.unpack_from("<Q", head, sector + 32)[0] + 1) * sector


# Format → generator of end offsets, with the parameters Tables, head of the file, size of the file.
ENDS = {
    "qcow2": find_qcow2_ends,
    "vmdk": find_vmdk_ends,
    "vdi": find_vdi_ends,
    "vhd": find_vhd_ends,
    "iso": find_iso_ends,
    "gpt": find_disk_ends,
}
