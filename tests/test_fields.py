"""Adding an image field: the example of docs/architecture.md, in a copy of the product."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest
from conftest import ROOT, clean_environment, environment
from support.product import WINGS

NAME = "0011_is_golden"


@pytest.fixture
def example():
    """Return the code blocks of the section: the migration, and the line of the table."""
    section = (ROOT / "docs" / "architecture.md").read_text().partition("## Add a field")[2]
    return [textwrap.dedent(block) for block in re.findall(r"^ *```\w+\n(.*?)^ *```$", section, re.M | re.S)]


@pytest.fixture
def copy_with_field(tmp_path, example):
    """Return a function that runs a command of a copy of the product with the example's field."""
    folder = tmp_path / "copy"
    for wing in WINGS:
        shutil.copytree(ROOT / wing, folder / wing, ignore=shutil.ignore_patterns("__pycache__"))
    for module in ROOT.glob("*.py"):
        shutil.copy(module, folder)
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("images"))
    migration, line = example
    (folder / "migrations" / f"{NAME}.py").write_text(migration)
    replace(folder / "storage" / "fields.py", "\n)\n# The brief record", f"\n    {line.strip()}\n)\n# The brief record")
    replace(folder / "storage" / "schema_guard.py", f'"{newest_migration()}"', f'"{NAME}"')

    def run(*arguments):
        return flask(folder, tmp_path / "registry.db", *arguments)

    return run


def replace(path, before, after):
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))


def newest_migration():
    return max(path.stem for path in (ROOT / "migrations").glob("[0-9]*.py"))


def flask(folder, database, *arguments):
    command = [sys.executable, "-m", "flask", "--app", "registry", *arguments]
    options = {"env": {**clean_environment(), **environment(database)}, "capture_output": True, "text": True}
    done = subprocess.run(command, check=False, cwd=folder, timeout=120, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def columns_of_index(path, index):
    with closing(sqlite3.connect(path)) as connection:
        return [name for *_, name in connection.execute(f"PRAGMA index_info({index})")]


@pytest.mark.exhaustive
def test_a_field_that_is_added_as_the_example_says_is_everywhere(copy_with_field, tmp_path):
    create = ("create", "--disk-format", "raw", "--name")
    flask(ROOT, tmp_path / "registry.db", *create, "old")

    golden = copy_with_field(*create, "new", "--is-golden").strip()
    copy_with_field("update", "new", "--no-is-golden")
    copy_with_field("update", "new", "--is-golden")

    assert [image["name"] for image in json.loads(copy_with_field("list", "--is-golden", "--json"))] == ["new"]
    assert [image["name"] for image in json.loads(copy_with_field("list", "--no-is-golden", "--json"))] == ["old"]
    assert json.loads(copy_with_field("show", golden, "--json"))["is_golden"] is True
    assert "is_golden\ttrue\n" in copy_with_field("show", golden)
    changes = [entry["changes"] for entry in json.loads(copy_with_field("history", golden, "--json"))]
    assert changes[0] == [{"field": "is_golden", "from": False, "to": True}]
    copy_with_field("check")
    assert "is_golden" in columns_of_index(tmp_path / "registry.db", "image_by_created_at")
