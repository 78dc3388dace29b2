"""Rules for the code, read from its syntax; and the tests that SECURITY.md names."""

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

# Modules that build SQL from parts: constants, columns and filters. test_statements.py holds that values are bound.
BUILDERS = re.compile(r"(listing|storage|migrations)/\w+\.py|(models|history)\.py")
CONSTANT = re.compile(r"(\w+\.)?[A-Z][A-Z_]*(\[\w+\])?")
# What each module that serves reaches beyond its own memory: files of ours, their folders, sockets.
REACH = {
    "server/counters.py": {"mmap.mmap"},
    "storage/file_checks.py": {"open", "os.fstat", "os.path.getsize", "sqlite3.connect", "storage.sqlite.connect"},
    "config.py": {"open", "os.environ", "os.path.abspath"},
    "storage/base.py": {"abc.ABC", "abc.abstractmethod"},
    "storage/engine.py": {".open"},
    "storage/integrity.py": {"sqlite3"},
    "storage/sqlite.py": {
        ".touch",
        ".unlink",
        "os.access",
        "os.path.abspath",
        "os.path.dirname",
        "os.path.exists",
        "os.path.getsize",
        "os.path.isfile",
        "os.path.samefile",
        "pathlib.Path",
        "sqlite3.connect",
        "sqlite3.sqlite_version",
    },
    "storage/schema_guard.py": {"sqlite3.connect"},
    "gunicorn.conf.py": {"os.path.abspath", "os.path.dirname", "os.path.isdir"},
    "cli/launcher.py": {"os.environ", "pathlib.Path"},
    "formatting.py": {"os.fsdecode", "os.fsencode"},
    "server/logs.py": {"os.getpid", "os.write"},
    "migrations/__init__.py": {".glob", "os.access", "os.close", "os.open", "pathlib.Path", "sqlite3"},
    "monitoring/health.py": {"os.statvfs"},
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
        "os.close",
        "os.fsync",
        "os.open",
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
    "cli/api_client.py": {"httpx2"},
    "cli/client.py": {"httpx2"},
    "cli/mirror_files.py": {"httpx2"},
    "cli/demo.py": {"subprocess", "webbrowser"},
    "cli/__init__.py": {"importlib"},  # of the modules in its own table
}


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@every_path
def test_a_statement_is_literal_or_constant_outside_the_modules_that_build_sql(path):
    found = set().union(*parts_by_function(tree_of(path), False).values())

    if not BUILDERS.fullmatch(str(path.relative_to(ROOT))):
        assert {part for part in found if not CONSTANT.fullmatch(part)} == set()


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


@pytest.mark.sampled
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
