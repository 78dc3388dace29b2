"""Every command's help has an example, and every example works, in a folder as a newcomer has it."""

import re
import shlex
import shutil
import subprocess

import click
import pytest
from conftest import ROOT
from mirrors import UBUNTU, publish, ubuntu_product
from terminals import Folder
from test_docs import qcow2

from cli import COMMANDS
from registry import create_app

EXAMPLE = re.compile(r"^ *\$ (.+)$", re.MULTILINE)
PROGRAM = "flask --app registry"
# What an example is about must be there before it: (its command, what makes it).
BEFORE = {
    "token revoke": ["token create --role member"],
    "restore": ["backup backup.db"],
    "import": ["export images.ndjson.zst"],
    "unshare": ["share golden-base acme"],
}


def commands(group=COMMANDS, above=()):
    """{its words: the command} of all that do something."""
    found = {}
    for command in group:
        words = (*above, command.name)
        if isinstance(command, click.Group):
            found |= commands(command.commands.values(), words)
        else:
            found[" ".join(words)] = command
    return found


ALL = commands()


def examples_of(command):
    return EXAMPLE.findall(command.help or "")


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


@pytest.mark.parametrize("words", ALL)
def test_every_example_of_a_command_s_help_works(registry_folder, tmp_path, words):
    examples = examples_of(ALL[words])
    path = tmp_path / "copy"
    shutil.copytree(registry_folder.path, path)
    folder = Folder(path, database="sqlite:///registry.db")
    for line in BEFORE.get(words, ()):
        folder.get(*shlex.split(line))

    assert examples
    for example in examples:
        assert example.startswith(f"{PROGRAM} {words}")
        command = example.replace(PROGRAM, shlex.quote(str(folder.launcher)))
        bash = ["bash", "-o", "pipefail", "-c", command]
        done = subprocess.run(
            bash, check=False, cwd=path, env=folder.variables, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0 or "|" in example, (example, done.stderr)
        assert "Error" not in done.stderr, example
        assert "Traceback" not in done.stderr, example


def test_flask_itself_knows_the_commands_as_the_examples_write_them(registry_folder):
    found = create_app().cli.commands

    assert {command.name for command in COMMANDS} <= set(found)
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
