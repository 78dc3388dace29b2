"""Commands run in processes forked from one that has imported the product.

Each command has a process of its own, with its own folder, variables and standard streams, but no start of Python and
no imports, which take ten times as long as most commands. Tests of the start itself run the real files instead.
"""

import json
import os
import select
import subprocess
import sys
import threading
import time
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

ROOT = Path(__file__).parent.parent.parent
IMPORTED = ("flask.cli", "cli.launcher", "cli", "cli.progress", "cli.output")
STREAMS = ("input", "output", "errors")
ASKING = threading.Lock()


def run_flask(*arguments, **options):
    """Run ``flask --app registry``: see run_forked."""
    return run_forked("flask.cli", "main", ["flask", "--app", "registry", *arguments], **options)


def run_launcher(*arguments, **options):
    """Run ``./registry``: see run_forked."""
    return run_forked("cli.launcher", "launch", ["registry", *arguments], **options)


def run_forked(module, function, arguments, *, folder, variables, content=b"", seconds=120):
    """Run a function of a module in a process of its own, as the command ``arguments``.

    Returns: (exit code, output, errors), the latter two in bytes.
    Raises: TimeoutError.
    """
    with TemporaryDirectory() as streams:
        paths = [Path(streams, name) for name in STREAMS]
        for path in paths:
            path.write_bytes(content if path.name == "input" else b"")
        status = Path(streams, "status")
        os.mkfifo(status)
        reader = os.open(status, os.O_RDONLY | os.O_NONBLOCK)
        try:
            request = [module, function, [*map(str, arguments)], str(folder), dict(variables), streams]
            with ASKING:
                forks().stdin.write(json.dumps(request) + "\n")
                forks().stdin.flush()
            if not select.select([reader], [], [], seconds)[0]:
                raise TimeoutError(f"{arguments} took longer than {seconds} s")
            return int(os.read(reader, 10)), paths[1].read_bytes(), paths[2].read_bytes()
        finally:
            os.close(reader)


@cache
def forks():
    """Return the process that the commands are forked from; it ends when this one does."""
    return subprocess.Popen([sys.executable, __file__], cwd=ROOT, stdin=subprocess.PIPE, text=True)


def serve():
    """Fork a process for each request, which forks the command and passes on its exit code."""
    sys.path[0] = str(ROOT)
    for name in IMPORTED:
        import_module(name)
    for line in iter(sys.stdin.readline, ""):
        module, function, arguments, folder, variables, streams = json.loads(line)
        if os.fork():
            reap()
        elif command := os.fork():
            _, status = os.waitpid(command, 0)
            Path(streams, "status").write_text(str(os.waitstatus_to_exitcode(status)))
            os._exit(0)
        else:
            become(arguments, folder, variables, streams)
            getattr(import_module(module), function)()
            sys.exit()


def reap():
    """Collect the processes that have passed on their exit code."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                return
        except ChildProcessError:
            return


def become(arguments, folder, variables, streams):
    """Make this process look to the command as if Python had just started."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    for number, name in enumerate(STREAMS):
        file = os.open(Path(streams, name), os.O_RDWR)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115, they stay open
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = arguments
    sys.modules["__main__"] = ModuleType("__main__")  # click takes the name of the program from it


if __name__ == "__main__":
    serve()
