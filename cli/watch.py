"""``scan --watch``: register files once they have stopped changing."""

import time

import click

from cli import output
from cli.file_walk import Found, is_gone, walk_files
from cli.reconciliation import FAILED
from cli.runtime import UNREACHABLE, Failure
from formatting import format_count


def watch(scan, interval):
    """Register settled files every ``interval`` seconds, until Ctrl-C."""
    click.echo(f"watching {format_count(len(scan.roots), 'path')}; press Ctrl-C to stop", err=True)
    watcher = Watcher(scan)
    try:
        while True:
            watcher.walk()
            time.sleep(interval)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)


class Watcher:
    """Signatures of the files that a scan watches.

    A file has settled when two walks in a row find the same signature; it is gone when two miss it. Walks also work
    on network and container file systems, where inotify reports nothing.
    """

    def __init__(self, scan):
        self.scan = scan
        self.before = {}  # path → signature or trouble, of the last walk
        self.done = {}  # the same, of what was registered
        self.is_waiting = False

    def walk(self):
        """Walk the roots once, and register what has settled since the last walk."""
        found = walk_files(self.scan.roots)
        now = get_signatures(found)
        settled = {path for path, signature in now.items() if self.before.get(path) == signature != self.done.get(path)}
        gone = [path for path in self.done if path not in now and path not in self.before and is_gone(path)]
        if settled or gone:
            entries = [entry for entry in found.entries if entry.path in settled]
            self.register(Found(entries, [trouble for trouble in found.troubles if trouble[0] in settled], []), gone)
        self.before = now

    def register(self, found, gone):
        """Register settled files, or keep them for later if the registry is down."""
        try:
            outcomes = self.scan.register(found, gone if self.done else None)
        except Failure as failure:
            if failure.exit_code != UNREACHABLE:
                raise
            if not self.is_waiting:
                output.echo(f"{failure.message} Files will be registered once it answers.", err=True)
            self.is_waiting = True
            return
        self.is_waiting = False
        # A file that changed during the reading fails, and is read again once it has settled.
        troubled = dict(found.troubles)
        again = {path for path, outcome in outcomes.items() if outcome.word == FAILED and path not in troubled}
        self.done |= {path: signature for path, signature in get_signatures(found).items() if path not in again}
        for path in gone:
            self.done.pop(path, None)


def get_signatures(found):
    """Return {path: signature of a file, or reason of a trouble}."""
    return {entry.path: entry.signature for entry in found.entries} | dict(found.troubles)
