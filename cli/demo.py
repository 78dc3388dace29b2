"""``demo``: fill a registry with thirty sample images, serve it and open its page."""

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
from cli.api_client import DELETED, KILLED, LIVE
from cli.client import open_client
from cli.demo_images import SAMPLES, make_body, make_id
from cli.progress import progress_bar
from cli.runtime import Failure, with_application
from formatting import format_count
from storage import engine

ROOT = Path(__file__).parent.parent
START_SECONDS = 30
DISPLAY_VARIABLES = ("DISPLAY", "WAYLAND_DISPLAY")


@click.command("demo")
@click.option(
    "--into", type=click.Path(dir_okay=False), metavar="FILE", help="Use this database instead of the configured one."
)
@click.option("--force", is_flag=True, help="Add to a database that has other images.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port; default: [server] bind_port, or a free port if that is in use."
)
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
@click.option("--no-serve", is_flag=True, help="Add the images, but do not serve them.")
@with_application
def show_demo(into, force, port, no_browser, no_serve):
    """Serve a registry with thirty sample images, and open its page.

    Ctrl-C stops it.

    The images go into the configured database if it is empty, or into FILE. Names, formats and sizes are like those
    of well-known cloud images; checksums and locations are invented.

    \b
    Example:
      $ flask --app registry demo --into demo.db --no-serve
    """
    if into is not None:
        use_database(into)
    with open_client(may_create=True) as client:
        add_samples(client, force)
    if not no_serve:
        serve_demo(port, no_browser)


def use_database(path):
    """Switch the application to another database file."""
    application = current_app._get_current_object()
    database = application.settings.database.at(path)
    application.settings = application.settings._replace(database=database)
    engine.open_database(database)


def add_samples(client, is_forced):
    """Create the samples that are missing.

    Raises: Failure if the registry has other images.
    """
    registry = engine.shown_name(current_app.settings.database)
    ours = {make_id(sample) for sample in SAMPLES}
    present = {image["id"] for image in client.every_image(LIVE, KILLED, DELETED)}
    if present - ours and not is_forced:
        held = f"{registry} already has {format_count(len(present - ours), 'image')}"
        raise Failure(f"{held}. Use --into FILE for a separate demo database, or --force to add to this one.")
    missing = [sample for sample in SAMPLES if make_id(sample) not in present]
    with progress_bar("demo", len(missing)) as show:
        for done, sample in enumerate(reversed(missing), 1):
            image = client.create(make_body(sample))
            for member, can_share in sample.members.items():
                client.put_member(image["id"], member, can_share)
            if sample.is_deleted:
                client.delete(image["id"])
            show(done, done)
    output.echo(f"{len(missing)} images added to {registry}, {len(ours) - len(missing)} already there.", err=True)


def serve_demo(port, is_without_browser):
    """Run gunicorn on the loopback interface until Ctrl-C, and open the page."""
    if port and find_free_port(port) != port:
        raise Failure(f"Port {port} is in use. Choose another with --port, or omit --port to get a free one.")
    port = port or find_free_port(current_app.settings.server.bind_port)
    page = "/ui" if any(rule.rule.startswith("/ui") for rule in current_app.url_map.iter_rules()) else "/images"
    url = f"http://127.0.0.1:{port}"
    # SIGTERM must end the server too, by the ``finally`` below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    command = [sys.executable, "-m", "gunicorn", "--log-level", "warning", "registry:create_app()"]
    with subprocess.Popen(command, cwd=ROOT, env=make_environment(port), stdout=subprocess.DEVNULL) as server:  # noqa: S603
        try:
            wait_until_ready(server, url)
            output.echo(f"The demo is running at {output.styled(url + page, bold=True)}  (press Ctrl-C to stop)")
            if not is_without_browser and has_browser():
                webbrowser.open(url + page)
            server.wait()
        except KeyboardInterrupt:
            pass
        finally:
            server.terminate()
    if server.returncode not in (0, -signal.SIGTERM, -signal.SIGINT):
        raise Failure(f"The demo server exited with code {server.returncode}.")


def make_environment(port):
    """Return the present settings, changed to serve this machine only, as admin."""
    file = os.environ.get("REGISTRY_CONFIG")
    return os.environ | {
        "REGISTRY_CONFIG": os.path.abspath(file) if file else "",
        "REGISTRY_AUTH_FLAVOR": "none",
        "REGISTRY_SERVER_BIND_HOST": "127.0.0.1",
        "REGISTRY_SERVER_CERTFILE": "",
        "REGISTRY_SERVER_KEYFILE": "",
        "REGISTRY_DATABASE_CONNECTION": current_app.settings.database.absolute.connection,
        "REGISTRY_SERVER_BIND_PORT": str(port),
    }


def find_free_port(wanted):
    """Return the wanted port if it is free, else another one. Raises: Failure."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise Failure("No TCP port of 127.0.0.1 is free.")


def wait_until_ready(server, url):
    """Wait until the server answers. Raises: Failure."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with open_client(url) as client:
                list(client.images(limit=0))
            return
        except Failure:
            time.sleep(0.05)
    raise Failure("The demo server did not start; its own messages say why.")


def has_browser():
    """Return whether there is a graphical browser.

    A text browser would take over this terminal.
    """
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in DISPLAY_VARIABLES)
