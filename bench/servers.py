"""Measured servers: gunicorn with our application or the floor, in the same settings."""
# ruff: noqa: S310, S603

import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from gunicorn.config import KNOWN_SETTINGS

ROOT = Path(__file__).parent.parent
CONNECTIONS = 16
OURS, FLOOR = "registry:create_app()", "bench.floor:create_app()"


class Server:
    """Running gunicorn; as a context manager it is stopped at the end, by its pid."""

    def __init__(self, application, folder: Path, variables: dict, arguments=(), connections=CONNECTIONS):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"server-{self.port}.log"
        gunicorn = [Path(sys.executable).with_name("gunicorn"), application, *arguments]
        if application == FLOOR:
            gunicorn += ["--config", write_settings(folder)]
        gunicorn += ["--bind", f"127.0.0.1:{self.port}", "--worker-connections", str(share(connections))]
        self.started = time.perf_counter()
        with self.log.open("wb") as log:
            options = {"cwd": ROOT, "stdout": log, "stderr": log, "start_new_session": True}
            self.process = subprocess.Popen(gunicorn, env=environment(variables), **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def wait(self, target="/images?limit=1", seconds=60) -> "Server":
        """Wait for an answer, and set ``start_seconds``. Raises RuntimeError with its log."""
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline and self.process.poll() is None:
            try:
                self.fetch(target)
            except OSError:
                time.sleep(0.005)
            else:
                self.start_seconds = time.perf_counter() - self.started
                return self
        raise RuntimeError(f"A server did not answer: {self.log.read_text()}")

    def fetch(self, target, headers=(), method="GET", body=None, seconds=60):
        """Return (status, headers, body) of a request."""
        request = urllib.request.Request(self.url + target, body, dict(headers), method=method)
        try:
            response = urllib.request.urlopen(request, timeout=seconds)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            return response.status, response.headers, response.read()

    def ask(self, ask):
        return self.fetch(ask.target, ask.headers)

    def workers(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def cpu_seconds(self) -> float:
        """Return the CPU time of master and workers, with nanosecond resolution."""
        return sum(time.clock_gettime_ns(~pid << 3 | 2) for pid in (self.process.pid, *self.workers())) / 1e9

    def worker_mebibytes(self) -> float:
        """Return the resident memory of the largest worker."""
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in self.workers()]
        return max(int(text.partition("VmRSS:")[2].split()[0]) for text in statuses) / 1024

    def stop(self):
        """Stop gunicorn's master, which stops its workers."""
        if self.process.poll() is not None:
            return
        pids = self.workers()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            for pid in (self.process.pid, *pids):
                os.kill(pid, signal.SIGKILL)
            self.process.wait()


def serve(database: Path, folder: Path, flavor="none", connections=CONNECTIONS) -> Server:
    """Return our server on a database file."""
    variables = {"REGISTRY_DATABASE_CONNECTION": f"sqlite:///{database}", "REGISTRY_AUTH_FLAVOR": flavor}
    return Server(OURS, folder, variables, connections=connections)


def settings() -> dict:
    """Return the settings of gunicorn.conf.py."""
    return runpy.run_path(str(ROOT / "gunicorn.conf.py"))


def share(connections: int) -> int:
    """Return the connections of one worker, so that gunicorn keeps its share alive.

    gunicorn keeps alive as many connections as this, minus its threads, and closes others.
    """
    return connections // settings()["workers"] + settings()["threads"]


def write_settings(folder: Path) -> Path:
    """Write gunicorn.conf.py without its hooks and address; return its path."""
    path = folder / "floor.conf.py"
    known = {setting.name for setting in KNOWN_SETTINGS} - {"bind"}
    ours = {name: value for name, value in settings().items() if name in known and not callable(value)}
    path.write_text("".join(f"{name} = {value!r}\n" for name, value in ours.items()))
    return path


def environment(variables: dict) -> dict[str, str]:
    """Return the environment without variables that change the measured settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "GUNICORN_"))}
    return inherited | variables | {"PYTHONPATH": str(ROOT)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
