"""How far reading is: bars over bytes on a terminal, nothing elsewhere."""

import sys
from contextlib import contextmanager

from cli.param_types import cleaned

# Shorter files are over before anybody could read their names.
SHOWN_BYTES = 32 * 1024 * 1024
LONGEST_NAME = 40


class NoMeter:
    @contextmanager
    def file(self, path, size):
        yield lambda count: None


class Meter:
    """One bar for all bytes, and one for each of the longer files that are being read."""

    def __init__(self, progress, label, total):
        self.progress = progress
        self.overall = progress.add_task(label, total=total)

    @contextmanager
    def file(self, path, size):
        """A function that is told of bytes as they are read; what was not read in the end counts as done."""
        from rich.markup import escape

        name = cleaned(path).rpartition("/")[2]
        name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        task = self.progress.add_task(f"  {escape(name)}", total=size) if size >= SHOWN_BYTES else None
        left = size

        def advance(count):
            nonlocal left
            left -= count
            self.progress.advance(self.overall, count)
            if task is not None:
                self.progress.advance(task, count)

        try:
            yield advance
        finally:
            self.progress.advance(self.overall, max(left, 0))
            if task is not None:
                self.progress.remove_task(task)


@contextmanager
def metered(label, total):
    """A Meter, or what looks like one where nobody watches."""
    if not sys.stderr.isatty():
        yield NoMeter()
        return
    # Imported here: only who watches pays for it.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    options = {"transient": True, "redirect_stdout": sys.stdout.isatty(), "redirect_stderr": True}
    with Progress(*columns, console=Console(stderr=True), **options) as progress:
        yield Meter(progress, label, total)
