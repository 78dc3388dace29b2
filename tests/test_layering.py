"""Layering: allowed imports of each module, and no side effects of an import."""

import ast
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT, clean_environment
from support.product import WINGS

# Top-level module or wing → the other ones that it may import.
MAY_IMPORT = {
    "errors": (),
    "formatting": (),
    "config": ("errors",),
    "storage": ("errors",),
    "schemas": ("errors", "storage"),
    "history": ("storage",),
    "auth": ("errors", "storage"),
    "security": ("errors", "config", "auth"),
    "models": ("errors", "storage", "history", "auth"),
    "members": ("errors", "schemas", "storage", "history", "auth", "models"),
    "web": ("errors", "config", "schemas", "storage", "auth", "security"),
    "listing": ("errors", "schemas", "storage", "models"),
    "migrations": ("errors", "storage"),
    "server": ("errors", "config"),
    "monitoring": ("errors", "config", "schemas", "storage", "auth", "server", "web", "listing"),
}
CORE = tuple(MAY_IMPORT)
MAY_IMPORT |= {
    "ui": tuple(name for name in CORE if name not in ("migrations", "server", "monitoring")),
    "cli": CORE,
    "registry": (*CORE, "ui", "cli"),
}
# The launcher starts the application; nothing else of a wing does.
MAY_IMPORT_TOO = {"cli/launcher.py": {"registry"}}
OURS = {*MAY_IMPORT, "conftest", "tests", "support"}
MOST_FLAT_MODULES = 12
WITH_FLASK = {"web", "registry", "monitoring", "ui", "cli"}  # commands are Flask's
WITH_CLICK = {"cli", "registry"}
WITH_PEEWEE = {"models", "members", "history", "storage", "migrations"}
# The document's list of URLs, and then what it leaves to the reference.
ROUTES = [
    ("get", "/"),
    ("get", "/images"),
    ("get", "/images/detail"),
    ("get", "/images/<id>"),
    ("post", "/images"),
    ("put", "/images/<id>"),
    ("delete", "/images/<id>"),
    ("get", "/images/<id>/members"),
    ("put", "/images/<id>/members"),
    ("put", "/images/<id>/members/<member>"),
    ("delete", "/images/<id>/members/<member>"),
    ("get", "/shared-images/<member>"),
    ("post", "/images/<id>/undelete"),
    ("get", "/images/<id>/history"),
]
LONGEST_MODULE, LONGEST_FUNCTION, LONGEST_ROUTE = 350, 29, 15


def modules_of(name):
    """Return the files of a top-level module or wing."""
    return sorted((ROOT / name).glob("*.py")) if name in WINGS else [ROOT / f"{name}.py"]


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


SCRIPTS = sorted((ROOT / "migrations").glob("[0-9]*.py"))
PATHS = [path for name in MAY_IMPORT for path in modules_of(name)]
every_module = pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
every_path = pytest.mark.parametrize(
    "path", [*PATHS, ROOT / "gunicorn.conf.py"], ids=lambda path: str(path.relative_to(ROOT))
)


def name_of(path):
    return str(path.relative_to(ROOT))


def home_of(path):
    """Return the top-level module or the wing of a file."""
    return path.stem if path.parent == ROOT else path.parent.name


def imported_by(path):
    """Return the top-level names of all imports of a file, within functions too."""
    imports = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any(getattr(node, "level", 0) for node in imports)
    names = [node.module for node in imports if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names]
    return {name.partition(".")[0] for name in names}


def packages_used():
    """Return the names of all modules that ours import of others."""
    imports = [
        node for path in PATHS for node in ast.walk(tree_of(path)) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    return sorted(name for name in names if name.partition(".")[0] not in OURS)


def functions_of(path):
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines_of(function):
    return function.end_lineno - function.lineno + 1


def routes():
    """Return (decorators, function) of every route, in the order of the file."""
    found = []
    for function in functions_of(ROOT / "registry.py"):
        calls = [call for call in function.decorator_list if isinstance(call, ast.Call)]
        calls = [call for call in calls if ast.unparse(call.func).startswith("v1.")]
        if calls:
            found.append((calls, function))
    return found


def test_the_top_level_has_few_modules_and_each_stands_in_the_table():
    flat = {path.stem for path in ROOT.glob("*.py") if "." not in path.stem}

    assert flat | {*WINGS} == set(MAY_IMPORT)
    assert len(flat) <= MOST_FLAT_MODULES


@every_module
def test_a_module_imports_only_modules_below_it(path):
    home = home_of(path)
    allowed = {*MAY_IMPORT[home], *MAY_IMPORT_TOO.get(name_of(path), ()), *({home} & {*WINGS})}

    assert imported_by(path) & OURS <= allowed


def test_a_migration_knows_nothing_of_the_present_models():
    assert set.union(*(imported_by(path) & OURS for path in SCRIPTS)) == {"migrations"}


@every_module
def test_flask_is_imported_only_by_modules_that_handle_http(path):
    if imported_by(path) & {"flask", "werkzeug"}:
        assert home_of(path) in WITH_FLASK


@every_module
def test_click_is_imported_only_by_commands(path):
    if "click" in imported_by(path):
        assert home_of(path) in WITH_CLICK


@every_module
def test_the_database_driver_is_imported_only_where_the_tables_are(path):
    if imported_by(path) & {"peewee", "playhouse", "sqlite3"}:
        assert {home_of(path), name_of(path)} & WITH_PEEWEE


@every_path
def test_a_module_begins_with_a_summary_of_one_line(path):
    summary, _, rest = (ast.get_docstring(tree_of(path)) or "").partition("\n")

    assert summary.endswith((".", ":"))
    assert rest == "" or rest.startswith("\n")


@every_path
def test_a_module_is_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


@every_path
def test_functions_are_short(path):
    # A migration's up() holds its own copy of the tables.
    functions = [function for function in functions_of(path) if path not in SCRIPTS]

    assert [function.name for function in functions if lines_of(function) > LONGEST_FUNCTION] == []


def test_routes_are_short_and_leave_errors_and_queries_to_others():
    broken = []
    for _, function in routes():
        attempts = [node for node in ast.walk(function) if isinstance(node, ast.Try | ast.TryStar)]
        queries = [node for node in ast.walk(function) if getattr(node, "attr", "") in ("where", "select", "execute")]
        if attempts or queries or lines_of(function) > LONGEST_ROUTE:
            broken.append(function.name)

    assert broken == []


def test_routes_stand_in_the_order_of_the_document():
    found = []
    for calls, _ in routes():
        method, path = calls[-1].func.attr, calls[-1].args[0].value
        found.append((method, path.replace("image_id:image_id", "id").replace("member_id:member_id", "member")))

    assert found == ROUTES


# Reports what importing each module does, where our own code is what did it; each in a process forked for it.
WATCH = """
import contextlib, json, os, sys, sysconfig

root, packages_used, modules, done = sys.argv[1], sys.argv[2].split(), sys.argv[3:], []
for package in packages_used:  # once for all modules: what they do is not ours
    with contextlib.suppress(ImportError):  # of a newer Python
        __import__(package)
library = sysconfig.get_path("stdlib")
packages = sysconfig.get_path("purelib")


def is_done_by_us():
    frame = sys._getframe(2)
    while frame and frame.f_code.co_filename.startswith(("<frozen", library)):
        frame = frame.f_back
    place = frame.f_code.co_filename if frame else ""
    return place.startswith(root) and not place.startswith(packages)


def watch(event, arguments):
    if event == "sqlite3.connect":
        done.append([event, str(arguments[0])])
    elif event == "open" and not str(arguments[0]).endswith((".py", ".pyc", ".so")) and is_done_by_us():
        done.append([event, str(arguments[0])])
    elif event in ("socket.bind", "socket.connect", "subprocess.Popen", "os.mkdir", "os.remove"):
        done.append([event, ""])


def read(self, key):
    if is_done_by_us():
        done.append(["environment", key])
    return original(self, key)


def walk(self):
    if is_done_by_us():
        done.append(["environment", "all"])
    return iter(list(self._data))


original, variables = type(os.environ).__getitem__, type(os.environ)
variables.__getitem__, variables.__iter__ = read, walk
sys.addaudithook(watch)
sys.path.insert(0, root)
for module in modules:
    if os.fork() == 0:
        __import__(module)
        print(json.dumps([module, done]))
        break
    if os.wait()[1]:
        sys.exit(1)
"""


@pytest.fixture
def import_in(tmp_path):
    """A function: what importing does that it should not, in an empty folder, beside variables that are wrong."""

    def watch(*modules, root=ROOT):
        variables = {"REGISTRY_CONFIG": "missing.ini", "REGISTRY_SERVER_WORKERS": "many", "REGISTRY_API_COLOUR": "red"}
        command = [sys.executable, "-B", "-c", WATCH, str(root), " ".join(packages_used()), *modules]
        options = {"env": {**clean_environment(), **variables}, "capture_output": True, "text": True}
        process = subprocess.run(command, check=False, cwd=tmp_path, timeout=120, **options)
        assert (process.returncode, process.stderr) == (0, "")
        assert list(tmp_path.iterdir()) == []
        return dict(map(json.loads, process.stdout.splitlines()))

    return watch


@pytest.mark.exhaustive
def test_importing_opens_no_file_and_no_database_and_reads_no_environment(import_in):
    modules = [name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in PATHS]

    assert import_in(*modules) == {module: [] for module in modules}


@pytest.mark.exhaustive
def test_the_watch_sees_what_a_module_should_not_do(import_in, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    lines = ["import os, sqlite3", "os.environ.get('REGISTRY_CONFIG')", "open(os.devnull).close()", "list(os.environ)"]
    (folder / "bad.py").write_text("\n".join([*lines, "sqlite3.connect(':memory:').close()"]))

    done = import_in("bad", root=folder)["bad"]

    expected = [["environment", "REGISTRY_CONFIG"], ["open", os.devnull], ["environment", "all"]]
    assert done == [*expected, ["sqlite3.connect", ":memory:"]]
