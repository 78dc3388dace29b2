"""How far a command is: a bar on a terminal, nothing elsewhere."""

import sys
import time
from contextlib import contextmanager
from itertools import count

import click


@contextmanager
def progress_bar(label, length, unit="images"):
    """A function ``show(position, done)``; ``length`` is what position reaches at the end, or None.

    ``done`` counts ``unit``, or is None where the bar says enough.
    """
    started = time.monotonic()

    def text(images):
        seconds = max(time.monotonic() - started, 0.001)
        return f"{images:,} {unit}, {images / seconds:,.0f}/s" if images is not None else ""

    options = {"length": length, "label": label, "item_show_func": text, "show_eta": True, "file": sys.stderr}
    with click.progressbar(count(), hidden=not sys.stderr.isatty(), **options) as bar:
        yield lambda position, images: bar.update(position - bar.pos, images)
