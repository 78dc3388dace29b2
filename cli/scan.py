"""``scan``: images found in folders, and registered."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, nullcontext

import click
from click.core import ParameterSource
from flask import current_app

from cli import inspection, output
from cli.byte_progress import metered
from cli.checksums import MD5, Hasher
from cli.client import with_client
from cli.file_walk import NOWHERE, Entry, is_below, is_gone, walk
from cli.image_format import NONE, SKIPPED
from cli.param_types import cleaned
from cli.reconciliation import (
    FAILED,
    MISSING,
    REFUSED,
    UNCHANGED,
    Outcome,
    Register,
    alone,
    is_public_by_default,
    synced_together,
    told,
)
from cli.watch import watch

MOST_JOBS = 64
MOST_DOUBLES = 20
# The order of the last line; what is not an image is only counted.
COUNTED = ("added", "updated", UNCHANGED, MISSING, SKIPPED, REFUSED, FAILED)
WRONG = (REFUSED, FAILED)


@click.command("scan")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True))
@click.option("--dry-run", is_flag=True, help="Only say what would be done; nothing is read whole.")
@click.option("--watch", "watches", is_flag=True, help="Go on: register files when they have stopped changing.")
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=2.0, help="With --watch: seconds between looks.")
@click.option("--mark-missing", is_flag=True, help="Make images whose file is gone deactivated, until it is back.")
@click.option("--public/--private", "is_public", default=None, help="Who sees what is added.")
@click.option("--jobs", type=click.IntRange(1, MOST_JOBS), help="Files read at once; by default, one for each core.")
@click.option("--verbose", is_flag=True, help="Name what is no image and what is unchanged, too.")
@with_client
def scan_images(client, paths, dry_run, watches, interval, mark_missing, is_public, jobs, verbose):
    """Find images in folders, and register them.

    The format is what the content says. Links are followed. A file that has a record and has not changed (size,
    time, inode) is not read again; of one that has, only size, checksums and format are updated. Unless callers are
    identified (a token, another [auth] flavor than none), what is added is public.

    The exit code is 1 where an image was refused or could not be read.

    \b
    Example:
      $ flask --app registry scan images/
    """
    roots = list(dict.fromkeys(os.path.realpath(path) for path in paths))
    context = click.get_current_context()
    if not watches and context.get_parameter_source("interval") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--interval is for --watch.")
    is_remote = bool(context.params.get("url"))
    is_public = is_public_by_default() if is_public is None else is_public
    register = Register(client, is_public, socket.gethostname() if is_remote else None, dry_run, mark_missing)
    scan = Scan(register, roots, jobs or min(os.cpu_count() or 1, MOST_JOBS), verbose)
    if watches:
        watch(scan, interval)
    else:
        scan.take_in(walk(roots))
    scan.sum_up()
    if any(scan.counts.get(word) for word in WRONG):
        context.exit(1)


class Scan:
    """What is found under ``roots``, shown line by line and counted."""

    def __init__(self, register, roots, jobs, verbose):
        self.register = register
        self.roots = roots
        self.jobs = jobs
        self.verbose = verbose
        self.disk_formats = current_app.settings.api.disk_formats
        self.counts = {}
        self.named = {root for root in roots if not os.path.isdir(root)}

    def take_in(self, found, gone=None):
        """Register what ``found`` says; ``gone`` are paths that are known to be missing, None to look for them.

        Returns {path: Outcome}.
        """
        with nullcontext() if self.register.is_dry else alone(self.register.host is None, self.roots):
            return self.take_in_alone(found, gone)

    def take_in_alone(self, found, gone):
        self.register.learn(lambda path: is_below(path, self.roots))
        words = {path: SKIPPED if reason == NOWHERE else FAILED for path, reason in found.troubles}
        outcomes = {path: self.tell(path, Outcome(words[path], reason)) for path, reason in found.troubles}
        for path, other in found.doubles:
            self.tell(path, Outcome(NONE, reason=f"is the same file as {other}"))
        entries = {self.register.as_registered(entry): entry.path for entry in found.entries}
        taken = {entry.path for entry in entries} | {path for path, _ in found.doubles}
        if gone is None:
            gone = [path for path in self.register.paths() if path not in taken and is_gone(path)]
        self.register.expect_moves(gone)
        unread = []
        for entry, path in entries.items():
            outcome = self.register.known(entry)
            if outcome is None:
                unread.append(entry)
            else:
                outcomes[path] = self.tell(entry.path, outcome)
        outcomes |= {entries[entry]: outcome for entry, outcome in self.read_all(unread).items()}
        for path in gone:
            outcomes[path] = self.tell(path, self.register.miss(path))
        return outcomes

    def read_all(self, entries):
        """{entry: Outcome}, several read at once, each registered as it is done."""
        outcomes = {}
        is_dry = self.register.is_dry
        with ExitStack() as stack:
            hasher = None if is_dry else Hasher(self.jobs)
            stack.enter_context(synced_together(self.register.host is None and not is_dry))
            meter = stack.enter_context(metered("scan", sum(entry.status.st_size for entry in entries)))
            readers = stack.enter_context(ThreadPoolExecutor(self.jobs, thread_name_prefix="read"))
            try:
                waiting = {readers.submit(self.read, entry, hasher, meter): entry for entry in entries}
                for future in as_completed(waiting):
                    entry = waiting.pop(future)
                    outcome = self.register.add(entry, future.result())
                    outcomes[entry] = self.tell(entry.path, outcome)
            finally:
                readers.shutdown(wait=False, cancel_futures=True)
                if hasher:
                    hasher.stop()
        return outcomes

    def read(self, entry: Entry, hasher, meter):
        with meter.file(entry.path, entry.status.st_size) as advance:
            return inspection.read(
                entry.path, self.disk_formats, hasher, (MD5, self.register.algorithm_of(entry.path)), advance
            )

    def tell(self, path, outcome):
        word = outcome.word
        self.counts[word] = self.counts.get(word, 0) + 1
        if self.verbose or word not in (NONE, UNCHANGED) or (word == NONE and path in self.named):
            label = f"would be {word}" if self.register.is_dry and word in ("added", "updated") else word
            told(label, path, outcome.image, outcome.reason)
        return outcome

    def sum_up(self):
        shown = [word for word in COUNTED if word in COUNTED[:3] or self.counts.get(word)]
        parts = [f"{self.counts.get(word, 0)} {word}" for word in shown]
        others = self.counts.get(NONE, 0)
        output.echo(", ".join([*parts, *([f"{others} no images"] if others else [])]), err=True)
        doubles = self.register.doubles()
        for paths in doubles[:MOST_DOUBLES]:
            more = [f"and {len(paths) - MOST_DOUBLES} more"] if len(paths) > MOST_DOUBLES else []
            output.echo(f"the same content: {', '.join([*map(cleaned, paths[:MOST_DOUBLES]), *more])}", err=True)
        if len(doubles) > MOST_DOUBLES:
            output.echo(f"the same content: {len(doubles) - MOST_DOUBLES} more times", err=True)
