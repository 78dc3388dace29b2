"""``doctor``: diagnosis of a registry: version, options, health, speed and remedies."""

import os
import platform
import shutil
import time
from contextlib import closing
from datetime import timedelta

import click
from flask import current_app

import migrations
from cli import output
from cli.client import open_client
from cli.param_types import cleaned
from cli.runtime import Failure, with_application
from config import OPTIONS, VERSION, given_texts, without_credentials
from errors import RegistryError, StartupError
from formatting import format_count, format_size
from storage import file_checks, filesystem, sqlite, timestamps
from storage.engine import ENGINE_VERSION, writing

MOST_FAULTS = 5
SLOW_SYNC, SLOW_LOCK, SLOW_REQUEST = 0.1, 0.1, 0.25  # seconds
TRIES = 3
DAY = timedelta(days=1)
SLOW = {
    "a sync of the disk": "Every write waits for a sync of the disk, which is slow: move the database to a faster one.",
    "the write lock": "Another process holds the write lock for long: wait for an import, or stop the other program.",
}
SLOW_QUERY = "the machine is busy, or the file is not in memory. docs/performance.md has usual figures."
LARGE_LOG = 64 * 1024 * 1024
LITTLE_ROOM = 256 * 1024 * 1024
COUNT = "SELECT CASE WHEN deleted THEN 'deleted' ELSE status END, count(*) FROM image GROUP BY 1 ORDER BY 1"
STUCK = "SELECT count(*) FROM image WHERE NOT deleted AND status IN ('queued', 'saving') AND updated_at < ?"
# Files with several records, each with the ids from the oldest to the newest.
DOUBLED = """SELECT url, group_concat(id, ' ') FROM (SELECT DISTINCT url, id, created_at FROM location
    JOIN image ON pk = image_id WHERE NOT deleted AND url LIKE 'file:%' ORDER BY created_at, id)
    GROUP BY url HAVING count(*) > 1"""
REQUESTS = (
    ("a page of the list", {"limit": 100}),
    ("the same, by name", {"limit": 100, "sort_key": "name", "sort_dir": "asc"}),
    ("a search", {"limit": 100, "search": "debian"}),
    ("a filter by property", {"limit": 100, "properties": {"os_distro": "debian"}}),
)


@click.command("doctor")
@with_application
def examine():
    """Diagnose this registry: versions, options, database, speed, and remedies.

    Nothing is changed; the exit code is 0 if there is no problem.

    \b
    Example:
      $ flask --app registry doctor
    """
    problems = []
    section("version", versions())
    path = examine_options(problems)
    is_healthy = path is not None and examine_file(path, problems)
    if is_healthy:
        section("images", examine_images(path, problems))
    if is_healthy and is_writable(path):
        section("speed", examine_speed(path, problems))
    if not problems:
        if output.is_terminal():
            output.echo(output.styled("No problems found.", fg="green"))
        return
    section("what to do", [(str(number), text) for number, text in enumerate(problems, 1)])
    raise Failure(f"{format_count(len(problems), 'problem')} found.")


def section(title, pairs):
    """Print a titled section; for scripts the title begins every line."""
    pairs = [(name, cleaned(text)) for name, text in pairs]
    if not output.is_terminal():
        output.echo_lines(f"{title}\t{name}\t{text}" for name, text in pairs)
        return
    output.echo(output.styled(title, bold=True))
    columns = max([0, *(output.cells(name) for name, _ in pairs)])
    output.echo_lines(f"  {output.padded(name, columns)}  {text}" for name, text in pairs)


def versions():
    """Return the versions as [(name, text)]."""
    return [
        ("registry", VERSION),
        ("Python", platform.python_version()),
        ("SQLite", ENGINE_VERSION),
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
    ]


def examine_options(problems):
    """Print the options; return the database's path, or None for invalid options."""
    try:
        given, wrong = given_texts(), {}
    except StartupError as error:  # an unreadable file, or an unknown option
        problems.append(cause_of(error))
        section("options", [("wrong", cause_of(error))])
        return None
    try:
        connection = current_app.settings.database.connection
    except StartupError:
        connection, wrong = None, wrong_options(given)
        problems += [f"{shown_name(option)} {cause}." for option, cause in wrong.items()]
    section("options", [(shown_name(option), describe_option(option, given, connection, wrong)) for option in OPTIONS])
    return None if connection is None else current_app.settings.database.path


def describe_option(option, given, connection, wrong):
    """Return the value of an option with its source."""
    text, source = given.get((option.section, option.name), (option.default, "default"))
    if (option.section, option.name) == ("database", "connection"):
        source = (
            "default of ./registry" if connection and source == "default" and connection != option.default else source
        )
        text = without_credentials(connection or text)
    return f"{text or '(empty)'}  ({source}){f'  wrong: {wrong[option]}' if option in wrong else ''}"


def wrong_options(given):
    """Return {option: error} of the invalid options."""
    found = {}
    for option in OPTIONS:
        text, _ = given.get((option.section, option.name), (option.default, ""))
        try:
            option.parse(text)
        except ValueError as error:
            found[option] = str(error)
    return found


def shown_name(option):
    return f"[{option.section}] {option.name}"


def cause_of(error):
    return str(error).removeprefix("registry: ")


def examine_file(path, problems):
    """Print the facts of the file; return whether its tables can be read."""
    pairs = [("file", os.path.abspath(path))]
    if os.path.exists(path) and not os.path.isfile(path):
        problems.append(f"{path} is not a file: set [database] connection to a file.")
        section("database", pairs)
        return False
    if not os.path.isfile(path):
        problems.append(
            "There is no database yet: create it with make run, create or scan, or set [database] connection."
        )
        section("database", pairs)
        return False
    pairs += sizes(path, problems)
    faults = find_faults(path)
    pairs.append(("health", "ok" if not faults else faults[0]))
    pairs += [("", fault) for fault in faults[1:]]
    section("database", pairs)
    problems += [remedy(path, faults)] if faults else []
    return not faults


def sizes(path, problems):
    """Return sizes as [(name, text)], and add the problems of file and disk."""
    log = f"{path}-wal"
    log_size = os.path.getsize(log) if os.path.exists(log) else 0
    room = shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free
    if log_size > LARGE_LOG:
        problems.append(
            f"The write-ahead log is {format_size(log_size)}: a reader blocks its checkpoint. End that process."
        )
    if room < LITTLE_ROOM:
        problems.append(f"The disk has {format_size(room)} free: free some space before writes fail (507).")
    if kind := filesystem.network_file_system(path):
        problems.append(f"The database is on a network file system ({kind}), where locks are not safe: move it.")
    if not is_writable(path):
        problems.append(
            "You cannot write the database or its folder: run this as the server's user, or change the mode."
        )
    return [
        ("size", format_size(os.path.getsize(path))),
        ("log", format_size(log_size)),
        ("free on disk", format_size(room)),
    ]


def is_writable(path):
    """Return whether the file and its folder are writable."""
    return os.access(path, os.W_OK) and os.access(os.path.dirname(os.path.abspath(path)), os.W_OK)


def find_faults(path):
    """Return the texts of the first faults; ``check`` reads large files whole."""
    faults = []
    try:
        is_large = os.path.getsize(path) > migrations.CHECKED_BYTES
        for fault in file_checks.file_faults(path, migrations.Schemas(), is_brief=is_large):
            faults.append(fault.text)
            if len(faults) > MOST_FAULTS:
                return [*faults[:MOST_FAULTS], "… and more: run check for all of them"]
    except OSError as error:
        faults.append(f"cannot be read: {error.strerror}")
    return faults


def remedy(path, faults):
    """Return the remedy for the first fault."""
    if "older version" in faults[0]:
        return "Start the server, or run a command such as list, to migrate the database to this version."
    if "newer version" in faults[0]:
        return "Run the newer version of the registry that wrote this file."
    if faults[0] == file_checks.EMPTY:
        return (
            "The file is empty: create its tables by a command such as list, or restore a backup: restore FILE --force."
        )
    if "another application" in faults[0] or "not a SQLite" in faults[0]:
        return f"{path} is not a registry's database: set [database] connection to one that is."
    if "cannot be read" in faults[0] or "disk I/O" in faults[0]:
        return (
            "The disk is full: free some space." if filesystem.is_full(path) else "Run this as the owner of the file."
        )
    if "digest" in faults[0] or "are not what" in faults[0] or "is not what" in faults[0]:
        return "Run check, and read docs/operations.md before check --rebuild."
    return (
        "Stop the server, and restore a backup: restore FILE --force. docs/operations.md explains how to salvage data."
    )


def examine_images(path, problems):
    """Return the number of images of each status, and of those with a problem."""
    with closing(sqlite.connect(path)) as connection:
        counts = connection.execute(COUNT).fetchall()
        ((stuck,),) = connection.execute(STUCK, (timestamps.time_before(DAY),)).fetchall()
        doubled = connection.execute(DOUBLED).fetchall()
    for url, ids in doubled[:MOST_FAULTS]:
        problems.append(f"{url} has several records: make one of them with: ./registry merge {ids}")
    pairs = [(status, f"{count:,}") for status, count in counts] or [("none", "")]
    pairs += [("stuck", f"{stuck:,} queued or saving for more than a day")] if stuck else []
    return pairs + ([("doubled", f"{format_count(len(doubled), 'file')} with several records")] if doubled else [])


def examine_speed(path, problems):
    """Time syncs, the write lock and requests without a network; the best of three."""
    folder = os.path.dirname(os.path.abspath(path))
    try:
        with open_client(is_prepared=True) as client:
            timed = {"a sync of the disk": (SLOW_SYNC, lambda: sync_a_file(folder))}
            timed["the write lock"] = (SLOW_LOCK, take_lock)
            for name, query in REQUESTS:
                timed[name] = (SLOW_REQUEST, lambda query=query: list(client.images(**query)))
            seconds = {name: best(act) for name, (_, act) in timed.items()}
    except (Failure, RegistryError, OSError) as error:
        cause = getattr(error, "message", None) or getattr(error, "detail", None) or getattr(error, "strerror", "")
        problems.append(f"The speed could not be measured: {cause}")
        return []
    slow = [name for name, (most, _) in timed.items() if seconds[name] > most]
    problems += [SLOW[name] if name in SLOW else f"{name[0].upper()}{name[1:]} is slow: {SLOW_QUERY}" for name in slow]
    return [(name, f"{1000 * seconds[name]:.1f} ms{'  slow' if name in slow else ''}") for name in timed]


def best(act):
    """Return the shortest time of an action in seconds."""
    found = []
    for _ in range(TRIES):
        started = time.perf_counter()
        act()
        found.append(time.perf_counter() - started)
    return min(found)


def sync_a_file(folder):
    """Write and sync a file, as each commit does. Raises: OSError."""
    path = os.path.join(folder, f".doctor.{os.getpid()}")
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.unlink(path)
        os.write(handle, b"\0" * 4096)
        os.fsync(handle)
    finally:
        os.close(handle)


def take_lock():
    """Take the write lock. Raises: DatabaseUnavailable after busy_timeout."""
    with writing():
        pass
