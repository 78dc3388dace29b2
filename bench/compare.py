"""CPU time per request of two checkouts: ``python -m bench.compare OLD NEW``.

CPU time of the worker process is used instead of wall time, so that other work on the machine matters less.
"""

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

IMAGES = 200
KINDS = {
    "health": "/healthcheck",
    "list": "/images?limit=25",
    "list by name": "/images?name=image-7",
    "detail": "/images/detail?limit=25",
    "show": "/images/{id}",
    "not found": "/images/00000000-0000-4000-8000-000000000000",
}
TICKS = os.sysconf("SC_CLK_TCK")


def main():
    """Print the medians of both checkouts and their ratio for each kind of request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=1500)
    options = parser.parse_args()
    found = {(root, kind): [] for root in (options.old, options.new) for kind in KINDS}
    with serve(options.old) as old, serve(options.new) as new:
        for _ in range(options.rounds):
            for kind in KINDS:
                for root, server in ((options.old, old), (options.new, new)):
                    found[root, kind].append(measure(server, kind, options.requests))
    sys.stdout.write(f"{'kind':<14} {'old µs':>8} {'new µs':>8} {'ratio':>6}\n")
    for kind in KINDS:
        before, after = (statistics.median(found[root, kind]) for root in (options.old, options.new))
        sys.stdout.write(f"{kind:<14} {before:8.0f} {after:8.0f} {after / before:6.2f}\n")


@contextmanager
def serve(root):
    """Serve a checkout with one worker and a new database of ``IMAGES`` images.

    Yields: (port, worker's process id, id of an image).
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"REGISTRY_SERVER_BIND_PORT": str(port), "REGISTRY_SERVER_WORKERS": "1"}
        settings["REGISTRY_DATABASE_CONNECTION"] = f"sqlite:///{folder}/registry.db"
        settings["REGISTRY_LOG_REQUESTS"] = "false"
        command = [Path(sys.executable).with_name("gunicorn"), "registry:create_app()"]
        options = {
            "cwd": root,
            "env": os.environ | settings,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        process = subprocess.Popen(command, **options)  # noqa: S603 (our own gunicorn)
        try:
            yield port, *fill(port, process)
        finally:
            process.terminate()
            process.wait(30)


def fill(port, process):
    """Register the images and return (worker's process id, an image's id)."""
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            for number in range(IMAGES):
                image = {
                    "name": f"image-{number}",
                    "status": "active",
                    "disk_format": "qcow2",
                    "container_format": "bare",
                }
                body = json.dumps({"image": {**image, "properties": {"os_distro": "debian"}}})
                connection.request("POST", "/images", body, {"Content-Type": "application/json"})
                record = json.load(connection.getresponse())["image"]
            break
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(worker), record["id"]


def measure(server, kind, requests):
    """Return the worker's CPU time per request in microseconds."""
    port, worker, image_id = server
    path = KINDS[kind].format(id=image_id)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    before = cpu_ticks(worker)
    for _ in range(requests):
        connection.request("GET", path)
        connection.getresponse().read()
    return (cpu_ticks(worker) - before) / TICKS / requests * 1e6


def cpu_ticks(process_id):
    """Return the CPU time of a process in clock ticks (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


if __name__ == "__main__":
    main()
