"""Load generator: one run of wrk, which sends the requests of a file in turn."""
# ruff: noqa: S603

import contextlib
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

SCRIPT = Path(__file__).with_name("wrk.lua")
# A signal that comes just before wrk sleeps is lost, so it is sent again; without any, wrk stops a minute later.
SPARE_SECONDS, SECONDS_TO_STOP = 60, 1
FEWEST_REQUESTS, MOST_SECONDS = 50, 10


class Load(NamedTuple):
    """Microseconds, but for ``rate``: requests a second. ``cpu`` is the server's, each request."""

    requests: int
    errors: int
    rate: float
    p50: float
    p99: float
    cpu: float


def require_wrk() -> None:
    if shutil.which("wrk") is None:
        raise SystemExit("The benchmark needs wrk: apt install wrk")


def write_requests(path: Path, asks, prefix="") -> Path:
    """``asks`` are (method, target, headers, body)."""
    lines = []
    for method, target, headers, body in asks:
        fields = [method, prefix + target, body, *(f"{name}: {value}" for name, value in headers.items())]
        lines.append("\t".join(fields) + "\n")
    path.write_text("".join(lines))
    return path


def start(server, requests: Path, seconds: float, connections: int) -> subprocess.Popen:
    wrk = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{int(seconds) + SPARE_SECONDS}s", "--timeout", "30s"]
    command = [shutil.which("wrk"), *wrk[1:], "-s", str(SCRIPT), server.url, "--", str(requests)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> Load:
    """Stop wrk and return its figures. Raises RuntimeError if it has none."""
    output, deadline = None, time.monotonic() + 2 * SPARE_SECONDS
    while output is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            output, _ = process.communicate(timeout=SECONDS_TO_STOP)
    if output is None:
        raise RuntimeError(f"wrk did not stop within {2 * SPARE_SECONDS} s")
    line = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
    if line is None and process.returncode == -signal.SIGINT:
        return Load(0, 0, 0.0, 0.0, 0.0, 0.0)  # on a busy machine the signal may come before wrk has begun
    if line is None:
        raise RuntimeError(f"wrk: {output}")
    requests, errors, microseconds, p50, p99 = map(float, line.split()[1:])
    return Load(int(requests), int(errors), requests / microseconds * 1e6, p50, p99, 0.0)


def run(server, requests: Path, seconds: float, connections: int) -> Load:
    """Run wrk, longer if few requests were answered. Raises RuntimeError."""
    before = server.cpu_seconds()
    with ended(start(server, requests, seconds, connections)) as process:
        time.sleep(seconds)
        load = finish(process)
    # wrk does not count the last request of each connection, which is served.
    cpu = (idle_cpu_seconds(server) - before) / (load.requests + connections) * 1e6
    if load.errors:
        raise RuntimeError(f"{load.errors} of {load.requests} answers of {requests.name} were errors")
    if load.requests < FEWEST_REQUESTS and seconds < MOST_SECONDS:
        return run(server, requests, seconds * 4, connections)
    if not load.requests:
        raise RuntimeError(f"{requests.name} had no answer in {seconds} s")
    return load._replace(cpu=cpu)


def idle_cpu_seconds(server) -> float:
    """Return the server's CPU time once it no longer grows."""
    before, deadline = server.cpu_seconds(), time.monotonic() + MOST_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.01)
        after = server.cpu_seconds()
        if after - before < 0.001:
            break
        before = after
    return after


@contextlib.contextmanager
def ended(process):
    """Kill the process unless it has ended."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
