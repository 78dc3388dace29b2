"""A real gunicorn in a process group of its own: killed as one, with a defence taken out, or with a shim beneath it."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from conftest import ROOT, Server, clean_environment, environment, free_port, stopped


class BrokenServer(Server):
    """As the README starts it, but for ``without``, defences that faults.broken takes out, and more ``variables``."""

    def __init__(self, database_path, *, port=None, without="", variables=(), **options):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        ours = environment(database_path, server__bind_port=self.port, **options)
        broken = {"WITHOUT": without, "PYTHONPATH": str(ROOT / "tests")} if without else {}
        # A pipe that nobody reads fills up, and then every line logged would hang its thread.
        self.printed = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the server lives
        self.process = subprocess.Popen(
            [
                Path(sys.executable).with_name("gunicorn"),
                "faults.broken:create_app()" if without else "registry:create_app()",
            ],
            cwd=ROOT,
            env={**clean_environment(), **ours, **broken, **dict(variables)},
            stdout=self.printed,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def kill(self):
        """kill -9 of every process at once."""
        if self.process.returncode is None:  # else the number may be another's by now
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=60)
        self.printed.close()

    def stop(self, with_signal=signal.SIGTERM):
        super().stop(with_signal)
        self.printed.seek(0)
        return self.printed.read()

    def worker_pids(self, number=2):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        deadline = time.monotonic() + 30
        while len(pids := [int(pid) for pid in children.read_text().split()]) != number:
            assert time.monotonic() < deadline, pids
            time.sleep(0.01)  # polling, with a deadline
        return pids

    def clients_of_both_workers(self, number):
        """So many kept connections, half of them at each worker: while the one is stopped, the other accepts."""
        clients = []
        first, second = self.worker_pids()
        for pid in (first, second):
            with stopped(pid):
                for _ in range(number // 2):
                    clients.append(Client(self.port))
                    assert clients[-1].request("GET", "/images?limit=0")[0] == 200
        return clients


class Client:
    """One kept connection; what breaks it is raised."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def request(self, method, path, body=None, headers=()):
        """(status, headers, parsed JSON or None)"""
        content = None if body is None else json.dumps(body)
        self.connection.request(method, path, content, {"Content-Type": "application/json", **dict(headers)})
        response = self.connection.getresponse()
        text = response.read()
        return response.status, response.headers, json.loads(text) if text else None

    def close(self):
        self.connection.close()
