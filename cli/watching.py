"""``scan --watch``: files are registered when they have stopped changing."""

import time

import click

from cli.recording import FAILED
from cli.walking import Found, is_gone, walk
from words import counted


def watch(scan, interval):
    """Look every ``interval`` seconds, until Ctrl-C.

    What looks the same twice in a row has stopped changing; what is missing twice is gone. Looking is a walk: it
    needs no service of the operating system, and works on network and container file systems, where those see nothing.
    """
    click.echo(f"watching {counted(len(scan.roots), 'path')}; Ctrl-C ends it", err=True)
    before, done = {}, {}
    try:
        while True:
            found = walk(scan.roots)
            now = {entry.path: entry.signature for entry in found.entries} | dict(found.troubles)
            settled = {path for path, signature in now.items() if before.get(path) == signature != done.get(path)}
            gone = [path for path in done if path not in now and path not in before and is_gone(path)]
            if settled or gone:
                look(scan, found, settled, done, None if not done else gone)
            for path in gone:
                done.pop(path, None)
            before = now
            time.sleep(interval)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)


def look(scan, found, settled, done, gone):
    """Of ``found`` only what has settled; ``done`` notes what need not be looked at again."""
    part = Found(
        [entry for entry in found.entries if entry.path in settled],
        [trouble for trouble in found.troubles if trouble[0] in settled],
        [],
    )
    outcomes = scan.take_in(part, gone)
    now = {entry.path: entry.signature for entry in part.entries} | dict(part.troubles)
    # What changed while it was read comes again when it has settled.
    again = {path for path, outcome in outcomes.items() if outcome.word == FAILED and path not in dict(part.troubles)}
    done |= {path: signature for path, signature in now.items() if path not in again}
