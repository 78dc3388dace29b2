"""Checksums of files, several at once in one reading, on as many cores as there are."""

import errno
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

BLOCK_BYTES = 1024 * 1024
ZEROS = memoryview(bytes(BLOCK_BYTES))
# Below this a file's checksums are taken one after the other: handing a block to another thread costs more.
SMALL_BYTES = 4 * BLOCK_BYTES
MD5, SHA512 = "md5", "sha512"


class Stopped(Exception):
    """Whoever waits for the checksums has gone."""


class Hasher:
    """Hashlib gives the interpreter's lock away over a block, so that threads hash on several cores."""

    def __init__(self, jobs):
        self.threads = ThreadPoolExecutor(2 * jobs, thread_name_prefix="hash")
        self.is_stopped = threading.Event()

    def stop(self):
        self.is_stopped.set()
        self.threads.shutdown(wait=True, cancel_futures=True)

    def digests(self, file, size, algorithms=(MD5, SHA512), advance=lambda count: None):
        """({algorithm: hexadecimal digest}, bytes read) of an open file of about ``size``, read once from its start.

        ``advance`` is told of each block's length. Raises OSError, Stopped.
        """
        hashes = [hashlib.new(algorithm, usedforsecurity=False) for algorithm in algorithms]
        feed = self.feed_each if size < SMALL_BYTES or len(hashes) == 1 else self.feed_together
        count = 0
        for block in feed(hashes, blocks(file, size)):
            if self.is_stopped.is_set():
                raise Stopped
            count += len(block)
            advance(len(block))
        return {name: each.hexdigest() for name, each in zip(algorithms, hashes, strict=True)}, count

    def feed_each(self, hashes, source):
        for block in source:
            for each in hashes:
                each.update(block)
            yield block

    def feed_together(self, hashes, source):
        """While a block is hashed, the next one is read into the other buffer."""
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


def blocks(file, size):
    """The file from its start, in two buffers by turns; where it has holes, zeros that were not read.

    One that grows beyond ``size`` meanwhile is left soon after it.
    """
    buffers = [memoryview(bytearray(BLOCK_BYTES)) for _ in range(2)]
    position, turn, data_start = 0, 0, 0
    while position <= size:
        if position >= data_start:
            data_start = next_data(file, position)
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


def next_data(file, position):
    """Where the next bytes are that are kept on the disk; the file's end where none follow."""
    try:
        return os.lseek(file, position, os.SEEK_DATA)
    except OSError as error:
        return os.fstat(file).st_size if error.errno == errno.ENXIO else position
