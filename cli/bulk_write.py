"""Bulk writes of scan and sync: one run at a time, deferred syncing to disk, result lines."""

import fcntl
import os
from contextlib import ExitStack, contextmanager, nullcontext, suppress

import click
from flask import current_app

from cli import output
from cli.param_types import cleaned
from storage import engine


def print_result(label, place, image, reason):
    """Print what was done with a file or URL.

    On a terminal: label, place and reason, or format and name. In a pipe, separated by tabs: label, id, place, format,
    name, reason.
    """
    image = image or {}
    texts = [image.get(name) or "" for name in ("disk_format", "name")]
    if not output.is_terminal():
        output.echo("\t".join(map(cleaned, (label, image.get("id") or "", place, *texts, reason))))
        return
    # Of a new image, the reason is a remark.
    text = ", ".join(filter(None, (*texts, reason))) if label.endswith("added") or not reason else reason
    output.echo(f"{label:<9}  {cleaned(place)}{f': {cleaned(text)}' if text else ''}")


@contextmanager
def single_run(is_local, paths):
    """Wait until no other scan or sync runs.

    Two that read the records at the same time would both add the same images.

    The lock is on the local database's folder, or, if the registry is a server's, on each of the ``paths``.
    """
    folder = engine.folder(current_app.settings.database)
    with ExitStack() as opened:
        for path in [folder] if is_local else sorted(paths):
            with suppress(OSError):  # some file systems have no locks
                handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                opened.callback(os.close, handle)
                acquire_lock(handle)
        yield


def acquire_lock(handle):
    """Lock an open file or folder; tell the user if that has to wait."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        click.echo("waiting for another scan or sync to end; press Ctrl-C to cancel", err=True)
        fcntl.flock(handle, fcntl.LOCK_EX)


def deferred_sync(is_local):
    """Return a context that syncs commits to the local database once, at its end.

    A power loss before that may lose records, whole ones only; the next scan adds them again.
    """
    return engine.deferred_sync(current_app.settings.database) if is_local else nullcontext()


def is_public_by_default():
    """Return whether new images are public: only if callers are not identified."""
    parameters = click.get_current_context().params
    if parameters.get("url"):
        return not parameters.get("token")
    return current_app.settings.auth.flavor == "none"
