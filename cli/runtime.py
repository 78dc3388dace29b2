"""What every command runs in: the application, a database that is there, an output that takes it, and exit codes."""

import functools
import io
import os
import sys
from contextlib import contextmanager

import click
from flask.cli import with_appcontext

import migrations
from errors import RegistryError, StartupError

FAILED, USAGE, NOT_FOUND, NO_ACCESS, UNREACHABLE = 1, 2, 3, 4, 5
EXIT_CODES = {400: USAGE, 401: NO_ACCESS, 403: NO_ACCESS, 404: NOT_FOUND, 503: UNREACHABLE, 507: UNREACHABLE}
LAUNCHER, WITH_FLASK = "registry", "flask --app registry"


class Failure(click.ClickException):
    """What went wrong, in one line, and the exit code that docs/commands.md gives for it."""

    def __init__(self, message, exit_code=FAILED):
        super().__init__(message)
        self.exit_code = exit_code


def program():
    """How whoever runs this command has called it, for what is to be typed next."""
    context = click.get_current_context(silent=True)
    return LAUNCHER if context and context.find_root().info_name == LAUNCHER else WITH_FLASK


def with_application(command):
    """Run it in the application's context; what it cannot use is told in one line."""

    @with_appcontext
    @functools.wraps(command)
    def run(*arguments, **options):
        with told_output(), told():
            return command(*arguments, **options)

    return run


@contextmanager
def told():
    """Raises Failure for what the configuration or the database refuses."""
    try:
        yield
    except StartupError as error:
        raise Failure(str(error).removeprefix("registry: "), UNREACHABLE) from None
    except RegistryError as error:
        raise Failure(error.detail, EXIT_CODES.get(error.status, FAILED)) from None


class Output(io.TextIOWrapper):
    """Standard output that says once, as a Failure, that it takes no more; whoever reads no further is no failure.

    A text, not a file beneath the buffer: an interrupt within that one's ``write`` would have the buffer write twice.
    """

    is_broken = False

    def write(self, text):
        return self.attempt(super().write, text)

    def flush(self):
        self.attempt(super().flush)

    def attempt(self, act, *text):
        try:
            return sum(map(len, text)) if self.is_broken else act(*text)
        except BrokenPipeError:
            raise  # click ends quietly
        except OSError as error:
            self.is_broken = True
            raise Failure(f"standard output: {error.strerror}.") from None


@contextmanager
def told_output():
    """Raises Failure where standard output is closed, or takes no more."""
    if sys.stdout is None:
        raise Failure("standard output: is closed.")
    # Else it is ours already, or of who calls us in process.
    if type(sys.stdout) is io.TextIOWrapper and type(getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)) is io.FileIO:
        names = ("encoding", "errors", "line_buffering", "write_through")
        target = io.BufferedWriter(io.FileIO(sys.stdout.fileno(), "w", closefd=False))
        sys.stdout = Output(target, **{name: getattr(sys.stdout, name) for name in names})
    try:
        yield
    finally:
        sys.stdout.flush()


def prepare(settings, *, may_create=False, is_brief=False):
    """The database, of this version. Raises Failure, StartupError."""
    if not may_create:
        require_database(settings)
        require_writable(settings)
    migrations.prepare(settings, is_brief=is_brief)


def require_writable(settings):
    """SQLite's log is written by readers too. Raises Failure."""
    path = os.path.abspath(settings.path)
    if os.path.isfile(path) and not (os.access(path, os.W_OK) and os.access(os.path.dirname(path), os.W_OK)):
        hint = f"ask its server (--url), or copy it: {program()} backup FILE"
        raise Failure(f"{settings.path} or its folder cannot be written, which reading it needs: {hint}.", UNREACHABLE)


def require_database(settings):
    """Only who puts something in makes one: else a mistyped path would be an empty registry. Raises Failure."""
    if not os.path.exists(settings.path):
        hint = f"make run, or {program()} create or scan, makes one; REGISTRY_DATABASE_CONNECTION names another"
        raise Failure(f"no database at {settings.path}: {hint}.", UNREACHABLE)
