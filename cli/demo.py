"""``demo``: a registry with thirty images, served, and its page opened."""

import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

import click
from flask import current_app

from cli import output
from cli.client import open_client
from cli.demo_images import SAMPLES, id_of, values_of
from cli.progress import progress_bar
from cli.runtime import Failure, with_application
from storage.engine import open_database

ROOT = Path(__file__).parent.parent
START_SECONDS = 30
BEHIND_A_SCREEN = ("DISPLAY", "WAYLAND_DISPLAY")


@click.command("demo")
@click.option("--into", type=click.Path(dir_okay=False), metavar="FILE", help="A database of its own for it.")
@click.option("--force", is_flag=True, help="Also beside images that are there.")
@click.option("--port", type=click.IntRange(1, 65535), help="Without it, [server] bind_port, or a free one.")
@click.option("--no-browser", is_flag=True, help="Open no page.")
@click.option("--no-serve", is_flag=True, help="Only put the images in.")
@with_application
def show_demo(into, force, port, no_browser, no_serve):
    """Fill an empty registry with thirty images like real ones, serve it, and open its page. Ctrl-C ends.

    It goes into the configured database if that is empty, or into FILE. Names, formats and sizes are like those of
    well-known cloud images; checksums and locations are made up.

    \b
    Example:
      $ flask --app registry demo --into demo.db --no-serve
    """
    if into is not None:
        use_database(into)
    with open_client(may_create=True) as client:
        fill(client, force)
    if not no_serve:
        serve(port, no_browser)


def use_database(path):
    application = current_app._get_current_object()
    database = application.settings.database._replace(connection=f"sqlite:///{os.path.abspath(path)}")
    application.settings = application.settings._replace(database=database)
    open_database(database)


def fill(client, is_forced):
    """Put in what is missing. Raises Failure where other images are there."""
    path = current_app.settings.database.path
    ours = {id_of(sample) for sample in SAMPLES}
    present = {
        image["id"] for query in ({}, {"status": "killed"}, {"deleted": True}) for image in client.images(**query)
    }
    if present - ours and not is_forced:
        count = len(present - ours)
        held, them = (f"{count} image", "it") if count == 1 else (f"{count:,} images", "them")
        raise Failure(f"{path} holds {held} already: --into FILE makes a demo of its own, --force adds to {them}.")
    missing = [sample for sample in SAMPLES if id_of(sample) not in present]
    with progress_bar("demo", len(missing)) as show:
        for done, sample in enumerate(reversed(missing), 1):
            image = client.create(values_of(sample))
            for member, can_share in sample.members.items():
                client.put_member(image["id"], member, can_share)
            if sample.is_deleted:
                client.delete(image["id"])
            show(done, done)
    output.echo(f"{len(missing)} images are new in {path}, {len(ours) - len(missing)} were there.", err=True)


def serve(port, is_without_browser):
    """gunicorn, until Ctrl-C; whoever it is for is on this machine."""
    if port and free_port(port) != port:
        raise Failure(f"Port {port} is in use: name another, or none, and a free one is taken.")
    port = port or free_port(current_app.settings.server.bind_port)
    page = "/ui" if any(rule.rule.startswith("/ui") for rule in current_app.url_map.iter_rules()) else "/images"
    url = f"http://127.0.0.1:{port}"
    # Whoever asks us to end means the server too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    command = [sys.executable, "-m", "gunicorn", "--log-level", "warning", "registry:create_app()"]
    with subprocess.Popen(command, cwd=ROOT, env=variables_for(port), stdout=subprocess.DEVNULL) as server:  # noqa: S603
        try:
            wait_until_ready(server, url)
            output.echo(f"The demo is at {output.styled(url + page, bold=True)}  (Ctrl-C ends it)")
            if not is_without_browser and can_open_pages():
                webbrowser.open(url + page)
            server.wait()
        except KeyboardInterrupt:
            pass
        finally:
            server.terminate()
    if server.returncode not in (0, -signal.SIGTERM, -signal.SIGINT):
        raise Failure(f"The server ended with code {server.returncode}.")


def variables_for(port):
    """This registry's settings, but for who may come in: all who are on this machine, and nobody else."""
    file = os.environ.get("REGISTRY_CONFIG")
    return os.environ | {
        "REGISTRY_CONFIG": os.path.abspath(file) if file else "",
        "REGISTRY_AUTH_FLAVOR": "none",
        "REGISTRY_SERVER_BIND_HOST": "127.0.0.1",
        "REGISTRY_SERVER_CERTFILE": "",
        "REGISTRY_SERVER_KEYFILE": "",
        "REGISTRY_DATABASE_CONNECTION": f"sqlite:///{os.path.abspath(current_app.settings.database.path)}",
        "REGISTRY_SERVER_BIND_PORT": str(port),
    }


def free_port(wanted):
    """The wanted one, or another where somebody has it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise Failure("No port of this machine is free.")


def wait_until_ready(server, url):
    """Raises Failure where it does not come up: it has said why."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with open_client(url) as client:
                list(client.images(limit=0))
            return
        except Failure:
            time.sleep(0.05)
    raise Failure("The demo's server did not start.")


def can_open_pages():
    """Not a text browser in this terminal."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in BEHIND_A_SCREEN)
