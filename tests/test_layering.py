"""The house: which module may import which, where Flask and Peewee are spoken, and that importing does nothing."""

import ast
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT, clean_environment

EVERYTHING_BELOW = (
    *(
        "errors",
        "config",
        "schemas",
        "context",
        "documents",
        "checks",
        "frames",
        "mounts",
        "models",
        "queries",
        "plans",
        "lists",
    ),
    *("database", "tokens", "limits", "guard", "search", "history", "web", "fence", "serving", "migrations", "cli"),
    *("members", "clock", "version", "stopwatch", "board", "logs", "masking", "locating", "monitoring", "reference"),
    *("words",),
)
# The pages ask what the routes ask, in process.
BELOW_PAGES = (
    *("errors", "masking", "locating", "schemas", "context", "database", "models", "tokens", "queries", "lists"),
    *("members", "clock", "guard", "web", "words"),
)
# module → what it may import of ours: arrows point down only
MAY_IMPORT = {
    "errors": (),
    "config": ("errors",),
    "schemas": ("errors",),
    "context": ("errors", "config"),
    "clock": (),
    "documents": (),
    "fence": ("stopwatch",),
    "stopwatch": (),
    "version": (),
    "board": (),
    "logs": (),
    "limits": ("errors",),
    "database": ("errors", "fence"),
    "search": ("database", "documents"),
    "history": ("database", "documents"),
    "models": ("errors", "clock", "database", "documents", "limits", "search", "history"),
    "members": ("errors", "clock", "database", "documents", "history", "limits", "models"),
    "tokens": ("errors", "clock", "database", "documents"),
    "queries": ("errors", "schemas", "search"),
    "plans": ("database", "documents"),
    "lists": ("errors", "database", "documents", "models", "plans"),
    "frames": (),
    "checks": ("documents", "frames"),
    "mounts": (),
    "migrations": ("errors", "checks", "frames", "mounts"),
    "guard": ("errors", "context"),
    "web": ("errors", "schemas", "context", "guard"),
    "monitoring": (
        *("errors", "schemas", "context", "documents", "database", "fence", "version", "board", "logs", "stopwatch"),
        *("web", "monitoring"),
    ),
    "masking": (),
    "words": (),
    "locating": (),
    "reference": ("context", "guard", "version", "web"),
    "serving": ("errors",),
    "probe": ("config",),
    "worker": ("errors",),
    "cli": EVERYTHING_BELOW,
    "ui": (*BELOW_PAGES, "ui"),
    "registry": (*EVERYTHING_BELOW, "ui"),
    "launcher": (*EVERYTHING_BELOW, "registry"),
}
OURS = {*MAY_IMPORT, "conftest", "tests"}
WINGS = ("migrations", "cli", "ui", "monitoring")
WITH_FLASK = {"web", "registry", "monitoring", "reference", "launcher", "ui"}
WITH_PEEWEE = {"database", "models", "members", "migrations", "checks", "fence", "stopwatch"}
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
LONGEST_MODULE, LONGEST_FUNCTION, LONGEST_ROUTE = 450, 29, 15


def path_of(module):
    return ROOT / module / "__init__.py" if module in WINGS else ROOT / f"{module}.py"


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


SCRIPTS = sorted((ROOT / "migrations").glob("[0-9]*.py"))
COMMANDS = sorted(set((ROOT / "cli").glob("*.py")) - {path_of("cli")})
PAGES = sorted(set((ROOT / "ui").glob("*.py")) - {path_of("ui")})
WATCHERS = sorted(set((ROOT / "monitoring").glob("*.py")) - {path_of("monitoring")})
PATHS = [*map(path_of, MAY_IMPORT), *SCRIPTS, *COMMANDS, *PAGES, *WATCHERS, ROOT / "gunicorn.conf.py"]
every_module = pytest.mark.parametrize("module", MAY_IMPORT)
every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))


def imported_by(path):
    """The top-level names of all imports in it, within functions too."""
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
    """(the decorators of it, the function) of every route, in the order that they stand in."""
    found = []
    for function in functions_of(path_of("registry")):
        calls = [call for call in function.decorator_list if isinstance(call, ast.Call)]
        calls = [call for call in calls if ast.unparse(call.func).startswith("v1.")]
        if calls:
            found.append((calls, function))
    return found


def test_every_module_at_the_top_stands_in_the_table():
    assert {path.stem for path in ROOT.glob("*.py") if "." not in path.stem} | {*WINGS} == set(MAY_IMPORT)


@every_module
def test_a_module_imports_of_ours_only_what_stands_below_it(module):
    assert imported_by(path_of(module)) & OURS <= set(MAY_IMPORT[module])


def test_a_migration_knows_nothing_of_the_present_models():
    assert set.union(*(imported_by(path) & OURS for path in SCRIPTS)) == {"migrations"}


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_a_command_may_use_all_but_the_routes_and_asks_the_models_for_the_database(path):
    imported = imported_by(path)

    assert imported & OURS <= set(MAY_IMPORT["cli"])
    assert imported & {"peewee", "playhouse", "sqlite3"} == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_ask_the_models_for_the_database_and_nothing_of_the_core_for_pages(path):
    imported = imported_by(path)

    assert imported & OURS <= set(MAY_IMPORT["ui"])
    assert imported & {"peewee", "playhouse", "sqlite3"} == set()


@pytest.mark.parametrize("path", WATCHERS, ids=lambda path: path.name)
def test_what_watches_uses_only_what_stands_below_its_door(path):
    assert imported_by(path) & OURS <= set(MAY_IMPORT["monitoring"])


@every_module
def test_flask_is_imported_only_where_http_is_spoken(module):
    assert bool(imported_by(path_of(module)) & {"flask", "werkzeug", "click"}) == (module in WITH_FLASK)


@every_module
def test_peewee_is_imported_only_where_the_tables_are(module):
    assert bool(imported_by(path_of(module)) & {"peewee", "playhouse", "sqlite3"}) == (module in WITH_PEEWEE)


@every_path
def test_a_module_says_what_it_is_about_in_one_line(path):
    docstring = ast.get_docstring(tree_of(path))

    assert docstring
    assert len(docstring.splitlines()) == 1


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


def test_importing_opens_no_file_and_no_database_and_reads_no_environment(import_in):
    below = [f"{path.parent.name}.{path.stem}" for path in (*SCRIPTS, *COMMANDS, *PAGES, *WATCHERS)]

    done = import_in(*MAY_IMPORT, *below)

    assert done == {module: [] for module in (*MAY_IMPORT, *below)}


def test_the_watch_sees_what_a_module_should_not_do(import_in, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    lines = ["import os, sqlite3", "os.environ.get('REGISTRY_CONFIG')", "open(os.devnull).close()", "list(os.environ)"]
    (folder / "bad.py").write_text("\n".join([*lines, "sqlite3.connect(':memory:').close()"]))

    done = import_in("bad", root=folder)["bad"]

    expected = [["environment", "REGISTRY_CONFIG"], ["open", os.devnull], ["environment", "all"]]
    assert done == [*expected, ["sqlite3.connect", ":memory:"]]
