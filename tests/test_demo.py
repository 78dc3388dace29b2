"""``demo``: what it puts in, where it refuses, and that it serves until it is stopped."""

import json
import os
import select
import signal
import socket
import subprocess
import urllib.request
from contextlib import contextmanager

import pytest
from conftest import free_port

from cli.demo import find_free_port
from cli.demo_images import SAMPLES, make_id


def test_thirty_images_are_put_in_once(folder):
    expected = f"30 images added to {folder.path}/demo.db, 0 already there.\n"
    assert folder.run("demo", "--into", "demo.db", "--no-serve") == (0, "", expected)
    assert folder.run("demo", "--into", "demo.db", "--no-serve")[2].startswith("0 images added to ")

    there = {"REGISTRY_DATABASE_CONNECTION": "sqlite:///demo.db"}
    listed = [
        json.loads(folder.get("list", "--json", *more, **there)) for more in ([], ["--status", "killed"], ["--deleted"])
    ]
    images = [image for part in listed for image in part]
    assert len({image["name"] for image in images}) == len({image["id"] for image in images}) == len(SAMPLES) == 30
    assert [len(part) for part in listed] == [26, 1, 3]
    assert {image["id"] for image in images} == {make_id(sample) for sample in SAMPLES}
    assert all({"os_distro", "os_version", "architecture"} <= image["properties"].keys() for image in images)
    assert len({image["checksum"] for image in images if image["checksum"]}) == 29
    assert "member\tresearch\ttrue" in folder.get("show", "golden-base", **there).splitlines()
    assert folder.run("check", **there)[0] == 0
    assert not (folder.path / "mine.db").exists()


@pytest.mark.exhaustive
def test_a_registry_that_has_images_is_left_alone_unless_forced(folder):
    folder.get("create", "mine", "--disk-format", "raw", "--status", "killed")

    code, output, errors = folder.run("demo", "--no-serve")
    assert (code, output) == (1, "")
    remedy = "Use --into FILE for a separate demo database, or --force to add to this one."
    assert errors == f"Error: mine.db already has 1 image. {remedy}\n"
    assert folder.get("list", "-q") == ""
    assert folder.run("demo", "--no-serve", "--force")[0] == 0
    assert len(folder.get("list", "-q").split()) == 26
    assert folder.get("show", "mine", "-q")


@contextmanager
def demo(folder, *arguments, **variables):
    """A demo that runs: (the process, what it says first)."""
    command = [folder.launcher, "demo", "--into", "demo.db", *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, cwd=folder.path, env=folder.variables | variables, **options) as process:
        try:
            yield process, process.stdout.readline()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.exhaustive
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_the_images_until_it_is_stopped(folder, ending):
    port = free_port()
    with demo(folder, "--port", str(port), "--no-browser", REGISTRY_AUTH_FLAVOR="token") as (process, line):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/images", timeout=30) as answer:
            images = json.load(answer)["images"]
        # Ctrl-C reaches the whole group; who stops a process by its id means its server too.
        os.killpg(process.pid, ending) if ending == signal.SIGINT else process.send_signal(ending)
        _, errors = process.communicate(timeout=60)

    assert line.startswith(f"The demo is running at http://127.0.0.1:{port}/")
    assert len(images) == 22
    assert process.returncode == 0
    assert errors.splitlines() == [f"30 images added to {folder.path}/demo.db, 0 already there."]
    assert folder.run("list", "--url", f"http://127.0.0.1:{port}")[0] == 5


@pytest.mark.exhaustive
def test_it_opens_the_page_in_a_browser_where_there_is_a_screen(folder):
    browser, opened = folder.path / "browser", folder.path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o700)
    os.mkfifo(opened)

    with demo(folder, DISPLAY=":0", BROWSER=f"{browser} %s") as (process, line):
        with open(os.open(opened, os.O_RDONLY | os.O_NONBLOCK)) as pages:
            assert select.select([pages], [], [], 60)[0]
            page = pages.read().strip()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)

    assert page.startswith("http://127.0.0.1:")
    assert page in line


def test_a_port_that_is_taken_is_not_chosen():
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        assert find_free_port(taken) not in (taken, 0)
    assert find_free_port(taken) == taken
