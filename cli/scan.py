"""``scan``: find image files in folders and register them."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, nullcontext
from functools import partial

import click
from click.core import ParameterSource
from flask import current_app

from cli import output
from cli.bulk_write import deferred_sync, is_public_by_default, print_result, single_run
from cli.checksums import MD5, Hasher
from cli.client import with_client
from cli.file_walk import BROKEN_LINK, Entry, is_below, is_gone, walk_files
from cli.image_format import NONE, SKIPPED
from cli.inspection import inspect_file
from cli.param_types import cleaned
from cli.progress import byte_progress
from cli.reconciliation import ADDED, FAILED, MISSING, REFUSED, UNCHANGED, UPDATED, FileRecords, Outcome
from cli.scan_properties import get_hash
from cli.watch import watch
from formatting import format_count

MOST_JOBS = 64
MOST_DUPLICATES = 20
# Order of the words in the summary; the first three are always there.
SUMMARY_WORDS = (ADDED, UPDATED, UNCHANGED, MISSING, SKIPPED, REFUSED, FAILED)
ALWAYS_SHOWN = SUMMARY_WORDS[:3]


@click.command("scan")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True))
@click.option("--dry-run", is_flag=True, help="Print what would be done, without doing it or computing checksums.")
@click.option("--watch", "watches", is_flag=True, help="Keep running, and register files once they stop changing.")
@click.option("--interval", type=click.FloatRange(0.1, 3600), default=2.0, help="With --watch: seconds between walks.")
@click.option("--mark-missing", is_flag=True, help="Deactivate images whose file is gone, until it is back.")
@click.option("--public/--private", "is_public", default=None, help="Visibility of new images.")
@click.option("--jobs", type=click.IntRange(1, MOST_JOBS), help="Files read in parallel; default: one per core.")
@click.option("--verbose", is_flag=True, help="Also list unchanged images and files that are not images.")
@with_client
def scan_images(client, paths, dry_run, watches, interval, mark_missing, is_public, jobs, verbose):
    """Find images in folders, and register them.

    The format is detected by content. Links are followed. A file with the size, mtime and inode in its record is
    not read again; if it has changed, only size, checksums and format of the record are updated. New images are
    public, unless callers are identified (by a token, or an [auth] flavor other than none).

    The exit code is 1 if an image was refused or could not be read.

    \b
    Example:
      $ flask --app registry scan images/
    """
    roots = list(dict.fromkeys(os.path.realpath(path) for path in paths))
    context = click.get_current_context()
    if not watches and context.get_parameter_source("interval") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--interval works only together with --watch.")
    is_remote = bool(context.params.get("url"))
    is_public = is_public_by_default() if is_public is None else is_public
    records = FileRecords(client, is_public, socket.gethostname() if is_remote else None, dry_run, mark_missing)
    scan = Scan(records, roots, jobs or min(os.cpu_count() or 1, MOST_JOBS), verbose)
    if watches:
        watch(scan, interval)
    else:
        scan.register(walk_files(roots))
    scan.print_summary()
    if scan.counts.get(REFUSED) or scan.counts.get(FAILED):
        context.exit(1)


class Scan:
    """Scan of the paths ``roots``.

    Prints a line per file and counts the outcomes.
    """

    def __init__(self, records, roots, jobs, verbose):
        self.records = records
        self.roots = roots
        self.jobs = jobs
        self.verbose = verbose
        self.disk_formats = current_app.settings.api.disk_formats
        self.counts = {}
        self.named = {root for root in roots if not os.path.isdir(root)}

    def register(self, found, gone=None):
        """Register the files ``found`` by a walk, and return {path: Outcome}.

        ``gone`` are the paths of missing files, None to look for all that have a record.
        """
        with nullcontext() if self.records.is_dry else single_run(self.records.host is None, self.roots):
            self.records.load(lambda path: is_below(path, self.roots))
            outcomes = self.report_other_files(found)
            entries = {self.records.use_registered_path(entry): entry.path for entry in found.entries}
            if gone is None:
                taken = {entry.path for entry in entries} | {path for path, _ in found.duplicates}
                gone = [path for path in self.records.by_path if path not in taken and is_gone(path)]
            self.records.expect_moves(entries, {*gone})
            outcomes |= self.register_entries(entries, {*gone})
            return outcomes | {path: self.report(path, self.records.report_missing(path)) for path in gone}

    def report_other_files(self, found):
        """Report what is not read: unreadable paths, broken links and duplicates.

        Return {path: Outcome}.
        """
        words = {path: SKIPPED if reason == BROKEN_LINK else FAILED for path, reason in found.troubles}
        outcomes = {path: self.report(path, Outcome(words[path], reason)) for path, reason in found.troubles}
        for path, other in found.duplicates:
            self.report(path, Outcome(NONE, f"is the same file as {other}"))
        return outcomes

    def register_entries(self, entries, gone):
        """Register files, reading only those that must be.

        Return {path of the walk: Outcome}.
        """
        outcomes, unread = {}, []
        for entry, path in entries.items():
            outcome = self.records.reconcile_unread(entry)
            if outcome is None:
                unread.append(entry)
            else:
                outcomes[path] = self.report(entry.path, outcome)
        return outcomes | {entries[entry]: outcome for entry, outcome in self.read_all(unread, gone).items()}

    def read_all(self, entries, gone):
        """Read files in parallel, and register each when it is read.

        Those that may take part in a move are registered last. Return {entry: Outcome}.
        """
        is_dry = self.records.is_dry
        with ExitStack() as stack:
            hasher = None if is_dry else Hasher(self.jobs)
            stack.enter_context(deferred_sync(self.records.host is None and not is_dry))
            total = sum(entry.status.st_size for entry in entries)
            progress = stack.enter_context(byte_progress("scan", total))
            readers = stack.enter_context(ThreadPoolExecutor(self.jobs, thread_name_prefix="read"))
            try:
                waiting = {readers.submit(self.read, entry, hasher, progress): entry for entry in entries}
                readings = ((waiting.pop(future), future.result()) for future in as_completed(waiting))
                return self.register_readings(readings, progress, self.records.get_contents(gone, entries), gone)
            finally:
                readers.shutdown(wait=False, cancel_futures=True)
                if hasher:
                    hasher.stop()

    def register_readings(self, readings, progress, lost, gone):
        """Register files as they are read. Return {entry: Outcome}.

        ``readings`` are pairs (entry, Inspected), ``lost`` the contents that may have moved.
        """
        outcomes, held_back = {}, {}
        for entry, found in readings:
            if entry.path in self.records.by_path or get_hash(found)[1] in lost:
                held_back[entry] = found
                continue
            with progress.paused():
                outcomes[entry] = self.report(entry.path, self.records.reconcile(entry, found))
        with progress.paused():
            return outcomes | self.register_last(held_back, gone)

    def register_last(self, readings, gone):
        """Register files whose path or content a record has, once all are read.

        Some records may have moved. ``readings`` is {entry: Inspected}. Return {entry: Outcome}.
        """
        outcomes = {}
        for entry, (old, image) in self.records.find_copied(readings, gone).items():
            properties = self.records.get_properties(readings.pop(entry))
            outcomes[entry] = self.report(entry.path, self.records.move(entry, old, image, properties))
        for entry, found in readings.items():
            outcomes[entry] = self.report(entry.path, self.records.reconcile(entry, found))
        return outcomes

    def read(self, entry: Entry, hasher, progress):
        """Return the Inspected of a file."""
        algorithms = (MD5, self.records.choose_algorithm(entry.path))
        with progress.file(entry.path, entry.status.st_size) as advance:
            is_hashed = partial(self.records.is_worth_hashing, entry)
            return inspect_file(entry.path, self.disk_formats, hasher, algorithms, advance, is_hashed)

    def report(self, path, outcome):
        """Count an outcome, print it if it is worth a line, and return it."""
        word = outcome.word
        self.counts[word] = self.counts.get(word, 0) + 1
        if self.verbose or word not in (NONE, UNCHANGED) or (word == NONE and path in self.named):
            label = f"would be {word}" if self.records.is_dry and word in (ADDED, UPDATED) else word
            print_result(label, path, outcome.image, outcome.reason)
        return outcome

    def print_summary(self):
        """Print how many files had which outcome, and the duplicates by content."""
        shown = [word for word in SUMMARY_WORDS if word in ALWAYS_SHOWN or self.counts.get(word)]
        parts = [f"{self.counts.get(word, 0)} {word}" for word in shown]
        if others := self.counts.get(NONE, 0):
            parts.append(format_count(others, "other file"))
        output.echo(", ".join(parts), err=True)
        duplicates = self.records.find_duplicates()
        for paths in duplicates[:MOST_DUPLICATES]:
            more = [f"and {len(paths) - MOST_DUPLICATES} more"] if len(paths) > MOST_DUPLICATES else []
            output.echo(f"identical content: {', '.join([*map(cleaned, paths[:MOST_DUPLICATES]), *more])}", err=True)
        if len(duplicates) > MOST_DUPLICATES:
            output.echo(f"identical content: {len(duplicates) - MOST_DUPLICATES} more groups of files", err=True)
