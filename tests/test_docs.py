"""README and docs say what is so: their sessions are replayed, and nothing is left out."""

import configparser
import hashlib
import re
import shutil
import struct
import subprocess

import pytest
from conftest import ROOT

from config import OPTIONS
from registry import create_app

README = ROOT / "README.md"
API = ROOT / "docs" / "api.md"
PAGES = [README, ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN_URL = "http://127.0.0.1:9191"
# What differs from run to run, and what the README shows of a real cirros.img.
VARYING = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", "<time>"),
    (r"req-[0-9a-f-]{36}", "<request id>"),
    (r"position=[\w-]+", "position=<position>"),
)


def sessions(page):
    """[(command, expected answer)] of all console blocks on a page, here-documents included."""
    steps = []
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = step.partition("\n")
            if here := re.search(r"<<(\w+)", command):
                document, _, answer = answer.partition(f"\n{here[1]}\n")
                command = f"{command}\n{document}\n{here[1]}"
            steps.append((command, answer))
    return steps


def normalised(text):
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def qcow2():
    """An empty image of 1 MiB, as qemu-img would make it: header, L1 table, refcounts."""
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, 0, 0, 16, 1 << 20, 0, 1, 0x30000, 0x10000, 1, 0, 0)
    header += struct.pack(">QQQII", 0, 0, 0, 4, 104)
    refcount_table = struct.pack(">Q", 0x20000).ljust(0x10000, b"\0")
    refcounts = struct.pack(">4H", 1, 1, 1, 1).ljust(0x10000, b"\0")
    return header.ljust(0x10000, b"\0") + refcount_table + refcounts + b"\0" * 0x10000


@pytest.mark.parametrize("page", [README, API], ids=lambda page: page.name)
def test_every_command_of_a_session_gives_the_answer_that_is_shown(page, server_for_docs, tmp_path):
    image = qcow2()
    (tmp_path / "cirros.img").write_bytes(image)
    shown = {"21430272": str(len(image)), "c8fc807773e5354afe61636071771906": hashlib.md5(image).hexdigest()}
    script, answers = [], []
    for command, answer in sessions(page):
        script.append(command.replace(SHOWN_URL, server_for_docs.url) + "\nprintf '\\036'")
        answers.append(normalised(re.sub("|".join(shown), lambda match: shown[match[0]], answer)))

    bash = ["bash", "-c", "\n".join(script)]
    run = subprocess.run(bash, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert run.stderr == ""
    assert [normalised(output) for output in run.stdout.split("\036")[:-1]] == answers
    assert len(answers) > 10


@pytest.fixture
def server_for_docs(start_server):
    curl = shutil.which("curl")
    if curl is None or subprocess.run([curl, "--json", "x", "--version"], check=False, capture_output=True).returncode:
        pytest.skip("the pages' commands need a curl that knows --json (7.82)")
    return start_server()


def test_the_examples_file_has_every_option_with_its_default():
    parser = configparser.ConfigParser(interpolation=None)

    parser.read(ROOT / "config.example.ini")

    shown = {(section, name): text for section in parser.sections() for name, text in parser.items(section)}
    assert shown == {(option.section, option.name): option.default for option in OPTIONS}


def test_the_readme_has_every_option_with_its_default():
    rows = re.findall(r"^\| `\[(\w+)\] (\w+)` \| `([^`]*)` \|", README.read_text(), re.MULTILINE)

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


@pytest.mark.parametrize(
    "page", [README, ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []
