"""``scan --watch``: files are registered when they have stopped changing."""

import time

import click

from cli import output
from cli.file_walk import Found, is_gone, walk
from cli.reconciliation import FAILED
from cli.runtime import UNREACHABLE, Failure
from formatting import format_count


def watch(scan, interval):
    """Look every ``interval`` seconds, until Ctrl-C.

    What looks the same twice in a row has stopped changing; what is missing twice is gone. Looking is a walk: it
    needs no service of the operating system, and works on network and container file systems, where those see nothing.
    """
    click.echo(f"watching {format_count(len(scan.roots), 'path')}; Ctrl-C ends it", err=True)
    before, done, is_told = {}, {}, False
    try:
        while True:
            found = walk(scan.roots)
            now = {entry.path: entry.signature for entry in found.entries} | dict(found.troubles)
            settled = {path for path, signature in now.items() if before.get(path) == signature != done.get(path)}
            gone = [path for path in done if path not in now and path not in before and is_gone(path)]
            if settled or gone:
                is_told = look(scan, found, settled, done, None if not done else gone, is_told)
            before = now
            time.sleep(interval)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)


def look(scan, found, settled, done, gone, is_told):
    """Of ``found`` only what has settled; ``done`` notes what need not be looked at again.

    Returns whether the registry cannot be reached, which is told once: all comes again at the next look.
    """
    part = Found(
        [entry for entry in found.entries if entry.path in settled],
        [trouble for trouble in found.troubles if trouble[0] in settled],
        [],
    )
    try:
        outcomes = scan.take_in(part, gone)
    except Failure as failure:
        if failure.exit_code != UNREACHABLE:
            raise
        if not is_told:
            output.echo(f"{failure.message} Files wait until it answers.", err=True)
        return True
    now = {entry.path: entry.signature for entry in part.entries} | dict(part.troubles)
    # What changed while it was read comes again when it has settled.
    again = {path for path, outcome in outcomes.items() if outcome.word == FAILED and path not in dict(part.troubles)}
    done |= {path: signature for path, signature in now.items() if path not in again}
    for path in gone or ():
        done.pop(path, None)
    return False
