"""Errors of every command: output that cannot be written, no database, invalid configuration."""

import contextlib
import shutil
import sqlite3
import subprocess

import pytest
from conftest import FLASK, ROOT
from support.older import replace_by_older
from support.terminals import Folder
from test_client import answering, token_server  # noqa: F401 (fixtures)
from test_doctor import change, facts

ID = "abc{}0000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The path of a database of two images whose ids begin alike, of which a word finds only one."""
    folder = Folder(tmp_path_factory.mktemp("made"))
    folder.get("create", "one", "--disk-format", "raw", "--id", ID.format(1))
    folder.get("create", "two", "--disk-format", "raw", "--id", ID.format(2), "-p", "w=ab cd")
    return folder.path / "mine.db"


@pytest.fixture
def images(folder, made):
    """A folder with a copy of it."""
    shutil.copy(made, folder.path)
    return folder


def in_shell(folder, line):
    options = {"cwd": folder.path, "env": folder.variables, "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run(["bash", "-o", "pipefail", "-c", f"'{folder.launcher}' {line}"], check=False, **options)
    return done.returncode, done.stdout, done.stderr


def test_what_may_be_the_beginning_of_several_ids_is_none(images):
    for beginning in ("ab", "abc"):
        code, _, errors = images.run("delete", beginning, "--yes")
        assert (code, "an id prefix needs at least 4 digits" in errors) == (3, True)

    assert images.get("show", "abc2", "-q").strip() == ID.format(2)
    assert len(images.get("list", "-q").split()) == 2


FULL = ("list", "list --json", "list --csv", "list -q", "show one", "create x --disk-format raw", "doctor", "--help")


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", [*FULL, "list --help", "export -", "token list"])
def test_an_output_that_takes_no_more_is_told_in_one_line(images, command):
    code, _, errors = in_shell(images, f"{command} >/dev/full")

    assert (code, errors) == (1, "Error: Cannot write to standard output: No space left on device.\n")


def test_an_output_that_is_closed_is_told_before_anything_is_done(images):
    assert in_shell(images, "delete one --yes >&-") == (
        1,
        "",
        "Error: Standard output is closed; redirect it to a file or a pipe.\n",
    )
    assert len(images.get("list", "-q").split()) == 2


def test_who_reads_no_further_hears_nothing(images):
    assert in_shell(images, "list | true")[2] == ""


READING = ("list", "show x", "history x", "verify", "export -", "share x acme", "delete x --yes", "token list")
OTHERS = ("token revoke 1", "purge --older-than 1d", "scan . --dry-run")


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", [*READING, *OTHERS])
def test_what_puts_nothing_in_makes_no_database(folder, command):
    code, output, errors = folder.run(*command.split())

    assert (code, output) == (5, "")
    assert errors.startswith(
        "Error: There is no database at mine.db. Create one with make run, registry create or registry scan, or "
    )
    assert "REGISTRY_DATABASE_CONNECTION" in errors
    assert list(folder.path.iterdir()) == []


WRONG = {"REGISTRY_DATABASE_CONNECTION": "mine.db"}
REASON = "must be sqlite:///FILE"


@pytest.mark.parametrize("command", ["list", "export -", "token list", "check", "create x --disk-format raw"])
def test_a_wrong_configuration_is_5(folder, command):
    code, output, errors = folder.run(*command.split(), **WRONG)

    assert (code, output, errors.count("\n")) == (5, "", 1)
    assert REASON in errors


@pytest.mark.exhaustive
def test_what_needs_no_configuration_works_with_a_wrong_one(folder, answering):  # noqa: F811
    url, _ = answering(200, b'{"images": []}')

    assert "Example:" in folder.get("--help", **WRONG)
    assert "Example:" in folder.get("list", "-h", **WRONG)
    assert folder.get("--version", **WRONG)
    assert folder.get("list", "--url", url, **WRONG) == ""


@pytest.mark.exhaustive
def test_flask_too_has_its_commands_and_their_help_with_a_wrong_configuration(folder):
    options = {"cwd": ROOT, "env": folder.variables | WRONG, "capture_output": True, "text": True, "timeout": 120}

    assert "--sort-key" in subprocess.run([*FLASK, "list", "--help"], check=True, **options).stdout
    assert subprocess.run([*FLASK, "list"], check=False, **options).returncode == 5


def test_doctor_says_what_is_wrong_with_the_configuration(folder):
    code, output, errors = folder.run("doctor", REGISTRY_SERVER_WORKERS="many", **WRONG)

    found = facts(output)
    assert (code, errors) == (1, "Error: 2 problems found.\n")
    assert found["options"]["[database] connection"].endswith(
        f"wrong: {REASON}, or sqlite:////FOLDER/FILE for an absolute path"
    )
    assert "wrong: must be an integer" in found["options"]["[server] workers"]
    assert found["what to do"]["2"].startswith("[database] connection must be sqlite:///FILE")
    assert folder.run("doctor", REGISTRY_API_COLOUR="red")[0] == 1


@pytest.mark.exhaustive
def test_doctor_looks_at_whose_a_large_file_is_and_changes_nothing(images):
    path = images.path / "mine.db"
    replace_by_older(path)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE filling AS SELECT zeroblob(66 * 1024 * 1024) AS content")
    before = path.read_bytes()

    older = facts(images.run("doctor")[1])
    assert path.read_bytes() == before
    change(path, "PRAGMA application_id = 7")
    another = facts(images.run("doctor")[1])

    assert "is of an older version" in older["database"]["health"]
    assert "another application's" in another["database"]["health"]


@pytest.mark.exhaustive
def test_deleted_images_are_refused_to_others_than_admins(folder, token_server):  # noqa: F811
    server, create_token = token_server
    member = {"REGISTRY_URL": server.url, "REGISTRY_TOKEN": create_token("--tenant", "acme", "--role", "member")}
    admin = member | {"REGISTRY_TOKEN": create_token("--role", "admin")}
    folder.get("create", "alive", "--disk-format", "raw", **member)

    code, output, errors = folder.run("list", "--deleted", **member)
    owned = folder.run("create", "mine", "--disk-format", "raw", "--owner", "bob", **member)

    assert (code, output) == (4, "")
    assert "admins only" in errors
    assert folder.run("undelete", "alive", **member)[0] == 4
    assert folder.get("list", "--deleted", **admin) == ""
    assert (owned[0], owned[2]) == (0, "--owner was ignored because only admins may set it; the image is acme's.\n")


SAID = {
    "part of a MB": (["update", "one", "--min-ram", "500K"], 2, "is not a whole number of MB"),
    "both": (
        ["list", "--public", "--private"],
        2,
        "--visibility, --public and --private contradict each other; give one",
    ),
    "no url": (["list", "--url", ""], 2, "--url must be an HTTP URL such as"),
    "interval": (["scan", ".", "--interval", "5"], 2, "--interval works only together with --watch"),
    "nobody": (["share", "one", ".."], 2, "is not a valid tenant"),
    "not shared": (["unshare", "one", "acme"], 3, "one is not shared with acme."),
    "deleted": (["update", "one", "--status", "deleted"], 2, "is not one of"),
    "no UTF-8": (
        ["create", "x", "--disk-format", "raw", "-p", b"a=\xff"],
        2,
        "'--property' / '-p': The value must be UTF-8 text.",
    ),
    "help": (["help", "list"], 2, "Did you mean registry list --help?"),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("words", "code", "said"), SAID.values(), ids=SAID)
def test_what_cannot_be_done_is_said_in_the_words_of_the_command_line(images, words, code, said):
    options = {"cwd": images.path, "env": images.variables, "capture_output": True}
    done = subprocess.run([images.launcher, *words], check=False, **options)

    assert (done.returncode, done.stdout) == (code, b"")
    assert said in done.stderr.decode()


def test_a_protected_image_is_not_deleted_and_it_says_what_to_do_first(images):
    images.get("update", "two", "--protected")

    code, _, errors = images.run("delete", "one", "two", "--yes")

    assert code == 4
    assert (
        errors
        == f"Error: two is protected. Remove the protection first: registry update {ID.format(2)} --unprotected\n"
    )
    assert len(images.get("list", "-q").split()) == 2


@pytest.mark.exhaustive
def test_what_shares_prints_the_id_in_a_pipe(images):
    assert images.get("share", "one", "acme").strip() == ID.format(1)
    assert images.get("unshare", "one", "acme").strip() == ID.format(1)
    assert "member acme: no longer shared\n" in images.get("history", "one")


def test_an_import_names_the_file_and_knows_an_array(images):
    (images.path / "list.json").write_text(images.get("list", "--json"))

    code, _, errors = images.run("import", "list.json")

    assert code == 1
    assert errors.startswith("Error: list.json: line 1: record: ")
    assert "use export, which writes a record" in errors


def test_a_database_that_cannot_be_written_is_told_with_what_to_do(images):
    (images.path / "mine.db").chmod(0o400)
    images.path.chmod(0o500)
    try:
        if images.run("create", "x", "--disk-format", "raw")[0] == 0:
            pytest.skip("root writes everything")
        code, _, errors = images.run("list")
    finally:
        images.path.chmod(0o700)

    assert (code, "registry backup FILE" in errors) == (5, True)
