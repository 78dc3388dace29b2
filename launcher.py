"""``./registry``: the commands from any folder, on the database that ``make run`` serves."""

import os
from pathlib import Path

import click
from flask.cli import FlaskGroup

from config import environment_texts, file_texts, read_settings
from registry import create_app
from version import VERSION

ROOT = Path(__file__).parent


def launch():
    group = FlaskGroup(
        name="registry",
        create_app=lambda: create_app(launcher_settings(os.environ)),
        # What lies in the folder where somebody happens to be is not for us.
        load_dotenv=False,
        help="The image registry: which images there are, and all that is known of them.",
        epilog=f"Without --url a command works on this machine's database. {ROOT / 'docs' / 'commands.md'} says more.",
    )
    version = click.version_option(VERSION, prog_name="registry", message="%(prog)s %(version)s")
    group.params = [version(click.Command("registry")).params[0]]  # in place of Flask's own
    group.main(prog_name="registry")


def launcher_settings(environment):
    """The settings; the database is the one in the project's folder where nobody names another. Raises StartupError."""
    settings = read_settings(environment)
    given = {**file_texts(environment.get("REGISTRY_CONFIG")), **environment_texts(environment)}
    if ("database", "connection") in given:
        return settings
    return settings._replace(database=settings.database._replace(connection=f"sqlite:///{ROOT / 'registry.db'}"))
