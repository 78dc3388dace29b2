"""What the code itself must not do, read from its syntax; and what SECURITY.md names as tests."""

import ast
import importlib.metadata
import re

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.product import MODULES, WINGS
from support.side_effects import PROGRAMS, reach_of
from support.sql_text import parts_by_function

OURS = {*WINGS, *(path.stem for path in ROOT.glob("*.py"))}
every_path = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))

# Modules that put statements together from parts without a word of SQL: there every text counts.
BUILDERS = ("listing/dialect.py", "listing/sqlite_dialect.py", "listing/sqlite_planner.py")
# file::function → what may stand in a statement there beside literal text: constants, names of columns and filters out
# of tables of ours, numbers counted by us. Whoever adds to this has asked where the value comes from.
FIXED = {
    "storage/integrity.py::": {"COLUMNS_OF_INDEX"},
    "storage/integrity.py::index_faults": {"statement"},
    "storage/integrity.py::record_faults": {"columns", "order", "table"},
    "storage/integrity.py::schema_of": {"query"},
    "storage/integrity.py::structure_faults": {"MOST_PROBLEMS"},
    "storage/integrity.py::token_faults": {"', '.join(names)", "TOKEN_COLUMNS"},
    "cli/check.py::": {"', '.join(CHANGE_COLUMNS)"},
    "cli/check.py::rebuild_image": {
        "', '.join((f'{name} = :{name}' for name in derived))",
        "', '.join(models.COLUMNS)",
        "STORE_WORDS",
        "assignments",
    },
    "cli/check.py::trust_changes": {"FIND_CHANGES"},
    "cli/doctor.py::examine_images": {"COUNT", "STUCK"},
    "cli/export_images.py::export_images": {"SELECT"},
    "cli/import_images.py::": {"', '.join('?' * len(models.COLUMNS))", "', '.join(models.COLUMNS)"},
    "cli/import_images.py::Storing.__init__": {"CACHE_KIBIBYTES"},
    "cli/import_images.py::Storing.flush": {
        "INSERT",
        "INSERT_LOCATION",
        "INSERT_MEMBER",
        "INSERT_PROPERTY",
        "search_index.INSERT",
    },
    "cli/import_images.py::Storing.resolve": {"INSERT"},
    "cli/import_images.py::Storing.resolve_conflicts": {"FIND"},
    "cli/purge.py::purge": {"FIND"},
    "storage/engine.py::execute": {"statement"},
    "history.py::entries": {"LIST"},
    "history.py::note": {"FORGET", "INSERT", "LAST"},
    "migrations/0002_documents.py::up": {"SHELVES", "column", "columns", "empty", "name"},
    "migrations/0003_digests.py::up": {"table"},
    "migrations/0005_tokens.py::up": {"', '.join(columns)"},
    "migrations/__init__.py::Schemas.of": {"database"},  # its ``run`` takes no statement
    "migrations/0006_search_and_history.py::up": {"', '.join(columns)", "actions", "condition", "event", "row"},
    "listing/dialect.py::Dialect.branch": {"' AND '.join(conditions)", "column", "name", "selected", "source"},
    "listing/dialect.py::Dialect.conditions": {
        "BOUND_CONDITIONS[name]",
        "name",
        "number",
        "pair",
        "self.bind('tenant')",
        "self.bind(f'f_{name}')",
        "self.bind(f'n{number}')",
        "self.bind(f'v{number}')",
        "self.bind(name)",
    },
    "listing/dialect.py::Dialect.content": {"NO_LOCATIONS", "own", "self.bind('tenant')"},
    "listing/dialect.py::Dialect.count": {"' UNION ALL '.join(parts)", "listed", "self.bind('most')"},
    "listing/dialect.py::Dialect.hidden_values": {"name"},
    "listing/dialect.py::Dialect.member_conditions": {"tenant"},
    "listing/dialect.py::Dialect.merge": {"' UNION ALL '.join(parts)", "order", "self.bind('most')"},
    "listing/dialect.py::Dialect.page": {
        "column",
        "direction",
        "images",
        "self.hidden_values(content, sort_columns, order)",
        "self.merge(parts, order)",
    },
    "listing/dialect.py::Dialect.range_conditions": {
        "', '.join(columns)",
        "', '.join(columns[1:])",
        "', '.join(positions)",
        "', '.join(positions[1:])",
        "columns[0]",
        "compare",
        "number",
    },
    "listing/pages.py::count_images": {"count_statement(query.sort_columns, branches, filters)"},
    "listing/pages.py::list_page": {"page_statement(*shape)"},
    "listing/pages.py::position_of": {
        "', '.join(query.sort_columns)",
        "VISIBLE[audience_of(context)]",
        "columns",
        "statement",
    },
    "listing/pages.py::show": {"SHOW", "VISIBLE[audience_of(context)]"},
    "listing/sqlite_dialect.py::": {"SIZE_RANGE", "name"},
    "listing/sqlite_dialect.py::SQLiteDialect.aggregate": {"text"},
    "listing/sqlite_dialect.py::SQLiteDialect.bind": {"name"},
    "listing/sqlite_dialect.py::SQLiteDialect.matches": {"union", "words_condition(search)"},
    "listing/sqlite_dialect.py::SQLiteDialect.matches_of": {
        "'TRUE' if is_sparse else f'shelf = {partition}'",
        "condition",
        "partition",
        "self.matches(filter_, 'UNION ALL')",
        "self.property_condition(filter_)",
    },
    "listing/sqlite_dialect.py::SQLiteDialect.property_condition": {"beginning", "filter_.number", "value"},
    "listing/sqlite_dialect.py::SQLiteDialect.residual": {"condition"},
    "listing/sqlite_dialect.py::SQLiteDialect.search_condition": {
        "HAS_ID",
        "INDEXED_MATCHES",
        "NEWEST_MATCHES.format(words=words)",
        "condition",
        "f' OR {HAS_ID}' if search.has_id else ''",
        "words",
    },
    "listing/sqlite_dialect.py::SQLiteDialect.source": {
        "'_by_name' if sort_key == 'name' else ''",
        "name",
        "self.matches(driving_index)",
        "sort_key if driving_index == ORDER else INDEX_KEYS.get(name, name)",
    },
    "listing/sqlite_dialect.py::SQLiteDialect.start_condition": {
        "branch.partition",
        "partition",
        "self.property_condition(branch.driving_index)",
    },
    "listing/sqlite_dialect.py::words_condition": {"number"},
    "listing/sqlite_planner.py::Probe.count_ahead": {"column", "direction", "self.query.sort_key"},
    "listing/sqlite_planner.py::Probe.count_first": {
        "' AND '.join((condition for filter_ in filters for condition in dialect.conditions(filter_))) or 'TRUE'",
        "after",
        "index",
        "matches",
        "most",
        "order",
        "self.partition",
        "statement",
    },
    "listing/sqlite_planner.py::Probe.count_matches": {
        "dialect.matches_of(filter_, self.partition)",
        "filter_.name",
        "most",
        "source",
    },
    "listing/sqlite_planner.py::parameters_of": {"filter_.name", "number"},
    "listing/sqlite_planner.py::recall": {"statement"},
    "storage/engine.py::fetch_row": {"statement"},
    "models.py::": {
        "', '.join((f':{name}' for name in COLUMNS[1:]))",
        "', '.join(COLUMNS[1:])",
        "DELETED",
        "KILLED",
        "NORMAL",
    },
    "models.py::Image.find": {"', '.join(COLUMNS)", "VISIBLE[audience_of(context)]", "statement"},
    "models.py::Image.register": {"INSERT"},
    "models.py::Image.require_room_for_one": {"DELETED", "owned"},
    "models.py::Image.write": {
        "', '.join((f'{name} = :{name}' for name in COLUMNS if changed[name] != row[name]))",
        "assignments",
    },
    "models.py::Property.store": {"statement"},
    "monitoring/__init__.py::count_images": {"COUNT"},
    "storage/search_index.py::index_words": {"INDEX", "MARK"},
    "storage/search_index.py::store_words": {"INSERT"},
    "storage/timing.py::TimedConnection.execute": {"self"},
    "storage/timing.py::TimedCursor.execute": {"self"},
    "auth.py::create_token": {"INSERT_TOKEN"},
    "auth.py::list_tokens": {"LIST_TOKENS"},
    "auth.py::find_bearer_of_hash": {"FIND_TOKEN"},
    "auth.py::note_use": {"patience"},
    "ui/totals.py::": {
        "CANDIDATES",
        "CANDIDATES + 1",
        "CHECKSUMS",
        "FILES",
        "STUCK_COUNTED",
        "VISIBLE[audience]",
        "doubled",
        "rule",
    },
    "ui/totals.py::read_part": {"table[part]"},
    "ui/totals.py::read_problems": {"DUPLICATES[audience]", "FILE_LOCATIONS", "NEWEST", "STUCK[audience]", "UNPLACED"},
}
# What each module that serves reaches beyond its own memory: files of ours, their folders, sockets.
REACH = {
    "server/counters.py": {"mmap.mmap"},
    "storage/integrity.py": {
        "open",
        "os.access",
        "os.fstat",
        "os.path.dirname",
        "os.path.exists",
        "os.path.getsize",
        "sqlite3.connect",
    },
    "config.py": {"open", "os.environ"},
    "storage/engine.py": {"sqlite3"},
    "storage/schema_guard.py": {"sqlite3.connect"},
    "gunicorn.conf.py": {"os.path.abspath", "os.path.dirname", "os.path.isdir"},
    "cli/launcher.py": {"os.environ", "pathlib.Path"},
    "formatting.py": {"os.fsdecode", "os.fsencode"},
    "server/logs.py": {"os.getpid", "os.write"},
    "migrations/__init__.py": {".glob", "os.access", "os.close", "os.open", "pathlib.Path", "sqlite3"},
    "models.py": {"sqlite3"},
    "monitoring/health.py": {".connect", "os.statvfs", "pathlib.Path", "sqlite3.connect"},
    "monitoring/metrics.py": {
        "prometheus_client.core",
        "prometheus_client.core.CounterMetricFamily",
        "prometheus_client.core.GaugeMetricFamily",
        "prometheus_client.core.HistogramMetricFamily",
        "prometheus_client.core.InfoMetricFamily",
        "prometheus_client.exposition.choose_encoder",
    },
    "storage/wal.py": {"open", "os.path.basename", "os.path.exists", "os.path.realpath"},
    "storage/filesystem.py": {
        "open",
        "os.path.abspath",
        "os.path.commonpath",
        "os.path.dirname",
        "os.path.realpath",
        "os.statvfs",
    },
    "server/healthcheck.py": {
        ".open",
        "ssl.create_default_context",
        "urllib.request",
        "urllib.request.HTTPSHandler",
        "urllib.request.ProxyHandler",
        "urllib.request.build_opener",
    },
    "ui/api_docs.py": {".read_bytes", "pathlib.Path"},
    "server/startup_checks.py": {
        ".bind",
        ".listen",
        "open",
        "os.environ.get",
        "os.getpid",
        "socket.getaddrinfo",
        "socket.socket",
        "ssl.create_default_context",
    },
    "storage/timing.py": {
        "sqlite3.Connection",
        "sqlite3.Connection.execute",
        "sqlite3.Cursor",
        "sqlite3.Cursor.execute",
        "sqlite3.sqlite_version",
    },
    "ui/assets.py": {".read_bytes", "pathlib.Path"},
    "ui/session_key.py": {
        ".read_text",
        "os.close",
        "os.fsync",
        "os.link",
        "os.open",
        "os.unlink",
        "os.write",
        "pathlib.Path",
    },
    "ui/totals.py": {"os.access", "os.path.dirname", "os.stat"},
    "web.py": {"os.urandom"},
    "server/worker.py": {"resource.getrlimit", "socket"},
}
# What no command may reach either, by the first part of its name ...
FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "input",
    "breakpoint",
    "globals",
    "builtins",
    "__builtins__",
    "shell=",
}
FORBIDDEN |= {
    "pickle",
    "cPickle",
    "dill",
    "marshal",
    "shelve",
    "yaml",
    "ctypes",
    "subprocess",
    "pty",
    "xml",
    "tempfile",
}
FORBIDDEN |= {"urllib", "http", "requests", "urllib3", "httpx", "httpx2", "aiohttp", "ftplib", "smtplib", "telnetlib"}
FORBIDDEN |= {"random", "importlib", "runpy", "multiprocessing", "asyncio", "code", "codeop", "xmlrpc", "webbrowser"}
# ... or as a whole.
FORBIDDEN_WHOLE = {
    "os.system",
    "os.popen",
    "os itself",
    ".create_connection",
    ".connect_ex",
    ".open_connection",
    ".Popen",
}
FORBIDDEN_WHOLE |= {"socket.create_connection", "socket itself", ".import_module", ".run_path", ".exec_module"}
# Who may: the client asks the server that --url names, the demo starts the server and shows it, the probe asks our own.
ALLOWED = {
    "server/healthcheck.py": {"urllib"},
    "cli/client.py": {"httpx2"},
    "cli/mirror_files.py": {"httpx2"},
    "cli/demo.py": {"subprocess", "webbrowser"},
}


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@every_path
def test_a_statement_is_put_together_from_nothing_but_literal_text_and_what_is_fixed(path):
    name = str(path.relative_to(ROOT))

    found = parts_by_function(tree_of(path), name in BUILDERS)

    assert {f"{name}::{function}": parts for function, parts in found.items()} == fixed_of(name)


def fixed_of(name):
    return {place: parts for place, parts in FIXED.items() if place.startswith(f"{name}::")}


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("execute(f\"SELECT * FROM image WHERE name = '{name}'\")", {"name"}),
        ("execute('SELECT * FROM image WHERE name = ' + request.args['name'])", {"request.args['name']"}),
        ("execute('DELETE FROM image WHERE id = %s' % image_id)", {"image_id"}),
        ("statement = 'SELECT pk FROM {}'.format(table)", {"table"}),
        ("execute(given)", {"given"}),
        ("run(f'{given}', {})", {"given"}),
        ("query = f'{column} = 1 AND {value}'", {"column", "value"}),
        ("execute('SELECT pk FROM image WHERE id = ?', (image_id,))", set()),
        ("execute(statement + name)", {"statement", "name"}),
        ("statement = statement + name; execute(statement)", {"statement", "name"}),
        ("statement += name; execute(statement)", {"statement", "name"}),
        ("parts = [START]; parts.append(name); execute(' '.join(parts))", {"START", "name", "' '.join(parts)"}),
        ("execute(' '.join(['SELECT', name]))", {"name", "' '.join(['SELECT', name])"}),
        ("Image.raw(name)", {"name"}),
        ("execute(sql=name)", {"name"}),
        ("execute('SELECT 1' if short else name)", {"name"}),
        ("execute(SELECT.format(name))", {"SELECT", "name"}),
    ],
)
def test_a_planted_statement_is_found(planted, found):
    assert parts_by_function(ast.parse(planted)).get("", set()) == found


@pytest.mark.parametrize("file", [*BUILDERS, "models.py", "listing/search.py", "ui/totals.py", "cli/export_images.py"])
@pytest.mark.parametrize(
    "planted",
    [
        "def found_by_name(name): return execute(f\"SELECT pk FROM image WHERE name = '{name}'\")",
        "def found_by_name(name, statement):\n    statement = statement + name\n    return execute(statement)",
        "def found_by_name(name): return Image.raw(name)",
        "def found_by_name(parts): return execute(' '.join(parts))",
        "class Image:\n    def find(self, statement): return execute(f'{statement} WHERE name = {statement}')",
    ],
)
def test_a_planted_statement_is_found_in_modules_that_put_together_many(file, planted):
    text = (ROOT / file).read_text(encoding="utf-8")

    found = parts_by_function(ast.parse(f"{text}\n\n{planted}\n"), file in BUILDERS)

    assert {f"{file}::{function}": parts for function, parts in found.items()} != fixed_of(file)


@every_path
def test_nothing_of_the_product_runs_text_or_other_programs_or_opens_a_location(path):
    name = str(path.relative_to(ROOT))

    reached = reach_of(tree_of(path), OURS)

    assert dangers_in(reached) == ALLOWED.get(name, set())
    assert name.startswith("cli/") or reached == REACH.get(name, set())


def dangers_in(reached):
    """Code made of text, other programs, formats that run code, and clients."""
    firsts = {name.partition(".")[0].removesuffix(" itself") for name in reached}
    programs = {name for name in reached if PROGRAMS.fullmatch(name.rpartition(".")[2])}
    return (firsts & FORBIDDEN) | (reached & FORBIDDEN_WHOLE) | programs


@pytest.mark.parametrize(
    "planted",
    [
        *("eval(text)", "exec(text)", "import pickle", "from yaml import load", "import subprocess"),
        *("import os; os.system(text)", "from os import system", "import os as o; o.popen(text)"),
        *(
            "import os; os.execvp(text, [])",
            "import os; os.posix_spawn(text, [], {})",
            "import os; getattr(os, name)(text)",
        ),
        *("import builtins; builtins.eval(text)", "run = eval", "import importlib; importlib.import_module(name)"),
        *("from importlib import import_module", "import runpy; runpy.run_path(path)", "import multiprocessing"),
        *("from urllib import request", "import http.client", "import urllib.request as client", "import requests"),
        *("import urllib; urllib.request.urlopen(url)", "import asyncio; asyncio.open_connection(host, 80)"),
        *(
            "run_it(command, shell=True)",
            "import socket; socket.create_connection(address)",
            "from random import random",
        ),
    ],
)
def test_a_planted_danger_is_found_in_commands_too(planted):
    assert dangers_in(reach_of(ast.parse(planted))) != set()


@pytest.mark.parametrize(
    "file", ["web.py", "models.py", "registry.py", "ui/api_docs.py", "ui/image.py", "server/startup_checks.py"]
)
@pytest.mark.parametrize(
    "planted",
    [
        *("import os; os.startfile(url)", "from io import open as o; o(location)", "import io; io.FileIO(location)"),
        *("from pathlib import Path; Path(url).read_text()", "import socket; socket.socket().connect(address)"),
        *("from serving import socket", "import serving; serving.os.system(text)", "import telnetlib"),
        *("import sys; sys.modules['os'].system(text)", "import some_client", "connection.connect(address)"),
        *("import logging.handlers", "from flask import send_file", "import flask; flask.send_file(location)"),
        *("import shutil; shutil.copy(url, path)", "import urllib.request", "from sqlite3 import connect"),
    ],
)
def test_what_a_module_that_serves_reaches_anew_is_found(file, planted):
    text = (ROOT / file).read_text(encoding="utf-8")

    assert reach_of(ast.parse(f"{text}\n\n{planted}\n"), OURS) != REACH.get(file, set())


@pytest.mark.parametrize("file", ["web.py", "models.py", "registry.py", "ui/image.py", "formatting.py"])
@pytest.mark.parametrize("planted", ["open(location)", "Path(url).read_bytes()"])
def test_a_file_opened_where_none_is_is_found(file, planted):
    text = (ROOT / file).read_text(encoding="utf-8")

    assert reach_of(ast.parse(f"{text}\n\n{planted}\n"), OURS) != REACH.get(file, set())


def patterns_in(tree):
    """The source of every regular expression."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) in {f"re.{name}" for name in MATCHERS}:
            yield call.args[0].value
        elif isinstance(call, ast.Assign) and ast.unparse(call.targets[0]) == "regex":
            yield call.value.value


MATCHERS = ("compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer")
REPEATS = {str(name) for name in ("MAX_REPEAT", "MIN_REPEAT")}


def is_explosive(parsed, is_repeated=False):
    """Whether a repetition without bound stands within another: the shape that backtracks exponentially."""
    for operation, argument in parsed:
        repeats = str(operation) in REPEATS
        if repeats and is_repeated and argument[1] > MOST_REPEATS:
            return True
        inner = is_repeated or (repeats and argument[1] > 1)
        if any(is_explosive(part, inner) for part in parts_of(argument)):
            return True
    return False


def parts_of(argument):
    """The parsed expressions within an operation's argument."""
    if isinstance(argument, re._parser.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for part in argument:
            yield from parts_of(part)


MOST_REPEATS = 255


@every_path
def test_no_regular_expression_can_be_made_to_backtrack_exponentially(path):
    assert [text for text in patterns_in(tree_of(path)) if is_explosive(re._parser.parse(text))] == []


@pytest.mark.parametrize("text", ["(a+)+", "(a*)*b", "([a-z]+-?)*x", "(?:(x+)|y)+"])
def test_a_planted_expression_is_found(text):
    assert is_explosive(re._parser.parse(text))


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-audit.txt"])
def test_every_requirement_is_pinned_by_hashes_and_names_no_place(name):
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    inclusions = [line for line in lines if line.startswith("-r ")]

    assert inclusions == (["-r requirements.txt"] if name == "requirements-dev.txt" else [])
    assert [line for line in lines if line not in inclusions and not PINNED.fullmatch(line)] == []
    assert re.findall(r"https?:|--[a-gi-z]", text) == []


PINNED = re.compile(r"[\w.-]+(\[[\w,-]+\])?==[\w.]+( ; [^-]+?)?(\s+--hash=sha256:[0-9a-f]{64})+")


def test_extras_that_packages_ask_of_each_other_are_pinned_with_them():
    """pip before 23.3 looks for the newest ``coverage[toml]`` when only ``coverage`` is pinned, and then refuses it."""
    text = (ROOT / "requirements.txt").read_text("utf-8") + (ROOT / "requirements-dev.txt").read_text("utf-8")
    pins = {canonicalize_name(name): extras for name, extras in re.findall(r"^([\w.-]+)(\S*)==", text, re.MULTILINE)}
    wanted = [need for name in pins for need in needs_of(name) if need.extras]

    assert {need.name for need in wanted} >= {"coverage", "urllib3"}
    assert [str(need) for need in wanted if pins[canonicalize_name(need.name)] != f"[{','.join(need.extras)}]"] == []


def needs_of(name):
    try:
        needs = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return  # for another platform or Python
    for need in map(Requirement, needs):
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield need


def test_security_md_names_tests_that_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))

    missing = [(file, name) for file, name in named if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")]

    assert len(named) > 20
    assert missing == []
