"""``./registry`` as people run it: in a folder of theirs, on a terminal or off it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from contextlib import suppress

from conftest import ROOT, clean_environment

from support.commands import run_launcher

LAUNCHER = ROOT / "registry"
OURS = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Folder:
    """Somebody's folder, with a database of its own."""

    def __init__(self, path, launcher=LAUNCHER, database="sqlite:///mine.db"):
        self.path = path
        self.launcher = launcher
        self.variables = {name: text for name, text in clean_environment().items() if name not in OURS}
        self.variables |= {"REGISTRY_DATABASE_CONNECTION": database} if database else {}

    def run(self, *arguments, content=None, **variables):
        """(exit code, output, errors)"""
        if self.launcher != LAUNCHER:
            return self.run_file(*arguments, content=content, **variables)
        options = {"folder": self.path, "variables": self.variables | variables, "content": (content or "").encode()}
        code, output, errors = run_launcher(*arguments, **options)
        return code, output.decode(), errors.decode()

    def run_file(self, *arguments, content=None, **variables):
        """Return the same of the file ``./registry`` itself, with a start of Python."""
        done = subprocess.run(
            [self.launcher, *map(str, arguments)],
            check=False,
            cwd=self.path,
            env=self.variables | variables,
            input=content,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout, done.stderr

    def get(self, *arguments, **variables):
        """The output of what must succeed."""
        code, output, errors = self.run(*arguments, **variables)
        assert code == 0, errors
        return output

    def shown(self, *arguments, columns=100, typed="", **variables):
        """(exit code, all that appears on a terminal so wide), of somebody who types ``typed``."""
        child, handle = pty.fork()
        if child == 0:
            with suppress(BaseException):
                fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
                os.chdir(self.path)
                variables = {**self.variables, "TERM": "xterm-256color", **variables}
                os.execve(self.launcher, [str(self.launcher), *map(str, arguments)], variables)
            os._exit(127)
        os.write(handle, typed.encode())
        shown = b""
        with suppress(OSError):  # the terminal's other end is gone
            while read := os.read(handle, 65536):
                shown += read
        os.close(handle)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), shown.decode().replace("\r\n", "\n")


def plain(text):
    return COLOUR.sub("", text)
