"""Engine boundary: SQLite and the path of its file are named only where the engine is."""

import ast
import re

import pytest
from conftest import ROOT
from support.product import MODULES

# Packages of the engine: it is chosen in storage/engine.py and listing/backend.py.
ENGINE = ("storage", "listing", "migrations")
# Commands about the database file, and the option that names it.
ABOUT_THE_FILE = {
    "cli/backup.py",
    "cli/check.py",
    "cli/database_copy.py",
    "cli/doctor.py",
    "cli/restore.py",
    "config.py",
}
OTHERS = [path for path in MODULES if path.parent.name not in ENGINE]
# SQL in a text that only SQLite understands, and the scheme of its URLs.
SQL = re.compile(
    r"\bPRAGMA\b|\b(NOT )?INDEXED\b|\b(INSERT OR|REPLACE INTO|VACUUM|ATTACH|WITHOUT ROWID|CREATE VIRTUAL TABLE)\b"
    r"|\bsqlite_(master|schema|sequence|stat\d)\b|\b(rowid|_rowid_)\b|\bsqlite://"
    r"|\b(json_(valid|each|array|group_array|group_object|extract|type)|group_concat|total|instr"
    r"|date|datetime|julianday|strftime|unixepoch)\(",
    re.IGNORECASE,
)
FUNCTIONS = re.compile(r"json_\w+|group_concat|total|instr|date|datetime|julianday|strftime|unixepoch")
OF_A_CONNECTION = ("pragma", "lastrowid", "set_authorizer")
# Modules of storage/ that are about the file.
FILE_MODULES = re.compile(r"storage\.(sqlite|wal|file_checks|filesystem|schema_guard)(\.\w+)?")
SECTION = ("database", "settings", "section", "options")


def found_in(tree):
    """Return what a module names of SQLite or its file, docstrings left out."""
    docstrings = docstrings_of(tree)
    return {name for node in ast.walk(tree) if node not in docstrings for name in named_by(node)}


def docstrings_of(tree):
    owners = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    return {node.body[0].value for node in owners if ast.get_docstring(node) is not None}


def named_by(node):
    """Yield what a node of the syntax names: imports, SQL, functions, methods, the path of the section."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        names = [f"{module}{alias.name}" for alias in node.names]
        yield from (name for name in names if "sqlite" in name.lower() or FILE_MODULES.fullmatch(name))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from (found[0] for found in SQL.finditer(node.value))
    elif isinstance(node, ast.Attribute):
        owner = getattr(node.value, "attr", getattr(node.value, "id", ""))
        is_function = owner == "fn" and FUNCTIONS.fullmatch(node.attr)
        if is_function or node.attr in OF_A_CONNECTION or (node.attr == "path" and owner in SECTION):
            yield f"{owner}.{node.attr}"
    yield from (name for name in identifiers_of(node) if "sqlite" in name.lower())


def identifiers_of(node):
    return [value for field in ("id", "attr", "arg", "name") if isinstance(value := getattr(node, field, None), str)]


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_but_the_engine_and_commands_about_the_file_names_sqlite_or_its_path(path):
    found = found_in(ast.parse(path.read_text(encoding="utf-8")))

    assert found == set() or str(path.relative_to(ROOT)) in ABOUT_THE_FILE


@pytest.mark.parametrize("name", sorted(ABOUT_THE_FILE))
def test_each_exception_is_needed(name):
    assert found_in(ast.parse((ROOT / name).read_text(encoding="utf-8"))) != set()


@pytest.mark.parametrize(
    "planted",
    [
        *("engine.execute('PRAGMA cache_size = 1', ())", "SELECT = 'SELECT 1 FROM image INDEXED BY image_by_name'"),
        *("TOTAL = 'SELECT total(size) FROM image'", "NOW = f\"SELECT date('now') FROM {table}\""),
        *("Change.delete().where(fn.json_valid(Change.changes) == 0)", "QUERY = 'SELECT sql FROM sqlite_master'"),
        *("MEMBERS = 'SELECT json_group_array(member) FROM member'", "database.pragma('synchronous', 'off')"),
        *("import sqlite3", "from listing.sqlite_planner import dialect", "from storage import sqlite, timestamps"),
        *("from playhouse.sqlite_ext import FTS5Model", "from peewee import SqliteDatabase", "from storage import wal"),
        *("from storage.filesystem import sync", "settings.database._replace(connection=f'sqlite:///{name}')"),
        *(
            "os.path.dirname(current_app.settings.database.path)",
            "settings.path",
            "key = execute(INSERT, row).lastrowid",
        ),
        *("in_sqlite = 1", "def sqlite_size():\n    '''Return a size.'''"),
    ],
)
def test_a_planted_name_is_found(planted):
    assert found_in(ast.parse(planted)) != set()


@pytest.mark.parametrize(
    "harmless",
    [
        *("request.path", "entry.path.name", "'''Read with PRAGMA.'''", "STORE = 'INSERT INTO member VALUES (?, ?)'"),
        *("datetime.now(UTC)", "engine.folder(settings.database)", "from storage.timing import spent"),
        *("'the total of all indexes'", "from listing import aggregates", "'registry_sqlite_seconds'"),
    ],
)
def test_what_is_not_of_sqlite_is_not_found(harmless):
    assert found_in(ast.parse(harmless)) == set()
