"""Runtime of commands: application context, database checks, standard output, exit codes."""

import functools
import io
import sys
from contextlib import contextmanager

import click
from flask.cli import with_appcontext

from errors import RegistryError, StartupError

FAILED, USAGE, NOT_FOUND, NO_ACCESS, UNREACHABLE = 1, 2, 3, 4, 5
EXIT_CODES = {400: USAGE, 401: NO_ACCESS, 403: NO_ACCESS, 404: NOT_FOUND, 503: UNREACHABLE, 507: UNREACHABLE}
LAUNCHER, WITH_FLASK = "registry", "flask --app registry"


class Failure(click.ClickException):
    """Command failure: one line of text, and an exit code listed in docs/commands.md."""

    def __init__(self, message, exit_code=FAILED):
        super().__init__(message)
        self.exit_code = exit_code


def program():
    """Return the program name that the user typed, for commands in hints."""
    context = click.get_current_context(silent=True)
    return LAUNCHER if context and context.find_root().info_name == LAUNCHER else WITH_FLASK


def with_application(command):
    """Run a command in the application context and report errors in one line."""

    @with_appcontext
    @functools.wraps(command)
    def run(*arguments, **options):
        with told_output(), told():
            return command(*arguments, **options)

    return run


@contextmanager
def told():
    """Translate StartupError and RegistryError to Failure."""
    try:
        yield
    except StartupError as error:
        raise Failure(str(error).removeprefix("registry: "), UNREACHABLE) from None
    except RegistryError as error:
        raise Failure(error.detail, EXIT_CODES.get(error.status, FAILED)) from None


class Output(io.TextIOWrapper):
    """Standard output that raises one Failure if a write fails; a closed pipe is no failure.

    A text layer, not a raw file: an interrupt in a raw ``write`` would make the buffer write twice.
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
            raise Failure(f"Cannot write to standard output: {error.strerror}.") from None


@contextmanager
def told_output():
    """Raise Failure if standard output is closed or a write to it fails."""
    if sys.stdout is None:
        raise Failure("Standard output is closed; redirect it to a file or a pipe.")
    # Any other stream is already an Output, or belongs to a caller in the same process.
    if type(sys.stdout) is io.TextIOWrapper and type(getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)) is io.FileIO:
        names = ("encoding", "errors", "line_buffering", "write_through")
        target = io.BufferedWriter(io.FileIO(sys.stdout.fileno(), "w", closefd=False))
        sys.stdout = Output(target, **{name: getattr(sys.stdout, name) for name in names})
    try:
        yield
    finally:
        sys.stdout.flush()


def prepare(settings, *, may_create=False, is_brief=False):
    """Check the database and migrate it to this version.

    Raises: Failure, StartupError.
    """
    import migrations  # with the database engine: the help and the version need neither

    if not may_create:
        require_database(settings)
        require_writable(settings)
    migrations.prepare(settings, is_brief=is_brief)


def require_writable(settings):
    """Raise Failure if the database is read-only."""
    from storage import engine

    if not engine.is_writable(settings):
        problem = f"Cannot write to {engine.shown_name(settings)} or its folder, which reading the database needs"
        raise Failure(f"{problem}. Use its server (--url), or copy it: {program()} backup FILE", UNREACHABLE)


def require_database(settings):
    """Raise Failure if there is no database.

    A mistyped name must not become an empty registry.
    """
    from storage import engine

    if not engine.exists(settings):
        create = f"Create one with make run, {program()} create or {program()} scan"
        other = "or name another in REGISTRY_DATABASE_CONNECTION"
        raise Failure(f"There is no database at {engine.shown_name(settings)}. {create}, {other}.", UNREACHABLE)
