"""``verify``: whether files are still what their records say."""

import hashlib
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import click

from cli import output
from cli.byte_progress import metered
from cli.checksums import MD5, Hasher
from cli.client import with_client
from cli.file_walk import is_gone, reason_of
from cli.inspection import has_changed, opened
from cli.param_types import cleaned
from cli.reconciliation import HOST
from cli.runtime import FAILED
from formatting import local_file

OK, CHANGED, MISSING, UNREADABLE = "ok", "changed", "missing", "unreadable"
NO_FILE, ELSEWHERE, UNKNOWN = "no file", "elsewhere", "unknown"
STATES = (OK, CHANGED, MISSING, UNREADABLE, NO_FILE, ELSEWHERE, UNKNOWN)
WRONG = (CHANGED, MISSING, UNREADABLE)
TITLES = ("STATE", "ID", "NAME", "FILE", "WHY")
COLOURS = {OK: "green", CHANGED: "red", MISSING: "red", UNREADABLE: "red"}


class Verdict(NamedTuple):
    """``state`` is one of STATES; ``path`` is None where no location is a file here."""

    state: str
    image: dict
    path: str | None = None
    reason: str = ""


@click.command("verify")
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: id, name, state, file, reason of each.")
@click.option("--jobs", type=click.IntRange(1, 64), help="Files read at once; by default, one for each core.")
@with_client
def verify_images(client, images, as_json, jobs):
    """Read the files at the locations of images (ids, their beginnings, or names; without any, of all), and compare
    size, checksum (md5) and os_hash_value with the record's.

    States: ok, changed, missing, unreadable; no file (no location is a file), elsewhere (a scan of another machine
    registered it), unknown (the record has no checksum). The exit code is 1 where one is changed, missing, unreadable.

    \b
    Example:
      $ flask --app registry verify
    """
    context = click.get_current_context()
    host = socket.gethostname() if context.params.get("url") else None
    found = list({image["id"]: image for image in map(client.find, images)}.values()) or list(client.images())
    verdicts = verify(found, host, jobs or min(os.cpu_count() or 1, 64))
    show(verdicts, as_json)
    counts = {state: sum(verdict.state == state for verdict in verdicts) for state in STATES}
    words = [f"{count} {state}" for state, count in counts.items() if count or state == OK]
    output.echo(", ".join(words), err=True)
    if any(counts[state] for state in WRONG):
        context.exit(FAILED)


def verify(images, host, jobs):
    """[Verdict], in the order of ``images``."""
    sizes = {image["id"]: image["size"] or 0 for image in images if local_file(image)}
    hasher = Hasher(jobs)
    with metered("verify", sum(sizes.values())) as meter, ThreadPoolExecutor(jobs) as readers:
        try:
            waiting = [readers.submit(judge, image, host, hasher, meter) for image in images]
            return [future.result() for future in waiting]
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            hasher.stop()


def judge(image, host, hasher, meter):
    path = local_file(image)
    if path is None:
        return Verdict(NO_FILE, image)
    if host is not None and image["properties"].get(HOST, host) != host:
        return Verdict(ELSEWHERE, image, path, f"registered from {image['properties'][HOST]}")
    with meter.file(path, image["size"] or 0) as advance:
        try:
            state, reason = compared(image, path, hasher, advance)
            return Verdict(state, image, path, reason)
        except OSError as error:
            return Verdict(MISSING if is_gone(path) else UNREADABLE, image, path, reason_of(error))


def compared(image, path, hasher, advance):
    """(state, reason). Raises OSError."""
    expected = expected_digests(image)
    with opened(path) as (file, status):
        if image["size"] is not None and status.st_size != image["size"]:
            return CHANGED, f"has {status.st_size} bytes instead of {image['size']}"
        if not expected:
            return UNKNOWN, "the record has no checksum"
        digests, _ = hasher.digests(file, status.st_size, tuple(expected), advance)
        if has_changed(path, file, status):
            return CHANGED, "changes while it is read"
    wrong = [algorithm for algorithm, digest in expected.items() if digests[algorithm] != digest]
    return (CHANGED, f"has another {', '.join(wrong)}") if wrong else (OK, "")


def expected_digests(image):
    """{algorithm: hexadecimal digest} of those that the record has, and that can be taken."""
    properties = image["properties"]
    known = {MD5: image["checksum"], properties.get("os_hash_algo"): properties.get("os_hash_value")}
    fixed = {name for name in hashlib.algorithms_guaranteed if not name.startswith("shake")}
    return {name: digest.lower() for name, digest in known.items() if name in fixed and digest}


def show(verdicts, as_json):
    if as_json:
        output.echo_json_array(map(json_of, verdicts))
        return
    rows = [row_of(verdict) for verdict in verdicts]
    if not output.is_terminal():
        output.echo_lines("\t".join(map(cleaned, row.values())) for row in rows)
    elif rows:
        table = output.Table(TITLES, flexible="FILE", dropped=("ID",), style=styled)
        output.echo_lines(table.lines(rows))


def styled(title, text, row):
    return output.styled(text, fg=COLOURS.get(row["STATE"], "yellow")) if title == "STATE" else text


def row_of(verdict):
    texts = (verdict.state, verdict.image["id"], verdict.image["name"] or "", verdict.path or "", verdict.reason)
    return dict(zip(TITLES, texts, strict=True))


def json_of(verdict):
    # A name that is not UTF-8 cannot stand in JSON as it is.
    file = None if verdict.path is None else os.fsencode(verdict.path).decode(errors="backslashreplace")
    names = {"id": verdict.image["id"], "name": verdict.image["name"]}
    return names | {"state": verdict.state, "file": file, "reason": verdict.reason or None}
