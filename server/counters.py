"""Shared counters: memory that all workers map, with one slot for each, so that none needs a lock."""

import mmap

# Up to 64 workers, and as many again during a reload.
MOST_SLOTS = 128
# Numbers of 8 bytes; pages that were never written use no memory.
SLOT_CELLS = 24 * 1024
HEAD_CELLS = 8
CELL_BYTES = 8
# Cells of a slot: count of workers started in it, and whether one is alive.
STARTS, ALIVE = range(2)
FIRST = 8


class SharedCounters:
    """Anonymous shared memory, created before the workers are forked.

    Counts outlive a worker, and the next worker in its slot continues them: sums never fall.
    """

    def __init__(self, slots=MOST_SLOTS):
        self.slots = slots
        memory = mmap.mmap(-1, (HEAD_CELLS + slots * SLOT_CELLS) * CELL_BYTES)
        self.cells = memoryview(memory).cast("d")

    def take(self):
        """Reserve a free slot and return its number, or None; only the arbiter calls this."""
        for number in range(self.slots):
            slot = self.slot(number)
            if not slot[ALIVE]:
                slot[ALIVE] = 1.0
                slot[STARTS] += 1.0
                return number
        return None

    def release(self, number):
        """Mark the slot of an ended worker as free."""
        if number is not None:
            self.slot(number)[ALIVE] = 0.0

    def slot(self, number):
        """Return the cells of a slot as a memoryview of floats."""
        start = HEAD_CELLS + number * SLOT_CELLS
        return self.cells[start : start + SLOT_CELLS]

    def used(self):
        """Return the slots that any worker has used."""
        slots = (self.slot(number) for number in range(self.slots))
        return [slot for slot in slots if slot[STARTS]]

    def agrees(self, mark):
        """Return whether ``mark``, a layout's checksum, is that of the first worker."""
        self.cells[0] = self.cells[0] or mark
        return self.cells[0] == mark
