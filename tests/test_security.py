"""What the code itself must not do, read from its syntax; and what SECURITY.md names as tests."""

import ast
import importlib.metadata
import re

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

WINGS = ("cli", "migrations", "monitoring", "ui")
PRODUCT = sorted([*ROOT.glob("*.py"), *(path for wing in WINGS for path in (ROOT / wing).glob("*.py"))])
every_path = pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))

SQL = re.compile(
    r"\b(SELECT|INSERT|UPDATE|DELETE|FROM|WHERE|SET|VALUES|PRAGMA|ORDER BY|LIMIT|EXISTS|INDEXED|UNION|JOIN|ATTACH"
    r"|CREATE|DROP|ALTER|BEGIN|VACUUM|AND|IS NULL)\b"
)
# Modules that put statements together from parts without such a word: there every text counts.
BUILDERS = ("lists.py", "plans.py")
# Who takes a statement, and as which argument.
TAKERS = {"execute": 0, "executemany": 0, "executescript": 0, "execute_sql": 0, "run": 0, "recall": 1, "SQL": 0}
# What may stand in a statement beside literal text: constants, names of columns and filters out of tables of ours,
# numbers counted by us. Whoever adds to this has asked where the value comes from.
FIXED = {
    "search.py": {"INDEX", "INSERT", "MARK"},
    "history.py": {
        "FORGET",
        "INSERT",
        "LAST",
        "LIST",
    },
    "migrations/0006_search_and_history.py": {"', '.join(columns)", "actions", "condition", "event", "row"},
    "monitoring/__init__.py": {"COUNT"},
    "stopwatch.py": {"self"},  # the statement is handed on as it is
    "tokens.py": {"FIND", "INSERT", "LIST", "patience"},
    "migrations/0005_tokens.py": {"', '.join(columns)"},
    "checks.py": {
        "COLUMNS_OF_INDEX",
        "statement",
        "', '.join(names)",
        "MOST_PROBLEMS",
        "columns",
        "order",
        "table",
    },
    "cli/checking.py": {
        "STORE_WORDS",
        "FIND_CHANGES",
        "', '.join(CHANGE_COLUMNS)",
        "', '.join(models.COLUMNS)",
        "assignments",
    },
    "cli/doctoring.py": {
        "COUNT",
        "STUCK",
    },
    "cli/exporting.py": {
        "SELECT",
    },
    "cli/importing.py": {
        "', '.join('?' * len(models.COLUMNS))",
        "', '.join(models.COLUMNS)",
        "CACHE_KIBIBYTES",
        "FIND",
        "INSERT",
        "INSERT_LOCATION",
        "INSERT_MEMBER",
        "INSERT_PROPERTY",
        "search.INSERT",
    },
    "cli/purging.py": {
        "FIND",
    },
    "lists.py": {
        "' AND '.join(conditions)",
        "' UNION ALL '.join(parts)",
        "' || '.join(columns)",
        "', '.join(columns)",
        "', '.join(columns[1:])",
        "', '.join(positions)",
        "', '.join(positions[1:])",
        "CONTENT[content]",
        "NO_LOCATIONS",
        "SHOW",
        "VISIBLE[audience_of(context)]",
        "b','",
        "b'\\n'",
        "column",
        "columns",
        "columns[0]",
        "compare",
        "count_statement(query.sort_columns, branches, filters)",
        "direction",
        "name",
        "number",
        "order",
        "page_statement(*shape)",
        "selected",
        "source",
        "statement",
        "trail(content, sort_columns)",
    },
    "migrations/0002_documents.py": {
        "SHELVES",
        "column",
        "columns",
        "empty",
        "name",
    },
    "migrations/0003_digests.py": {
        "table",
    },
    "models.py": {
        "owned",
        "', '.join((f':{name}' for name in COLUMNS[1:]))",
        "', '.join(COLUMNS)",
        "', '.join(COLUMNS[1:])",
        "DELETED",
        "INSERT",
        "KILLED",
        "NORMAL",
        "VISIBLE[audience_of(context)]",
        "assignments",
        "statement",
    },
    "ui/totals.py": {
        "CANDIDATES",
        "DUPLICATES[audience]",
        "FILES",
        "FILE_LOCATIONS",
        "CANDIDATES + 1",
        "CHECKSUMS",
        "NEWEST",
        "STUCK_COUNTED",
        "STUCK[audience]",
        "UNPLACED",
        "VISIBLE[audience]",
        "doubled",
        "rule",
        "table[part]",
    },
    "database.py": {"statement"},
    "plans.py": {
        "', '.join((f':{name}' for name in names))",
        "GATHERED",
        "IN_IDS",
        "after",
        "column",
        "columns[0]",
        "compare",
        "order",
        "query.sort_dir",
        "query.sort_key",
        "NEWEST_FOUND.format(words=words_condition(name))",
        "', '.join(columns)",
        "NEWEST_FOUND",
        "' id' if search.id_prefix else ''",
        "'_by_name' if sort_key == 'name' else ''",
        "BOUNDS[name]",
        "CANDIDATES[name].format(shelf=on_shelf)",
        "FOUND.format(words=words_condition(name))",
        "FOUND_IDS if name.endswith(' id') else ''",
        "SIZE_RANGE",
        "beginning",
        "branch.shelf",
        "condition",
        "driver",
        "found(driver)",
        "found(name).replace('UNION', 'UNION ALL')",
        "images",
        "len(search.words)",
        "most",
        "name",
        "number",
        "on_shelf",
        "property_condition('property', number)",
        "shelf",
        "sort_key if driver == 'order' else STARTS.get(driver, driver)",
        "source",
        "statement",
        "table",
        "word",
        "words_condition(name)",
    },
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "breakpoint", "input"}
FORBIDDEN_MODULES = {
    *("pickle", "cPickle", "dill", "marshal", "shelve", "yaml", "ctypes", "subprocess", "pty", "xml", "tempfile"),
    *("urllib.request", "http.client", "requests", "urllib3", "httpx", "aiohttp", "ftplib", "smtplib", "telnetlib"),
    *("random", "httpx2"),
}
# Who may: the client asks the server that --url names, the demo starts the server.
ALLOWED = {"cli/client.py": {"httpx2"}, "cli/fetching.py": {"httpx2"}, "cli/demo.py": {"subprocess"}}


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def is_text(node):
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def literal_of(node):
    """The literal text within an expression."""
    return " ".join(part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and type(part.value) is str)


def inserted_in(node):
    """The expressions that ``node`` puts into a text, or None where it builds none."""
    if isinstance(node, ast.JoinedStr):
        return [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and (is_text(node.left) or is_text(node.right)):
        return [side for side in (node.left, node.right) if not is_text(side)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and is_text(node.left):
        return [node.right]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "replace"):
        return [*node.args, *(keyword.value for keyword in node.keywords)]
    return None


def least_of(name):
    """``run`` and ``recall`` are ours, and take parameters too; migrations have a ``run`` that takes none."""
    return 1 if name in ("run", "recall") else TAKERS[name]


def statements_of(tree):
    """The expressions that are handed to whoever runs statements."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if name in TAKERS and len(call.args) > least_of(name):
                yield call.args[TAKERS[name]]


def built_into_sql(tree, is_builder=False):
    """The source of every expression that becomes a part of a statement."""
    statements = list(statements_of(tree))
    within = {id(part) for statement in statements for part in ast.walk(statement)}
    found = {
        ast.unparse(statement) for statement in statements if not is_text(statement) and inserted_in(statement) is None
    }
    for node in ast.walk(tree):
        inserted = inserted_in(node)
        if inserted and (is_builder or id(node) in within or SQL.search(literal_of(node))):
            found |= {ast.unparse(part) for part in inserted if not is_text(part) or isinstance(part, ast.JoinedStr)}
    return found


@every_path
def test_a_statement_is_put_together_from_nothing_but_literal_text_and_what_is_fixed(path):
    found = built_into_sql(tree_of(path), path.name in BUILDERS)

    assert found == FIXED.get(str(path.relative_to(ROOT)), set())


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
    ],
)
def test_a_planted_statement_is_found(planted, found):
    assert built_into_sql(ast.parse(planted)) == found


def called_in(tree):
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def modules_in(tree):
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def dangers_in(tree):
    """Code made of text, other programs, formats that run code, and clients: the registry opens no location."""
    calls, modules = called_in(tree), modules_in(tree)
    named = {name for name in modules if name in FORBIDDEN_MODULES or name.split(".")[0] in FORBIDDEN_MODULES}
    connecting = {name for name in calls if name.endswith((".connect_ex", ".create_connection"))}
    shells = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "shell"}
    return (calls & FORBIDDEN_CALLS) | named | connecting | shells


@every_path
def test_nothing_of_the_product_runs_text_or_other_programs_or_opens_a_location(path):
    assert dangers_in(tree_of(path)) == ALLOWED.get(str(path.relative_to(ROOT)), set())


@pytest.mark.parametrize(
    "planted",
    [
        *("eval(text)", "exec(text)", "import pickle", "from yaml import load", "import subprocess", "os.system(text)"),
        *("from urllib import request", "import http.client", "import urllib.request as client", "import requests"),
        *("run_it(command, shell=True)", "socket.create_connection(address)", "from random import random"),
    ],
)
def test_a_planted_danger_is_found(planted):
    assert dangers_in(ast.parse(planted)) != set()


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
