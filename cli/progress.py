"""Progress bars on standard error: shown on a terminal, hidden elsewhere."""

import shutil
import sys
import threading
import time
from contextlib import contextmanager
from itertools import count

import click

from cli.output import shortened
from cli.param_types import cleaned
from formatting import format_count, format_size

BYTE_BAR_COLUMNS = 12
# A bar over bytes is drawn again after so many: often enough to look alive, too seldom to slow down reading.
BYTES_PER_UPDATE = 8 * 1024 * 1024
# Columns of a bar's line beside label, bar and text: brackets, percentage, remaining time, and gaps.
OTHER_COLUMNS = 22
SHORTEST_TEXT = 20
ERASE_LINE = "\r\x1b[K"


@contextmanager
def progress_bar(label, length, unit="images"):
    """Show a bar; yield a function ``show(position, done)`` that moves it.

    ``length`` is the last position, None if unknown. ``done`` counts ``unit``; None shows no count.
    """
    started = time.monotonic()

    def text(done):
        """Return the text beside the bar: count and speed."""
        return f"{done:,} {unit}, {done / elapsed_since(started):,.0f}/s" if done is not None else ""

    options = {"length": length, "label": label, "item_show_func": text, "show_eta": True, "file": sys.stderr}
    with click.progressbar(count(), hidden=not sys.stderr.isatty(), **options) as bar:
        yield lambda position, done: bar.update(position - bar.pos, done)


@contextmanager
def byte_progress(label, total):
    """Show a bar over ``total`` bytes of files, which several threads may read.

    Yield its ByteProgress.
    """
    progress = ByteProgress(label, total)
    options = {"length": total, "label": label, "item_show_func": progress.describe, "file": sys.stderr}
    options |= {"update_min_steps": BYTES_PER_UPDATE, "width": BYTE_BAR_COLUMNS}
    with click.progressbar(count(), hidden=not (total and sys.stderr.isatty()), **options) as progress.bar:
        yield progress


class ByteProgress:
    """Bytes and files that were read, behind a bar of click."""

    def __init__(self, label, total):
        self.label = label
        self.total = total
        self.bar = None
        self.bytes_read = 0
        self.files_read = 0
        self.started = time.monotonic()
        self.lock = threading.Lock()

    def describe(self, name):
        """Return the text beside the bar: files, bytes, speed, and the file read last."""
        speed = format_size(int(self.bytes_read / elapsed_since(self.started)))
        amount = f"{format_size(self.bytes_read)}/{format_size(self.total)}"
        text = f"{format_count(self.files_read, 'file')}  {amount}  {speed}/s  {name or ''}".rstrip()
        columns = shutil.get_terminal_size().columns - len(self.label) - BYTE_BAR_COLUMNS - OTHER_COLUMNS
        return shortened(text, max(columns, SHORTEST_TEXT))

    @contextmanager
    def file(self, path, size):
        """Yield a function to call with the number of bytes just read.

        Count bytes left unread as done at the end.
        """
        name, left = cleaned(path).rpartition("/")[2], size

        def advance(length):
            """Count bytes that were read."""
            nonlocal left
            left -= length
            self.advance(length, name)

        try:
            yield advance
        finally:
            self.advance(max(left, 0), name)

    def advance(self, length, name):
        """Move the bar by ``length`` bytes of the file ``name``."""
        with self.lock:
            self.bytes_read += length
            self.bar.update(length, name)

    @contextmanager
    def paused(self):
        """Erase the bar while the result of a file is printed."""
        with self.lock:
            if not self.bar.hidden:
                click.echo(ERASE_LINE, nl=False, err=True)
            yield
            # The text must differ from the last one, or click does not draw the bar again.
            self.files_read += 1
            self.bar.render_progress()


def elapsed_since(started):
    """Return seconds since a monotonic time, never 0."""
    return max(time.monotonic() - started, 0.001)
