"""Recording of exchanges with real servers of a checkout, without values that are random by nature."""

import base64
import hashlib
import json
import os
import re
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from replay_requests import Answer, Sequence
from replay_values import ORIGIN

LONGEST_BODY = 64 * 1024  # longer ones are recorded as their SHA-256
TENANTS = ("acme", "beta", "gamma")
CORS = {"SERVER_ALLOWED_ORIGINS": ORIGIN}
QUOTAS = {"IMAGE_PROPERTY_QUOTA": 6, "IMAGE_MEMBER_QUOTA": 3, "IMAGE_LOCATION_QUOTA": 2, "USER_IMAGE_QUOTA": 40}
PROXY = {"STRICT_CREATE": "false", "EXPOSE_LOCATIONS": "all", "IMAGE_HISTORY_LIMIT": 3, "LIMIT_PARAM_DEFAULT": 5}
API = {f"API_{name}": value for name, value in (QUOTAS | PROXY).items()}
# flavor → (how many requests, options)
SERVERS = {
    "none": (700, {}),
    "token": (650, CORS),
    "trusted-auth": (650, CORS | API | {"AUTH_ALLOW_ANONYMOUS_ACCESS": "true"}),
}
# Tokens by caller: the options of the command that makes them.
TOKENS = {
    "admin": ["--role", "admin"],
    **{tenant: ["--role", "member", "--tenant", tenant] for tenant in TENANTS},
    "reader": ["--role", "member", "--tenant", "acme", "--read-only"],
    "tenantless": ["--role", "member"],
}
ANONYMOUS = {"anonymous": []}
POSITION = re.compile(r"position=([\w-]+)")
# Ids that a server chooses are of version 4, those of the requests are not.
SERVER_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
RANDOM = re.compile(
    rf"(?P<request>req-{SERVER_UUID})|(?P<id>{SERVER_UUID})|(?P<token>registry_[\w-]{{43}})"
    r"|(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6})|(?<=\d-)(?P<nonce>[0-9a-f]{16})\b"
)


class Scrubber:
    """Placeholders for random values: one value has one, numbered in the order of appearance."""

    def __init__(self):
        self.began = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        self.known = {}

    def scrub(self, text):
        """Return the text with a placeholder for each random value."""
        return RANDOM.sub(self.placeholder, POSITION.sub(self.readable_position, text))

    def placeholder(self, match):
        """Return ``<id 1>`` or the like, and times of another day as they are."""
        kind, value = match.lastgroup, match[match.lastgroup]
        if kind == "time" and (value < self.began or value > "2098"):
            return value
        if kind == "request":
            return "<request id>"
        same_kind = self.known.setdefault(kind, {})
        return f"<{kind} {same_kind.setdefault(value, len(same_kind) + 1)}>"

    def readable_position(self, match):
        """Return the parameter with the JSON within it."""
        with suppress(ValueError):
            return f"position=<{base64.urlsafe_b64decode(match[1] + '==').decode()}>"
        return match[0]


class Connection:
    """A keep-alive connection that sends and receives bytes as they are."""

    def __init__(self, port):
        self.port = port
        self.stream = None

    def exchange(self, request, headers):
        """Send a Request, and return the Answer; 1xx answers are skipped."""
        if self.stream is None:
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as opened:
                self.stream = opened.makefile("rwb")
        with suppress(BrokenPipeError, ConnectionResetError):  # a refusal may come before the end of a long body
            self.stream.write(head_of(request, headers) + (request.body or b""))
            self.stream.flush()
        answer = self.read_answer(request.method)
        if answer.header("Connection") == "close":
            self.close()
        return answer

    def read_answer(self, method):
        """Read one response; without a length it ends with the connection."""
        status = int(self.stream.readline().split()[1])
        lines = iter(lambda: self.stream.readline().decode("latin-1").rstrip("\r\n"), "")
        answer = Answer(status, [tuple(line.split(": ", 1)) if ": " in line else (line, "") for line in lines], b"")
        if status < 200:
            return self.read_answer(method)
        if method == "HEAD" or status in (204, 304):
            return answer
        if answer.header("Transfer-Encoding") == "chunked":
            return answer._replace(body=b"".join(self.read_chunks()))
        length = answer.header("Content-Length")
        return answer._replace(body=self.stream.read(int(length) if length else -1))

    def read_chunks(self):
        """Generate the chunks of a body."""
        while size := int(self.stream.readline(), 16):
            yield self.stream.read(size)
            self.stream.readline()
        self.stream.readline()

    def close(self):
        """Close it; the next exchange opens another."""
        if self.stream is not None:
            with suppress(OSError):
                self.stream.close()
            self.stream = None


def head_of(request, headers):
    """Return the bytes of a request up to its body."""
    sent = [*request.headers, *headers]
    names = {name.lower() for name, _ in sent}
    sent = [*([] if "host" in names else [("Host", "localhost")]), *sent]
    if request.body is not None and "transfer-encoding" not in names:
        sent.append(("Content-Length", len(request.body)))
    lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent)]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


@contextmanager
def run_server(root, variables):
    """Run gunicorn in a checkout until the end of the context, and give a Connection to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [root / ".venv/bin/gunicorn", "registry:create_app()"]
    variables = variables | {"REGISTRY_SERVER_BIND_PORT": str(port)}
    process = subprocess.Popen(command, cwd=root, env=variables, stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        connection = Connection(port)
        yield connection
        connection.close()
    finally:
        process.terminate()
        process.wait(60)


def wait_for(port, process):
    """Wait until a server takes connections, at most a minute."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            return socket.create_connection(("127.0.0.1", port)).close()
        time.sleep(0.05)
    raise SystemExit("The server did not start; its messages are above.")


def server_variables(folder, flavor, options):
    """Return the environment of a server with a new database."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "GUNICORN_"))}
    ours = {"DATABASE_CONNECTION": f"sqlite:///{folder}/{flavor}.db", "AUTH_FLAVOR": flavor, "LOG_LEVEL": "error"}
    # Sets are iterated over in one order, whatever the process.
    ours = {f"REGISTRY_{name}": str(value) for name, value in (ours | options).items()}
    return inherited | ours | {"PYTHONHASHSEED": "0"}


def callers_of(flavor, root, variables):
    """Return {caller: the headers that identify it}."""
    if flavor == "none":
        return {"admin": [], "named": identity("beta", "member")}
    if flavor == "trusted-auth":
        tenants = {tenant: identity(tenant, "member") for tenant in TENANTS}
        others = {"tenantless": identity("", "member"), "acme's admin": identity("acme", "member,Admin")}
        return {"admin": identity("", "admin"), **tenants, **others, **ANONYMOUS}
    command = [root / ".venv/bin/flask", "--app", "registry", "token", "create"]
    options = {"cwd": root, "env": variables, "text": True, "stderr": subprocess.DEVNULL}
    texts = {name: subprocess.check_output([*command, *words], **options).strip() for name, words in TOKENS.items()}
    tokens = {name: [("X-Auth-Token", text)] for name, text in texts.items()}
    return tokens | {"bearer": [("Authorization", f"Bearer {texts['beta']}")]} | ANONYMOUS


def identity(tenant, roles):
    """Return the headers that a proxy sends."""
    return [("X-Identity-Status", "Confirmed"), ("X-Tenant-Id", tenant), ("X-Roles", roles)]


def record(path, root):
    """Write one line of JSON for each exchange with each of SERVERS."""
    with tempfile.TemporaryDirectory() as folder, path.open("w", encoding="ascii") as recording:
        for seed, (flavor, (share, options)) in enumerate(SERVERS.items()):
            variables = server_variables(folder, flavor, options)
            with run_server(root, variables) as connection:
                callers = callers_of(flavor, root, variables)
                for exchange in exchanges(connection, flavor, callers, Sequence(seed, list(callers)), share):
                    recording.write(json.dumps(exchange) + "\n")


def exchanges(connection, flavor, callers, sequence, share):
    """Generate the first ``share`` exchanges of a sequence, without random values."""
    requests, answer, scrubber = iter(sequence), None, Scrubber()
    for _ in range(share):
        request = requests.send(answer)
        answer = connection.exchange(request, callers[request.caller])
        asked = {**request._asdict(), "body": text_of(request.body or b"")}
        exchange = {"flavor": flavor, **asked, "status": answer.status, "answer": settled_headers(request, answer)}
        exchange |= {"content": text_of(settled_body(request, answer))}
        yield json.loads(json.dumps(exchange), object_hook=lambda part: scrub_values(part, scrubber))


def scrub_values(part, scrubber):
    """Return a JSON object with its texts scrubbed."""
    scrub = scrubber.scrub
    lists = {name: [[scrub(text) for text in pair] for pair in part[name]] for name in ("headers", "answer")}
    return {name: scrub(value) if isinstance(value, str) else value for name, value in part.items()} | lists


def settled_headers(request, answer):
    """Return the header lines, with placeholders for what a server says about itself and the hour."""
    hidden = {"date", "server"} | ({"content-length"} if is_metrics(request) else set())
    return [(name, f"<{name.lower()}>" if name.lower() in hidden else value) for name, value in answer.headers]


def settled_body(request, answer):
    """Return the body; of metrics the comments, since workers count on their own for a while."""
    if not is_metrics(request):
        return answer.body
    return b"".join(line for line in answer.body.splitlines(keepends=True) if not line.startswith(b"registry_"))


def is_metrics(request):
    """Return whether the answer holds measurements."""
    return request.target.startswith("/metrics")


def text_of(body):
    """Return a body as text, or the digest of a long one."""
    if len(body) > LONGEST_BODY:
        return f"<{len(body)} bytes, SHA-256 {hashlib.sha256(body).hexdigest()}>"
    return body.decode("utf-8", "surrogateescape")
