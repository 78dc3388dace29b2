"""Checksums of files: several algorithms in one pass, on several cores."""

import errno
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

BLOCK_BYTES = 1024 * 1024
ZEROS = memoryview(bytes(BLOCK_BYTES))
# Smaller files are hashed in the reading thread: passing blocks to other threads would cost more than it gains.
SMALL_BYTES = 4 * BLOCK_BYTES
MD5, SHA512 = "md5", "sha512"


class Stopped(Exception):
    """Cancellation of a checksum by ``Hasher.stop``."""


class Hasher:
    """Thread pool for checksums.

    Hashlib releases the interpreter lock, so threads use several cores.
    """

    def __init__(self, jobs):
        self.threads = ThreadPoolExecutor(2 * jobs, thread_name_prefix="hash")
        self.is_stopped = threading.Event()

    def stop(self):
        """Cancel running checksums and end the threads."""
        self.is_stopped.set()
        self.threads.shutdown(wait=True, cancel_futures=True)

    def hash_file(self, file, size, algorithms=(MD5, SHA512), advance=lambda count: None):
        """Return ({algorithm: hexadecimal digest}, bytes read) of an open file.

        ``advance`` is called with the length of each block.
        Raises: OSError, Stopped.
        """
        hashes = [hashlib.new(algorithm, usedforsecurity=False) for algorithm in algorithms]
        update = self.update_in_turn if size < SMALL_BYTES or len(hashes) == 1 else self.update_in_threads
        count = 0
        for block in update(hashes, read_blocks(file, size)):
            if self.is_stopped.is_set():
                raise Stopped
            count += len(block)
            advance(len(block))
        return {name: each.hexdigest() for name, each in zip(algorithms, hashes, strict=True)}, count

    def update_in_turn(self, hashes, source):
        """Yield each block after updating the hashes with it, in this thread."""
        for block in source:
            for each in hashes:
                each.update(block)
            yield block

    def update_in_threads(self, hashes, source):
        """Yield each block after updating the hashes with it, in threads.

        The next block is read meanwhile.
        """
        waiting = []
        block = next(source, None)
        while block is not None:
            waiting = [self.threads.submit(each.update, block) for each in hashes]
            try:
                following = next(source, None)
            finally:
                for future in waiting:
                    future.result()
            yield block
            block = following


def read_blocks(file, size):
    """Yield the file's blocks from its start, in two alternating buffers.

    Holes of sparse files yield zeros unread.

    Reading ends soon after ``size`` bytes, even if the file keeps growing.
    """
    buffers = [memoryview(bytearray(BLOCK_BYTES)) for _ in range(2)]
    position, turn, data_start = 0, 0, 0
    while position <= size:
        if position >= data_start:
            data_start = find_data(file, position)
        if data_start - position >= BLOCK_BYTES:
            position += BLOCK_BYTES
            yield ZEROS
            continue
        count = os.preadv(file, [buffers[turn]], position)
        if count == 0:
            return
        yield buffers[turn][:count]
        position += count
        turn = 1 - turn


def find_data(file, position):
    """Return the offset of the next data that is not a hole.

    The file's size if none follows.
    """
    try:
        return os.lseek(file, position, os.SEEK_DATA)
    except OSError as error:
        return os.fstat(file).st_size if error.errno == errno.ENXIO else position
