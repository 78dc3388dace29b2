"""README and docs say what is so: their sessions are replayed, and nothing is left out."""

import configparser
import hashlib
import os
import re
import shutil
import struct
import subprocess
import textwrap
import uuid

import pytest
from conftest import ROOT
from support import image_files
from support.terminals import Folder

from config import OPTIONS, read_settings
from registry import create_app

README = ROOT / "README.md"
API = ROOT / "docs" / "api.md"
CONFIGURATION = ROOT / "docs" / "configuration.md"
PAGES = [README, ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN_URL = "http://127.0.0.1:9191"
SHOWN_HOME = "/home/you"
MEBIBYTE = 1024 * 1024
# Pages whose session begins with the images of ``demo``.
BEGIN_WITH_DEMO = ("operations.md",)
# What differs from run to run.
VARYING = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", "<time>"),
    (r"req-[0-9a-f-]{36}", "<request id>"),
    (r"position=[\w-]+", "position=<position>"),
    (r"registry_[\w-]{43}", "<token>"),
    (r"(just now|\d+ seconds? ago)", "<just now>"),
    (r'"checksum":"[0-9a-f]{32}"', '"checksum":"<md5>"'),
)
UUID = r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
BEGINNING = r"^[0-9a-f]{8}(?=  )"
GAP = r"(?<=\S)  +(?=\S)"
# A real cirros.img, as docs/tour.md shows it.
CIRROS_SIZE, CIRROS_MD5 = "21430272", "c8fc807773e5354afe61636071771906"
# Commands that no test runs here, by page and first line, each with the reason: all other commands are run.
NOT_RUN = {
    ("README.md", "make run"): "asks the package index; conftest.Server starts the same",
    ("commands.md", 'eval "$(_REGISTRY_COMPLETE=bash_source registry)"'): "shells' start files; see test_launcher.py",
    (
        "glance-api.md",
        "python2.7 -m pip install --target bootstrap 'virtualenv<20.22' 'platformdirs<2.1'",
    ): "Python 2.7",
    ("glance-api.md", "mkdir -p /srv/glance/images"): "asks for that glance-api",
    (
        "operations.md",
        'sqlite3 recovered.db "DROP TABLE IF EXISTS lost_and_found" "PRAGMA application_id = 1229804103"',
    ): ("is about a file that .recover made; see test_recovery.py"),
    (
        "operations.md",
        'sqlite3 registry.db "PRAGMA wal_checkpoint(TRUNCATE)"',
    ): "is about a damaged log; see faults/test_damage.py",
    (
        "reliability.md",
        "make torture                                    # all, at full length",
    ): "these tests themselves",
    (
        "reliability.md",
        ".venv/bin/pytest -n auto tests/test_openapi.py tests/faults/test_no_5xx.py"
        "              # some 4,000 requests, as in make test",
    ): "these tests themselves",
}
# Languages of blocks without commands; test_fields.py runs the Python.
NO_COMMANDS = ("ini", "nginx", "yaml", "json", "text", "python")


def blocks(page):
    """[(language, content)] of all fenced blocks of a page."""
    found = re.findall(r"^( *)```([\w-]*)\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [(language, textwrap.dedent(content)) for _, language, content in found]


def sessions(page):
    """[(command, expected answer)] of all console blocks on a page, here-documents included."""
    steps = []
    for language, block in blocks(page):
        if language != "console":
            continue
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = step.partition("\n")
            if here := re.search(r"<<(\w+)", command):
                document, _, answer = answer.partition(f"\n{here[1]}\n")
                command = f"{command}\n{document}\n{here[1]}"
            steps.append((command, answer))
    return steps


def normalised(text, command, chosen):
    """The answer with a name for what varies; ids that the page has ``chosen`` itself must be what they are."""
    text = re.sub(UUID, lambda match: match[0] if match[0] in chosen else "<id>", text)
    text = re.sub(GAP, "  ", re.sub(BEGINNING, "<id>", text, flags=re.MULTILINE))  # a table is as wide as what varies
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    lines = [line.rstrip() for line in text.strip().splitlines()]
    # Files are read several at a time.
    return sorted(lines) if re.match(r"\S*registry (scan|verify)", command) else lines


def qcow2():
    """An empty image of 1 MiB, as qemu-img would make it: header, L1 table, refcounts."""
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, 0, 0, 16, 1 << 20, 0, 1, 0x30000, 0x10000, 1, 0, 0)
    header += struct.pack(">QQQII", 0, 0, 0, 4, 104)
    refcount_table = struct.pack(">Q", 0x20000).ljust(0x10000, b"\0")
    refcounts = struct.pack(">4H", 1, 1, 1, 1).ljust(0x10000, b"\0")
    return header.ljust(0x10000, b"\0") + refcount_table + refcounts + b"\0" * 0x10000


def make_images(folder):
    """The folder ``images`` of the README: made by qemu-img and xorriso, as long as the real ones, sparse."""
    base = "debian-13-genericcloud-amd64.qcow2"
    debian = image_files.make(folder / base, "qcow2", size="3G")
    ubuntu = image_files.make(folder / "noble-server-cloudimg-amd64.img", "qcow2", size="3584M")
    image_files.make(folder / "overlay.qcow2", "qcow2", f"backing_file={base}", "backing_fmt=qcow2", size="3G")
    image_files.make(folder / "webserver.vdi", "vdi", size="20G")
    alpine = image_files.make_iso(folder / "alpine-virt-3.22.2-x86_64.iso")
    for path, mebibytes in ((debian, 331), (ubuntu, 12), (alpine, 66)):
        os.truncate(path, mebibytes * MEBIBYTE)
    (folder / "notes.txt").write_text("no image")


@pytest.fixture
def newcomer(tmp_path, database_path):
    """A function: somebody's home with images and ./registry, on the database that the server of the test serves."""

    def make(page):
        home = Folder(tmp_path / "home", database=f"sqlite:///{database_path}")
        home.path.mkdir()
        (home.path / "registry").symlink_to(home.launcher)
        (home.path / "cirros.img").write_bytes(qcow2())
        home.variables |= {"HOME": str(home.path), "FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "300"}
        if "~/images" in page.read_text():
            (home.path / "images").mkdir()
            make_images(home.path / "images")
        if page.name in BEGIN_WITH_DEMO:
            home.get("demo", "--no-serve")
        return home

    return make


def replayed(steps, home, url):
    """[what each command prints], of commands that follow one another in one shell."""
    script = ["exec 2>&1"]
    script += [f"{command.replace(SHOWN_URL, url)}\nprintf '\\036'" for command, _ in steps]
    bash = ["bash", "-c", "\n".join(script)]
    run = subprocess.run(
        bash, check=False, cwd=home.path, env=home.variables, capture_output=True, text=True, timeout=180
    )
    assert run.stderr == ""
    image = qcow2()
    said = run.stdout.replace(str(home.path), SHOWN_HOME).replace(url, SHOWN_URL)
    said = said.replace(str(len(image)), CIRROS_SIZE).replace(hashlib.md5(image).hexdigest(), CIRROS_MD5)
    return said.split("\036")[:-1]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[] if page == README else pytest.mark.exhaustive)
        for page in PAGES
        if sessions(page)
    ],
)
def test_every_command_of_a_page_gives_the_answer_that_is_shown(page, newcomer, start_server):
    require_curl()
    steps = sessions(page)
    chosen = set(re.findall(UUID, "".join(command for command, _ in steps)))
    chosen |= {str(uuid.UUID(text)) for text in re.findall(r"\b[0-9a-fA-F]{32}\b", str([line for line, _ in steps]))}
    home = newcomer(page)
    url = start_server().url if any(SHOWN_URL in command for command, _ in steps) else SHOWN_URL

    said = replayed(steps, home, url)

    for (command, answer), output in zip(steps, said, strict=True):
        shown = [command, *normalised(answer, command, chosen)]
        assert [command, *normalised(output, command, chosen)] == shown


def test_commands_of_the_pages_are_run_or_it_is_said_why_not():
    commands = {
        (page.name, content.partition("\n")[0])
        for page in PAGES
        for language, content in blocks(page)
        if language not in ("console", *NO_COMMANDS)
    }

    assert commands == set(NOT_RUN)
    assert all(re.match(r"\$ ", text) for page in PAGES for language, text in blocks(page) if language == "console")
    fences = sum(len(re.findall(r"^ *```", page.read_text(), re.MULTILINE)) for page in PAGES)
    assert fences == 2 * sum(len(blocks(page)) for page in PAGES)


@pytest.mark.parametrize("page", [CONFIGURATION, ROOT / "docs" / "glance-api.md"], ids=lambda page: page.name)
def test_the_registry_takes_the_options_that_a_page_shows(page, tmp_path):
    shown = [content for language, content in blocks(page) if language == "ini" and "[auth]" in content]
    path = tmp_path / "config.ini"

    for content in shown:
        path.write_text(content)
        assert read_settings({"REGISTRY_CONFIG": str(path)}).auth.flavor == "trusted-auth"

    assert shown


def require_curl():
    curl = shutil.which("curl")
    if curl is None or subprocess.run([curl, "--json", "x", "--version"], check=False, capture_output=True).returncode:
        pytest.skip("the pages' commands need a curl that knows --json (7.82)")


def test_the_examples_file_has_every_option_with_its_default():
    parser = configparser.ConfigParser(interpolation=None)

    parser.read(ROOT / "config.example.ini")

    shown = {(section, name): text for section in parser.sections() for name, text in parser.items(section)}
    assert shown == {(option.section, option.name): option.default for option in OPTIONS}


def test_the_page_of_options_has_every_option_with_its_default():
    rows = re.findall(r"^\| `\[(\w+)\] (\w+)` \| `([^`]*)` \|", CONFIGURATION.read_text(), re.MULTILINE)

    assert [(section, name, default) for section, name, default in rows] == [
        (option.section, option.name, option.default) for option in OPTIONS
    ]


def test_the_api_page_has_every_route():
    placeholders = {"image_id": "<id>", "member_id": "<member>"}
    routes = {
        f"{method} {re.sub('<.*?:(.*?)>', lambda name: placeholders[name[1]], rule.rule)}"
        for rule in create_app().url_map.iter_rules()
        if not rule.endpoint.startswith("ui")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }

    shown = set(re.findall(r"^### `(.+)`$", API.read_text(), re.MULTILINE))

    assert routes - {"GET /"} == shown
    assert "`GET /` is the same list" in API.read_text()


def test_what_the_makefile_offers_is_in_the_readme():
    makefile = (ROOT / "Makefile").read_text()
    offered = re.findall(r"^# (make [\w-]+)", makefile, re.MULTILINE)

    missing = [target for target in offered if f"`{target}`" not in README.read_text() and target != "make run"]

    assert offered
    assert missing == []
    assert all(f"\n{target.removeprefix('make ')}: .venv" in makefile for target in offered)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_package_has_its_reason():
    section = (
        (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8").partition("## Packages")[2].partition("\n## ")[0]
    )
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")][2:]
    explained = {name for row in rows for name in row.strip().split(", ")}

    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)

    assert explained == {*pinned}
