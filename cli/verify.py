"""``verify``: compare files with their records."""

import hashlib
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import click
from flask import current_app

from cli import output
from cli.checksums import MD5, Hasher
from cli.client import with_client
from cli.file_walk import describe_error, is_gone
from cli.image_format import detect_format
from cli.inspection import has_changed, open_regular_file
from cli.param_types import Since, cleaned
from cli.progress import byte_progress
from cli.runtime import FAILED
from cli.scan_properties import HOST
from errors import RegistryError
from formatting import local_file
from storage import verifications
from storage.verifications import CHANGED, FAILURES, INCOMPLETE, MISSING, OK, UNKNOWN, UNREADABLE

# States of images that have no file here; nothing is kept of them.
NO_FILE, ELSEWHERE = "no file", "elsewhere"
STATES = (OK, *FAILURES, NO_FILE, ELSEWHERE, UNKNOWN)
TITLES = ("STATE", "ID", "NAME", "FILE", "WHY")
COLOURS = {OK: "green"} | dict.fromkeys(FAILURES, "red")
MOST_JOBS = 64
KEPT_EVERY_SECONDS = 1.0


class Verdict(NamedTuple):
    """State of an image's file, one of STATES.

    ``path`` is None if no location is a file on this machine.
    """

    state: str
    image: dict
    path: str | None = None
    reason: str = ""


@click.command("verify")
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with id, name, state, file and reason of each image.")
@click.option("--jobs", type=click.IntRange(1, MOST_JOBS), help="Files read in parallel; default: one per core.")
@click.option("--stale", type=Since(), metavar="AGE", help="Only images not verified since, such as 7d, 12h.")
@with_client
def verify_images(client, images, as_json, jobs, stale):
    """Compare the files of images with their records.

    Compared are size, checksum (md5) and os_hash_value. IMAGE is an id, its beginning, or a name; without any, all
    images are verified. In the local database the results are kept: list --long, the web pages and /metrics show them.

    States: ok, changed, missing, unreadable, incomplete (needs another file); no file (no location is a file),
    elsewhere (registered by a scan of another machine), unknown (the record has no checksum). The exit code is 1 if
    any is changed, missing, unreadable or incomplete.

    \b
    Example:
      $ flask --app registry verify
      $ flask --app registry verify --stale 7d
    """
    if stale and not client.is_local:
        raise click.UsageError("--stale needs the local database, which keeps the results; omit --url.")
    context = click.get_current_context()
    host = socket.gethostname() if context.params.get("url") else None
    found = list({image["id"]: image for image in map(client.find, images)}.values()) or list(client.every_image())
    fresh = find_fresh(found, stale)
    found = [image for image in found if image["id"] not in fresh]
    verdicts = verify_all(found, host, jobs or min(os.cpu_count() or 1, MOST_JOBS), Keeper(client.is_local))
    print_verdicts(verdicts, as_json)
    print_counts(verdicts, len(fresh))
    if any(verdict.state in FAILURES for verdict in verdicts):
        context.exit(FAILED)


def find_fresh(images, since):
    """Return the ids of images that were verified since a time, if one is given."""
    if since is None:
        return set()
    known = verifications.read(image["id"] for image in images)
    return {image_id for image_id, verified in known.items() if verified.checked_at >= since}


class Keeper:
    """Writer of verdicts to the local database, in batches; does nothing for a server's."""

    def __init__(self, is_local):
        self.is_active = is_local
        self.waiting = []
        self.kept_at = time.monotonic()

    def add(self, verdict):
        """Keep a verdict, at the latest with the next one after a second."""
        if verdict.state in verifications.STATES:
            self.waiting.append((verdict.image, verdict.state, verdict.reason))
        if time.monotonic() - self.kept_at > KEPT_EVERY_SECONDS:
            self.flush()

    def flush(self):
        """Write the verdicts that wait. A failure is reported once, and ends the keeping."""
        waiting, self.waiting, self.kept_at = self.waiting, [], time.monotonic()
        if not (waiting and self.is_active):
            return
        try:
            verifications.store(waiting)
        except RegistryError as error:
            self.is_active = False
            click.echo(f"The results are not kept: {error.detail}", err=True)


def verify_all(images, host, jobs, keeper):
    """Return the Verdicts of images, reading ``jobs`` files in parallel.

    ``keeper`` gets each.
    """
    total = sum(image["size"] or 0 for image in images if local_file(image))
    hasher = Hasher(jobs)
    with byte_progress("verify", total) as progress, ThreadPoolExecutor(jobs) as readers:
        try:
            disk_formats = current_app.settings.api.disk_formats
            waiting = [readers.submit(verify_image, image, host, hasher, progress, disk_formats) for image in images]
            verdicts = []
            for future in waiting:
                verdicts.append(future.result())
                keeper.add(verdicts[-1])
            return verdicts
        finally:
            keeper.flush()
            readers.shutdown(wait=False, cancel_futures=True)
            hasher.stop()


def verify_image(image, host, hasher, progress, disk_formats):
    """Return the Verdict of an image.

    ``host`` is this machine's name if the registry is a server's.
    """
    path = local_file(image)
    if path is None:
        return Verdict(NO_FILE, image)
    if host is not None and image["properties"].get(HOST, host) != host:
        return Verdict(ELSEWHERE, image, path, f"registered by a scan on {image['properties'][HOST]}")
    with progress.file(path, image["size"] or 0) as advance:
        try:
            state, reason = compare_file(image, path, hasher, advance, disk_formats)
            return Verdict(state, image, path, reason)
        except OSError as error:
            return Verdict(MISSING if is_gone(path) else UNREADABLE, image, path, describe_error(error))


def compare_file(image, path, hasher, advance, disk_formats):
    """Return (state, reason) of a file compared with its record. Raises: OSError."""
    expected = get_digests(image)
    with open_regular_file(path) as (file, status):
        if image["size"] is not None and status.st_size != image["size"]:
            return CHANGED, f"has {status.st_size} bytes, the record says {image['size']}"
        detected = detect_format(file, os.path.basename(path), status.st_size, disk_formats, os.path.dirname(path))
        if detected.needs_file:
            return INCOMPLETE, detected.reason
        if not expected:
            return UNKNOWN, "the record has no checksum"
        digests, _ = hasher.hash_file(file, status.st_size, tuple(expected), advance)
        if has_changed(path, file, status):
            return CHANGED, "changed while being read"
    wrong = [algorithm for algorithm, digest in expected.items() if digests[algorithm] != digest]
    return (CHANGED, f"differs from the record in {', '.join(wrong)}") if wrong else (OK, "")


def get_digests(image):
    """Return {algorithm: digest} of the record's checksums that hashlib can compute."""
    properties = image["properties"]
    known = {MD5: image["checksum"], properties.get("os_hash_algo"): properties.get("os_hash_value")}
    fixed = {name for name in hashlib.algorithms_guaranteed if not name.startswith("shake")}
    return {name: digest.lower() for name, digest in known.items() if name in fixed and digest}


def print_counts(verdicts, fresh):
    """Print the number of images in each state; ``fresh`` were not verified again."""
    counts = {state: sum(verdict.state == state for verdict in verdicts) for state in STATES}
    told = [f"{count} {state}" for state, count in counts.items() if count or state == OK]
    output.echo(", ".join([*told, *([f"{fresh} verified since"] if fresh else [])]), err=True)


def print_verdicts(verdicts, as_json):
    """Print verdicts as JSON, as a table on a terminal, or as lines with tabs."""
    if as_json:
        output.echo_json_array(map(verdict_json, verdicts))
        return
    rows = [verdict_row(verdict) for verdict in verdicts]
    if not output.is_terminal():
        output.echo_lines("\t".join(map(cleaned, row.values())) for row in rows)
    elif rows:
        table = output.Table(TITLES, flexible="FILE", dropped=("ID",), style=style_state)
        output.echo_lines(table.lines(rows))


def style_state(title, text, row):
    """Return a cell's text, coloured if it is the state."""
    return output.styled(text, fg=COLOURS.get(row["STATE"], "yellow")) if title == "STATE" else text


def verdict_row(verdict):
    """Return {title: text} of a verdict."""
    texts = (verdict.state, verdict.image["id"], verdict.image["name"] or "", verdict.path or "", verdict.reason)
    return dict(zip(TITLES, texts, strict=True))


def verdict_json(verdict):
    """Return the JSON object of a verdict."""
    # JSON is UTF-8, but a file name may be any bytes.
    file = None if verdict.path is None else os.fsencode(verdict.path).decode(errors="backslashreplace")
    names = {"id": verdict.image["id"], "name": verdict.image["name"]}
    return names | {"state": verdict.state, "file": file, "reason": verdict.reason or None}
