"""``./registry``: from any folder, on the right database, with completion."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from support.product import copy_product
from support.terminals import Folder

import config
from cli.launcher import launcher_settings
from config import VERSION

# Another project's files, beside which somebody may be: ours must win over them.
TRAPS = ("click.py", "config.py", "registry.py", "flask.py", "sitecustomize.py", ".env", ".flaskenv")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone with its .venv, in a folder with a space in its name."""
    root = tmp_path_factory.mktemp("a clone") / "image registry"
    root.mkdir()
    copy_product(root)
    (root / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return root


@pytest.fixture
def elsewhere(project, tmp_path):
    """Somebody's folder with traps, and the launcher by a link from there."""
    for name in TRAPS:
        (tmp_path / name).write_text(
            "REGISTRY_AUTH_FLAVOR=nonsense\n" if name.startswith(".") else "raise SystemExit(99)\n"
        )
    (tmp_path / "link").symlink_to(project / "registry")
    return Folder(tmp_path, tmp_path / "link", database=None)


def test_from_any_folder_it_works_on_the_database_of_the_projects_folder(elsewhere, project):
    elsewhere.get("create", "x", "--disk-format", "raw")

    assert (project / "registry.db").exists()
    assert Folder(project, project / "registry", database=None).get("list").split("\t")[1] == "x"
    assert {path.name for path in elsewhere.path.iterdir()} == {*TRAPS, "link"}


@pytest.mark.exhaustive
def test_paths_that_are_given_mean_the_folder_where_somebody_is(elsewhere):
    elsewhere.get("create", "x", "--disk-format", "raw", REGISTRY_DATABASE_CONNECTION="sqlite:///here.db")
    (elsewhere.path / "own.ini").write_text("[database]\nconnection = sqlite:///own.db\n")
    elsewhere.get("create", "x", "--disk-format", "raw", REGISTRY_CONFIG="own.ini")
    elsewhere.get("create", "x", "--disk-format", "raw")
    elsewhere.get("export", "out.ndjson")

    assert all((elsewhere.path / name).exists() for name in ("here.db", "own.db", "out.ndjson"))


def test_a_configuration_that_names_no_database_leaves_the_projects(tmp_path):
    (tmp_path / "own.ini").write_text("[server]\nbind_port = 9292\n")

    settings = launcher_settings({"REGISTRY_CONFIG": str(tmp_path / "own.ini")})

    assert settings.server.bind_port == 9292
    assert settings.database.connection == f"sqlite:///{ROOT}/registry.db"
    given = {"REGISTRY_DATABASE_CONNECTION": "sqlite:///x.db"}
    assert launcher_settings(given).database.connection == "sqlite:///x.db"


def test_without_its_packages_it_says_what_to_do_in_one_line(project, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy2(project / "registry", bare)

    code, output, errors = Folder(tmp_path, bare / "registry").run("list")

    assert (code, output) == (1, "")
    assert errors == f"registry: {bare}/.venv is missing: run 'make run' or 'make setup' in {bare} first\n"


def test_it_tells_its_version_which_the_changes_know(folder):
    assert folder.get("--version") == f"registry {VERSION}\n"
    assert VERSION in (ROOT / "CHANGELOG.md").read_text()


def test_the_client_s_variables_are_no_options():
    variables = {"REGISTRY_URL": "http://x", "REGISTRY_TOKEN": "x"}

    assert config.environment_texts(variables) == {}
    assert config.read_settings(variables) == config.read_settings({})


# Completion: what the shells' scripts ask, and bash's whole way.


def completed(folder, words, shell="bash", **variables):
    """What the command offers to a shell that asks for the last of ``words``."""
    asked = {
        "COMP_WORDS": " ".join(["registry", *words]),
        "COMP_CWORD": str(len(words) if shell != "fish" else words[-1]),
    }
    return folder.get(**asked, _REGISTRY_COMPLETE=f"{shell}_complete", **variables)


@pytest.fixture(scope="module")
def with_images(tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("images"))
    for name in ("debian-13", "debian-12", "cirros", "two words"):
        folder.get("create", name, "--disk-format", "raw")
    return folder


@pytest.mark.parametrize(
    ("shell", "expected"),
    [("bash", "plain,debian-12\nplain,debian-13\n"), ("fish", "plain,debian-12\nplain,debian-13\n")],
)
def test_names_of_images_are_completed(with_images, shell, expected):
    offered = completed(with_images, ["show", "deb"], shell)

    assert sorted(line.split("\t")[0] for line in offered.splitlines()) == expected.split()


@pytest.mark.exhaustive
def test_commands_options_and_their_values_are_completed(with_images):
    assert "plain,undelete" in completed(with_images, ["und"]).splitlines()
    assert "plain,--changes-since" in completed(with_images, ["list", "--ch"]).splitlines()
    assert "plain,killed" in completed(with_images, ["list", "--status", "k"]).splitlines()


def test_a_name_that_a_shell_would_split_is_offered_as_its_id(with_images):
    offered = completed(with_images, ["show", ""]).splitlines()

    assert "plain,cirros" in offered
    assert not any("two" in line for line in offered)
    assert len(offered) == 4


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_shells_that_quote_are_offered_names_with_spaces(with_images, shell):
    offered = completed(with_images, ["show", "Two"], shell).splitlines()

    assert any(line.split("\t")[0].removeprefix("plain,") == "two words" for line in offered)


def test_a_name_in_several_words_is_found_by_its_beginning_in_bash(with_images):
    (image,) = json.loads(with_images.get("list", "--json", "--name", "two words"))

    assert completed(with_images, ["show", "tw"]) == f"plain,{image['id']}\n"


def test_formats_are_completed(with_images):
    formats = {"REGISTRY_API_DISK_FORMATS": "qcow2,quantum,raw"}

    offered = completed(with_images, ["list", "--disk-format", "q"], **formats)

    assert offered.split() == ["plain,qcow2", "plain,quantum"]


def test_completion_makes_no_database(folder):
    assert completed(folder, ["show", ""]).strip() == ""
    assert list(folder.path.iterdir()) == []


def test_completion_is_silent_where_nothing_can_be_asked(folder):
    variables = {"REGISTRY_URL": "http://127.0.0.1:1"}

    assert completed(folder, ["show", "deb"], **variables).strip() == ""


@pytest.mark.exhaustive
def test_bash_completes_by_the_script_that_the_command_gives(with_images):
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    script = f"""PATH="{ROOT}:$PATH"
        eval "$(_REGISTRY_COMPLETE=bash_source registry)"
        COMP_WORDS=(registry show debian-13) COMP_CWORD=2
        $(complete -p registry | sed 's/.*-F \\([^ ]*\\).*/\\1/') registry debian-13 show
        printf '%s\\n' "${{COMPREPLY[@]}}" """

    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        check=False,
        cwd=with_images.path,
        env=with_images.variables | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )

    assert (done.stdout, done.stderr) == ("debian-13\n", "")
