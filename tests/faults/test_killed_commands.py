"""Commands killed, or their power lost, at every step: the old or the new is there, whole, and the next try goes on."""

import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import FLASK, ROOT, clean_environment, environment
from test_migrations import rows_of
from test_recovery import leave_a_log, make_version

import migrations
import models
from config import read_settings
from errors import StartupError
from faults.conftest import rounds
from faults.powerloss import CREATE, RENAME, TRUNCATE, Chance, disk_after, read_trace
from registry import create_app
from storage import file_checks

# What does not differ from run to run; ``check`` holds the rest against it.
CONTENT = (
    "SELECT name FROM schema_migration ORDER BY id",
    "SELECT pk, id, name, owner, deleted, visibility, revision FROM image ORDER BY pk",
    "SELECT image_id, name, value FROM property ORDER BY image_id, name",
    "SELECT image_id, position, url FROM location ORDER BY image_id, position",
    "SELECT image_id, member, can_share FROM member ORDER BY image_id, member",
    "SELECT DISTINCT tenant, roles FROM token",
)
FULL = {"properties": {"os": "linux"}, "locations": ["file:///x"], "members": {"friend": True}}
FIRST_OF_TWO_PARTITIONS = f"DELETE FROM image WHERE list_partition = {models.DELETED}"


def content_of(path):
    """All rows, or None where there is no file."""
    return [rows_of(path, query) for query in CONTENT] if path.exists() else None


class Case(NamedTuple):
    """A command in the folder ``at``, which alone is watched, and what it may leave of the file ``path``."""

    arguments: tuple
    at: Path
    path: Path
    database: Path
    steps: tuple = ()  # what stands between the old and the new, where that is more than one step


@pytest.fixture
def images(client, make_image, database_path, tmp_path):
    """Full images, two of them deleted in two list partitions, and a backup from before the last change."""
    make_image(name="plain", is_public=True)
    make_image(name="full", owner="acme", **FULL)
    make_image(name="gone", is_deleted=True, **FULL)
    make_image(name="public and gone", is_public=True, is_deleted=True, **FULL)
    models.database.close()
    shutil.copy(database_path, tmp_path / "backup.db")
    with closing(sqlite3.connect(database_path)) as connection, connection:
        connection.execute("DELETE FROM image WHERE name = 'plain'")
    return database_path


def restoring(folder, watched, images):
    shutil.copy(images, watched / "registry.db")
    leave_a_log(watched / "registry.db", "DELETE FROM image WHERE name = 'full'")
    arguments = ("restore", folder / "backup.db", "--force")
    return Case(arguments, watched, watched / "registry.db", watched / "registry.db")


def restoring_where_there_is_none(folder, watched, images):
    return Case(("restore", folder / "backup.db"), watched, watched / "registry.db", watched / "registry.db")


def restoring_beside_a_log_alone(folder, watched, images):
    case = restoring(folder, watched, images)
    case.path.unlink()
    case.path.with_name("registry.db-shm").unlink(missing_ok=True)
    return case


def restoring_an_older_version(folder, watched, images):
    make_version(folder / "old.db", migrations.versions()[0])
    shutil.copy(images, watched / "registry.db")
    arguments = ("restore", folder / "old.db", "--force")
    return Case(arguments, watched, watched / "registry.db", watched / "registry.db")


def backing_up(folder, watched, images):
    return Case(("backup", watched / "copy.db"), watched, watched / "copy.db", images)


def backing_up_over_another(folder, watched, images):
    shutil.copy(folder / "backup.db", watched / "copy.db")
    return Case(("backup", watched / "copy.db", "--force"), watched, watched / "copy.db", images)


def purging(folder, watched, images):
    path = watched / "registry.db"
    shutil.copy(images, path)
    shutil.copy(images, folder / "between.db")
    with closing(sqlite3.connect(folder / "between.db")) as connection, connection:
        connection.execute("PRAGMA foreign_keys = 1")
        connection.execute(FIRST_OF_TWO_PARTITIONS)
    between = content_of(folder / "between.db")
    return Case(("purge", "--older-than", "0m", "--yes"), watched, path, path, (between,))


def importing(folder, watched, images):
    shutil.copy(images, watched / "registry.db")
    line = b'{"status":"active","disk_format":"raw","container_format":"bare","id":"%032x","members":[]}\n'
    (folder / "images.jsonl").write_bytes(b"".join(line % number for number in range(20)))
    arguments = ("import", folder / "images.jsonl", "--on-conflict", "skip")
    return Case(arguments, watched, watched / "registry.db", watched / "registry.db")


def making_a_token(folder, watched, images):
    shutil.copy(images, watched / "registry.db")
    arguments = ("token", "create", "--tenant", "acme", "--role", "member")
    return Case(arguments, watched, watched / "registry.db", watched / "registry.db")


CASES = [
    *(restoring, restoring_where_there_is_none, restoring_beside_a_log_alone, restoring_an_older_version),
    *(backing_up, backing_up_over_another, purging, importing, making_a_token),
]
each_command = pytest.mark.parametrize("arrange", CASES, ids=lambda arrange: arrange.__name__.replace("_", " "))


class Stage:
    """A command run again and again from the same beginning: whole, or killed at a step."""

    def __init__(self, case, shim, trace):
        self.case, self.shim, self.trace = case, shim, trace
        self.kept = case.at.with_name("kept")
        shutil.copytree(case.at, self.kept)

    def clear(self):
        for path in self.case.at.iterdir():
            path.unlink()

    def begin(self):
        """The folder as it was: [(name, inode, content)]"""
        self.clear()
        shutil.copytree(self.kept, self.case.at, dirs_exist_ok=True)
        return [(path.name, path.stat().st_ino, path.read_bytes()) for path in self.case.at.iterdir()]

    def run(self, *more, kill_at=0):
        """(exit code, errors, what it did to the files of the folder)"""
        self.trace.unlink(missing_ok=True)
        beneath = {"LD_PRELOAD": self.shim, "TRACE_FILE": self.trace, "TRACE_FOLDER": self.case.at}
        variables = {**clean_environment(), **environment(self.case.database), **beneath, "KILL_AT": str(kill_at)}
        command = [*FLASK, *map(str, self.case.arguments), *more]
        done = subprocess.run(command, check=False, cwd=ROOT, env=variables, capture_output=True, timeout=120)
        return done.returncode, done.stderr.decode(), read_trace(self.trace)

    def violations(self, wholes):
        """Problems with the file now: it is one of ``wholes``, passes ``check``, and a server starts on it."""
        path = self.case.path
        if not path.exists():
            return [] if None in wholes else [f"{path.name} is gone"]
        found = [fault.text for fault in file_checks.file_faults(path, migrations.Schemas())]
        if found:
            return found
        if content_of(path) not in wholes:
            return ["it is neither the old nor the new"]
        return self.start()

    def next_try(self, new):
        """Violations of: it takes the command to the end, and leaves nothing else but hidden files."""
        is_there = self.case.path.exists() and self.case.arguments[0] in ("backup", "restore")
        code, errors, _ = self.run(*["--force"] * is_there)
        found = self.violations([new]) if code == 0 else [errors]
        left = {path.name for path in self.case.at.iterdir() if not path.name.startswith(".")} - {self.case.path.name}
        return found + [f"{name} is left" for name in left]

    def start(self):
        try:
            settings = read_settings(environment(self.case.path))
            migrations.prepare(settings.database)
            status = create_app(settings).test_client().get("/images/detail").status_code
        except StartupError as refusal:
            return [f"no server starts: {refusal}"]
        finally:
            models.database.close()
        return [] if status == 200 else [f"a server answers {status}"]


@pytest.fixture
def stage(arrange, images, shim, tmp_path):
    watched = tmp_path / "watched"
    watched.mkdir()
    return Stage(arrange(tmp_path, watched, images), shim, tmp_path / "trace")


@pytest.fixture
def old_and_new(stage):
    """(what may be there when it was killed, what must be once it has ended, what it did to the files)."""
    old = content_of(stage.case.path)
    stage.begin()
    code, errors, records = stage.run()
    assert code == 0, errors
    new = content_of(stage.case.path)
    assert new not in (None, old)
    return [old, *stage.case.steps, new], new, records


# In make test, of each command.
MOST_MOMENTS, MOST_LOSSES = 4, 15


def moments(records, random):
    """Numbers of the steps at which to kill: in torture all; else where names and lengths change, and a few."""
    every = range(1, len(records) + 1)
    telling = [number for number, record in enumerate(records, 1) if is_telling(record)]
    some = {*telling, *(number + 1 for number in telling), *random.sample(every, min(2, len(every)))}
    some = sorted(some & {*every})
    return rounds(sorted(random.sample(some, min(MOST_MOMENTS, len(some)))), every)


def is_telling(record):
    is_shown = record.operation == CREATE and not record.content.startswith(b".")
    return is_shown or record.operation in (RENAME, TRUNCATE)


@pytest.mark.exhaustive
@each_command
def test_a_killed_command_leaves_the_old_or_the_new_and_the_next_try_goes_on(arrange, stage, old_and_new, tally):
    tally.promise = "5 recoverable: commands killed at each step"
    wholes, new, records = old_and_new

    for moment in moments(records, tally.random):
        stage.begin()
        code, errors, _ = stage.run(kill_at=moment)
        assert code == -signal.SIGKILL, errors
        found = stage.violations(wholes) or stage.next_try(new)
        tally.violations += [f"killed at step {moment} of {len(records)}: {text}" for text in found]
        tally.rounds += 1

    assert tally.violations == []


@pytest.mark.exhaustive
@each_command
def test_a_command_that_loses_power_leaves_the_old_or_the_new(arrange, stage, old_and_new, tally):
    tally.promise = "5 recoverable: commands whose power is lost at each step"
    wholes, new, _ = old_and_new
    before = stage.begin()
    code, errors, records = stage.run()
    assert code == 0, errors

    # Once a file was renamed, and the folder not yet synced, names count: any of them may be lost by itself.
    telling = [number + 1 for number, record in enumerate(records) if record.operation == RENAME] * 100
    every = [*range(len(records)), *telling, *[len(records)] * 5] * 10
    for moment in rounds([*tally.random.sample(every, MOST_LOSSES), len(records)], every):
        stage.clear()
        for name, content in disk_after(records[:moment], Chance(tally.random), before).items():
            (stage.case.at / name).write_bytes(content)
        found = stage.violations([new] if moment == len(records) else wholes)
        tally.violations += [f"power lost at step {moment} of {len(records)}: {text}" for text in found]
        tally.rounds += 1

    assert tally.violations == []


@pytest.mark.parametrize(
    "arguments", [("backup", "{}/copy.db"), ("export", "{}/copy.jsonl")], ids=lambda words: words[0]
)
def test_what_a_killed_command_with_the_same_number_has_left_is_not_in_the_way(images, tmp_path, arguments):
    command = [str(word).format(tmp_path) for word in (*FLASK, *arguments)]
    script = f"""touch '{Path(command[-1]).parent}/.{Path(command[-1]).name}.'$$.part; exec "$@" """

    variables = {**clean_environment(), **environment(images)}
    done = subprocess.run(
        ["sh", "-c", script, "sh", *command], check=False, cwd=ROOT, env=variables, capture_output=True
    )

    assert done.returncode == 0, done.stderr.decode()
    assert Path(command[-1]).stat().st_size
