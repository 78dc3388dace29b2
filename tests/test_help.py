"""Every command's help has an example, and every example works, in a folder as a newcomer has it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from conftest import ROOT
from support.mirrors import UBUNTU, publish, ubuntu_product
from support.terminals import Folder
from test_docs import qcow2

from cli import COMMANDS as NAMES
from cli import load_command
from registry import create_app

COMMANDS = [load_command(name) for name in NAMES]

EXAMPLE = re.compile(r"^ *\$ (.+)$", re.MULTILINE)
SPELLINGS = {"registry": "registry", "flask": "flask --app registry"}
# What an example is about must be there before it: (its command, what makes it).
BEFORE = {
    "token revoke": ["token create --role member"],
    "restore": ["backup backup.db"],
    "import": ["export images.ndjson.zst"],
    "unshare": ["share golden-base acme"],
    "merge": [
        f"update golden-base --checksum {'0' * 32}",
        f"create golden-copy --disk-format qcow2 --checksum {'0' * 32}",
    ],
}


def commands(group=COMMANDS, above=()):
    """{its words: the command} of all, groups too."""
    found = {}
    for command in group:
        words = (*above, command.name)
        found[" ".join(words)] = command
        if isinstance(command, click.Group):
            found |= commands(command.commands.values(), words)
    return found


EVERY = commands()
ALL = {words: command for words, command in EVERY.items() if not isinstance(command, click.Group)}


@pytest.fixture(scope="module")
def registry_folder(tmp_path_factory):
    """A folder with a registry, of the demo's images, a folder of image files, and a mirror."""
    folder = Folder(tmp_path_factory.mktemp("newcomer"), database="sqlite:///registry.db")
    (folder.path / "images").mkdir()
    (folder.path / "images" / "debian.qcow2").write_bytes(qcow2())
    products = {"com.ubuntu.cloud:server:24.04:amd64": ubuntu_product(folder.path / "mirror", {"20251113": qcow2()})}
    publish(folder.path / "mirror", UBUNTU, products)
    folder.get("demo", "--into", "registry.db", "--no-serve")
    return folder


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A PATH that has both spellings of the program."""
    path = tmp_path_factory.mktemp("bin")
    (path / "registry").symlink_to(ROOT / "registry")
    return os.pathsep.join([str(path), str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.mark.exhaustive
@pytest.mark.sampled
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("words", ["", *EVERY])
def test_every_example_of_a_help_works_as_it_was_asked_for(registry_folder, programs, tmp_path, words, spelling):
    if not words and spelling == "flask":
        pytest.skip("that help is Flask's own")
    program = SPELLINGS[spelling]
    path = tmp_path / "copy"
    shutil.copytree(registry_folder.path, path)
    folder = Folder(path, database="sqlite:///registry.db")
    folder.variables |= {"PATH": programs, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    for line in BEFORE.get(words, ()):
        folder.get(*shlex.split(line))

    examples = EXAMPLE.findall(in_bash(folder, f"{program} {words} --help").stdout)

    assert examples
    for example in examples:
        assert example.startswith(f"{program} {words}")
        done = in_bash(folder, example)
        assert done.returncode == 0 or "|" in example, (example, done.stderr)
        assert "Error" not in done.stderr, example
        assert "Traceback" not in done.stderr, example


def in_bash(folder, line):
    bash = ["bash", "-o", "pipefail", "-c", line]
    options = {"cwd": folder.path, "env": folder.variables, "capture_output": True, "text": True, "timeout": 120}
    return subprocess.run(bash, check=False, **options)


def test_flask_itself_knows_the_commands_as_the_examples_write_them(registry_folder):
    group = create_app().cli

    assert {*NAMES} <= {*group.list_commands(None)}
    assert (registry_folder.launcher).stat().st_mode & 0o111


def test_the_page_of_commands_has_every_command_and_option():
    page = (ROOT / "docs" / "commands.md").read_text()
    sections = dict(re.findall(r"^### `([a-z -]+)`\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))

    assert set(ALL) <= set(sections)
    missing = [
        f"{words} {option}"
        for words, command in ALL.items()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("--") and f"`{option}" not in sections[words] + page.partition("\n### ")[0]
    ]
    assert missing == []


def test_the_readme_names_every_command():
    readme = (ROOT / "README.md").read_text()

    assert [words for words in ALL if f"`{words}" not in readme] == []


def test_the_list_of_commands_has_the_summaries_of_their_functions():
    summaries = {name: summary for name, (_, _, summary) in NAMES.items()}

    assert summaries == {command.name: " ".join(command.help.split("\n\n")[0].split()) for command in COMMANDS}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_import_no_database_and_no_command(arguments):
    code = "import sys; from cli.launcher import launch; launch()"
    command = [sys.executable, "-X", "importtime", "-c", code, *arguments]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "flask.cli" in imported
    assert not imported & {"peewee", "marshmallow", "registry", "cli.scan", "cli.list_images"}
