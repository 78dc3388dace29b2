"""``./registry`` launcher: the commands from any folder, on the database that ``make run`` serves."""

import os
from pathlib import Path

import click
from flask.cli import FlaskGroup, run_command

from cli import CommandGroup
from cli.runtime import LAUNCHER, WITH_FLASK, told_output
from config import VERSION, given_texts, read_settings

ROOT = Path(__file__).parent.parent
HELP = f"""Manage the records of an image registry.

\b
Example:
  $ {LAUNCHER} list
  $ {LAUNCHER} list --help
"""


class Launcher(CommandGroup, FlaskGroup):
    """Command group of ``./registry``: the registry's commands, and Flask's ``run``."""

    def make_context(self, *arguments, **options):
        with told_output():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx):
        with told_output():
            return super().invoke(ctx)

    def get_command(self, ctx, name):
        command = super().get_command(ctx, name)
        return command and as_launched(command)

    def resolve_command(self, ctx, args):
        if args[:1] == ["help"]:
            command = " ".join(args[1:2]) or "COMMAND"
            raise click.UsageError(f"No such command 'help'. Did you mean {LAUNCHER} {command} --help?", ctx)
        return super().resolve_command(ctx, args)


def as_launched(command):
    """Return the command with ``registry`` as program name in its help."""
    command.help = command.help and command.help.replace(WITH_FLASK, LAUNCHER)
    if isinstance(command, click.Group):
        for below in command.commands.values():
            as_launched(below)
    return command


def launch():
    """Run the command line."""
    group = Launcher(
        name=LAUNCHER,
        add_default_commands=False,
        create_app=create_launched_app,
        # A .env file in the current folder belongs to another project.
        load_dotenv=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help=HELP,
        epilog=f"Without --url, a command uses the local database. Reference: {ROOT / 'docs' / 'commands.md'}",
    )
    group.add_command(run_command)
    version = click.version_option(VERSION, prog_name=LAUNCHER, message="%(prog)s %(version)s")
    group.params = [version(click.Command(LAUNCHER)).params[0]]  # replaces Flask's --version
    group.main(prog_name=LAUNCHER)


def create_launched_app():
    """Return the application, which commands import when they need it."""
    from registry import create_app

    return create_app(read=lambda: launcher_settings(os.environ))


def launcher_settings(environment):
    """Return the settings; by default ``registry.db`` lies in the project's folder.

    Raises: StartupError.
    """
    settings = read_settings(environment)
    if ("database", "connection") in given_texts(environment):
        return settings
    return settings._replace(database=settings.database.at(str(ROOT / "registry.db")))
