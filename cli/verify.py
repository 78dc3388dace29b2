"""``verify``: compare files with their records."""

import hashlib
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import click

from cli import output
from cli.checksums import MD5, Hasher
from cli.client import with_client
from cli.file_walk import describe_error, is_gone
from cli.inspection import has_changed, open_regular_file
from cli.param_types import cleaned
from cli.progress import byte_progress
from cli.reconciliation import HOST
from cli.runtime import FAILED
from formatting import local_file

OK, CHANGED, MISSING, UNREADABLE = "ok", "changed", "missing", "unreadable"
NO_FILE, ELSEWHERE, UNKNOWN = "no file", "elsewhere", "unknown"
STATES = (OK, CHANGED, MISSING, UNREADABLE, NO_FILE, ELSEWHERE, UNKNOWN)
FAILURES = (CHANGED, MISSING, UNREADABLE)
TITLES = ("STATE", "ID", "NAME", "FILE", "WHY")
COLOURS = {OK: "green", CHANGED: "red", MISSING: "red", UNREADABLE: "red"}
MOST_JOBS = 64


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
@with_client
def verify_images(client, images, as_json, jobs):
    """Compare the files of images with their records.

    Compared are size, checksum (md5) and os_hash_value. IMAGE is an id, its beginning, or a name; without any, all
    images are verified.

    States: ok, changed, missing, unreadable; no file (no location is a file), elsewhere (registered by a scan of
    another machine), unknown (the record has no checksum). The exit code is 1 if any is changed, missing or unreadable.

    \b
    Example:
      $ flask --app registry verify
    """
    context = click.get_current_context()
    host = socket.gethostname() if context.params.get("url") else None
    found = list({image["id"]: image for image in map(client.find, images)}.values()) or list(client.every_image())
    verdicts = verify_all(found, host, jobs or min(os.cpu_count() or 1, MOST_JOBS))
    print_verdicts(verdicts, as_json)
    counts = {state: sum(verdict.state == state for verdict in verdicts) for state in STATES}
    output.echo(", ".join(f"{count} {state}" for state, count in counts.items() if count or state == OK), err=True)
    if any(counts[state] for state in FAILURES):
        context.exit(FAILED)


def verify_all(images, host, jobs):
    """Return the Verdicts of images, reading ``jobs`` files in parallel."""
    total = sum(image["size"] or 0 for image in images if local_file(image))
    hasher = Hasher(jobs)
    with byte_progress("verify", total) as progress, ThreadPoolExecutor(jobs) as readers:
        try:
            waiting = [readers.submit(verify_image, image, host, hasher, progress) for image in images]
            return [future.result() for future in waiting]
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            hasher.stop()


def verify_image(image, host, hasher, progress):
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
            state, reason = compare_file(image, path, hasher, advance)
            return Verdict(state, image, path, reason)
        except OSError as error:
            return Verdict(MISSING if is_gone(path) else UNREADABLE, image, path, describe_error(error))


def compare_file(image, path, hasher, advance):
    """Return (state, reason) of a file compared with its record. Raises: OSError."""
    expected = get_digests(image)
    with open_regular_file(path) as (file, status):
        if image["size"] is not None and status.st_size != image["size"]:
            return CHANGED, f"has {status.st_size} bytes, the record says {image['size']}"
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
