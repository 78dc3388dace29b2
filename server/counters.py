"""What all workers write their counts on: memory that they share, a slot for each, so that none waits for another."""

import mmap

# Up to 64 workers, and as many again while a reload replaces them.
MOST_SLOTS = 128
# Numbers of 8 bytes. Memory that nobody has written to costs nothing.
SLOT_CELLS = 24 * 1024
HEAD_CELLS = 8
CELL_BYTES = 8
# Of a slot: how many workers have begun in it, and whether one is alive now.
STARTS, ALIVE = range(2)
FIRST = 8


class Board:
    """Made before the workers are forked. A worker's counts stay when it dies, and who takes its slot goes on from
    them: sums never fall, and what is to be read does not grow."""

    def __init__(self, slots=MOST_SLOTS):
        self.slots = slots
        memory = mmap.mmap(-1, (HEAD_CELLS + slots * SLOT_CELLS) * CELL_BYTES)
        self.cells = memoryview(memory).cast("d")

    def take(self):
        """The number of a slot that is free, or None; for the one process that starts the workers."""
        for number in range(self.slots):
            slot = self.slot(number)
            if not slot[ALIVE]:
                slot[ALIVE] = 1.0
                slot[STARTS] += 1.0
                return number
        return None

    def release(self, number):
        """The worker has ended, however it did."""
        if number is not None:
            self.slot(number)[ALIVE] = 0.0

    def slot(self, number):
        start = HEAD_CELLS + number * SLOT_CELLS
        return self.cells[start : start + SLOT_CELLS]

    def used(self):
        """The slots in which some worker has begun."""
        slots = (self.slot(number) for number in range(self.slots))
        return [slot for slot in slots if slot[STARTS]]

    def agrees(self, mark):
        """Whether all who write here mean the same by each cell: the first one's ``mark``, not 0, is everybody's."""
        self.cells[0] = self.cells[0] or mark
        return self.cells[0] == mark
