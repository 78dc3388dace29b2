"""Import of a catalogue into a database file: its speed, and the file's size."""
# ruff: noqa: S603, S608

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bench.rows import tables_of_images
from bench.servers import ROOT, environment

CHUNK = 10_000


class Import(NamedTuple):
    seconds: float
    peak_mebibytes: float


def load(database: Path, ndjson: Path) -> Import:
    """Import a catalogue into a new database file. Raises RuntimeError."""
    command = [sys.executable, "-m", "flask", "--app", "registry", "import", str(ndjson)]
    variables = environment({"REGISTRY_DATABASE_CONNECTION": f"sqlite:///{database}"})
    start = time.perf_counter()
    log = database.with_suffix(".log")
    with log.open("wb") as output:
        options = {"cwd": ROOT, "env": variables, "stdout": output, "stderr": output}
        process = subprocess.Popen(command, **options)
    try:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise RuntimeError(f"The import failed: {log.read_text()}")
    return Import(time.perf_counter() - start, usage.ru_maxrss / 1024)


def raw_import_seconds(database: Path, folder: Path) -> float:
    """Return the seconds of ``executemany`` for the same rows, tables and indexes."""
    path = folder / "raw-import.db"
    seconds = 0.0
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(path)) as target:
        copy_schema(source, target)
        target.execute("PRAGMA journal_mode = wal")
        target.execute("PRAGMA synchronous = full")
        for table, _ in tables_of_images(source):
            rows = source.execute(f'SELECT * FROM "{table}" ORDER BY 1')
            insert = f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(rows.description))})'
            while chunk := rows.fetchmany(CHUNK):
                start = time.perf_counter()
                target.executemany(insert, chunk)
                seconds += time.perf_counter() - start
        start = time.perf_counter()
        target.execute("INSERT INTO search(search) VALUES ('rebuild')")
        target.commit()
        seconds += time.perf_counter() - start
    return seconds


def copy_schema(source, target):
    """Copy the schema, without the tables that FTS5 creates and without triggers."""
    tables = "SELECT sql FROM sqlite_master WHERE sql NOT NULL AND type IN ('table', 'index')"
    for (statement,) in source.execute(f"{tables} AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'search_%'"):
        target.execute(statement)


def sizes(database: Path) -> dict[str, int]:
    """Return the bytes of each table and index, or of the file without dbstat."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        try:
            query = "SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE ORDER BY pgsize DESC"
            return dict(connection.execute(query).fetchall())
        except sqlite3.OperationalError:
            return {"the file": database.stat().st_size}
