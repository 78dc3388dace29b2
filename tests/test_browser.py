"""The attack itself, in a real browser: pages of another port, and, against each flavor, of a rebound name."""

import json
import socket
import ssl
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import IMAGE, identity
from faults.servers import BrokenServer
from support.browser import forget, open_browser, wait_for

# What each attempt came to: "read" (the image's id was in the answer), "done", the status of a refusal,
# "unseen" (sent, but the page may not know the answer), "blocked" (by the browser).
PAGE = """<!doctype html><title>attack</title><body><script>
const id = "@ID@", to = "@TARGET@", forged = @FORGED@;
const json = {"Content-Type": "application/json", ...forged};
const image = name => ({name, status: "active", disk_format: "raw", container_format: "bare"});
const body = name => JSON.stringify({image: image(name)});
const outcome = async answer => {
  const text = await answer.text();
  return answer.type == "opaque" ? "unseen" : !answer.ok ? answer.status : text.includes(id) ? "read" : "done";
};
const ask = async (path, options) => {
  try { return await outcome(await fetch(to + path, {headers: forged, ...options})); }
  catch (error) { return "blocked"; }
};
const attempts = @ATTEMPTS@;
(async () => {
  @BEFORE@
  const found = {};
  for (const [name, attempt] of Object.entries(attempts)) {
    try { found[name] = await attempt(name); }
    catch (error) { found[name] = String(error); }
  }
  window.found = found;
})();
</script>"""
API = """{
  list: () => ask("/images/detail?is_public=none"),
  show: () => ask("/images/" + id),
  post: () => ask("/images", {method: "POST", headers: json, body: body("stolen")}),
  put: () => ask("/images/" + id, {method: "PUT", headers: json, body: body("stolen")}),
  bare: () => ask("/images/" + id + "/members/evil", {method: "PUT"}),
  unmember: () => ask("/images/" + id + "/members/evil", {method: "DELETE"}),
  delete: () => ask("/images/" + id, {method: "DELETE"}),
}"""
# All that a page may send elsewhere without asking beforehand, and some that it must ask for.
TRICKS = """(() => {
  const list = to + "/images/detail?is_public=none";
  const element = (tag, attributes) => new Promise(resolve => {
    const made = Object.assign(document.createElement(tag), attributes);
    made.onload = () => resolve("done");
    made.onerror = () => resolve("blocked");
    document.body.append(made);
  });
  const framed = start => new Promise(resolve => {
    const frame = document.createElement("iframe");
    frame.name = "frame" + frames.length;
    document.body.append(frame);
    frame.onload = () => {
      try { resolve(frame.contentDocument.body.textContent.includes(id) ? "read" : "done"); }
      catch (error) { resolve("unseen"); }
    };
    start(frame);
  });
  const form = (enctype, name, value) => framed(frame => {
    const made = Object.assign(document.createElement("form"), {method: "POST", enctype, target: frame.name});
    made.action = to + "/images";
    const input = Object.assign(document.createElement("input"), {name, value});
    made.append(input);
    document.body.append(made);
    made.submit();
  });
  const opened = socket => new Promise(resolve => {
    socket.onopen = () => resolve("done");
    socket.onmessage = () => resolve("read");
    socket.onerror = () => { socket.close(); resolve("blocked"); };
  });
  const beacon = async (name, type) => {
    const url = to + "/images?" + type;
    navigator.sendBeacon(url, new Blob([body(name)], {type}));
    const isOver = () => performance.getEntriesByName(new URL(url).href).length;
    while (!isOver()) await new Promise(resolve => setTimeout(resolve, 20));
    return "unseen";
  };
  const post = (name, options) => ask("/images", {method: "POST", mode: "no-cors", body: body(name), ...options});
  const [head, tail] = body("text form").replace("}}", ', "properties": {"a": "=b"}}}').split("=");
  return {
    "text form": () => form("text/plain", head, tail),
    "urlencoded form": name => form("application/x-www-form-urlencoded", body(name), ""),
    "multipart form": name => form("multipart/form-data", "image", body(name)),
    "text": name => post(name),
    "untyped": name => post(name, {body: new Blob([body(name)])}),
    "kept alive": name => post(name, {keepalive: true}),
    "no referrer": name => post(name, {referrerPolicy: "no-referrer"}),
    "json": name => post(name, {headers: json}),
    "typed blob": name => post(name, {body: new Blob([body(name)], {type: "application/json"})}),
    "beacon": name => beacon(name, "text/plain"),
    "json beacon": name => beacon(name, "application/json"),
    "get": () => ask("/images/detail?is_public=none", {mode: "no-cors"}),
    "head": () => ask("/images", {mode: "no-cors", method: "HEAD"}),
    "script": () => element("script", {src: list}),
    "module": () => import(list).then(() => "read", () => "blocked"),
    "style": () => element("link", {rel: "stylesheet", href: list}),
    "img": () => element("img", {src: list}),
    "frame": () => framed(frame => { frame.src = list; }),
    "websocket": () => opened(new WebSocket(to.replace("http", "ws") + "/images")),
    "events": () => opened(new EventSource(list)),
    "delete": () => ask("/images/" + id, {mode: "no-cors", method: "DELETE"}),
  };
})()"""
# The page stays while its site goes, until what answers under its very origin is another.
POLL = """while (!await fetch("/images").then(answer => !answer.headers.has("X-Attacker"), () => false))
    await new Promise(resolve => setTimeout(resolve, 50));"""
# What the first page comes to where nothing hinders it.
DONE = {"list": "read", "show": "read", "post": "done", "put": "read", "bare": "done", "unmember": "done"}
DONE["delete"] = "read"
# What a browser sends to another site without asking there first; "json" and "typed blob" lose their type on the way.
SENT_UNASKED = {"text form", "text", "untyped", "kept alive", "no referrer", "json", "typed blob", "beacon"}


class Site(ThreadingHTTPServer):
    """A site of an attacker's: it answers everything with its page."""

    def __init__(self, certificate=None):
        super().__init__(("127.0.0.1", 0), Page)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.page, self.port, self.connections = "", self.server_address[1], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def get_request(self):
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def leave(self):
        """The port is free, and no connection that the browser keeps leads to the site any more."""
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with suppress(OSError):  # most are closed already
                connection.shutdown(socket.SHUT_RDWR)


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.server.page.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("X-Attacker", "here")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site():
    running = Site()
    yield running
    running.leave()


@pytest.fixture
def browser(chromium):
    yield chromium
    forget(chromium)


@pytest.fixture
def serve(database_path):
    """A function: a running server, without the defences named."""
    servers = []

    def start(**options):
        servers.append(BrokenServer(database_path, **options))
        return servers[-1].wait_until_ready()

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def attack(browser, site, serve):
    """A function: (what pages of another port could do, one after the other; the server; its image as it was)."""

    def run(*pages, host="localhost", name="127.0.0.1", **options):
        server = serve(**options)
        image = create_image(server)
        reports = []
        for attempts in pages:
            site.page = page_of(attempts, f"http://{name}:{server.port}", image)
            browser.get(f"http://{host}:{site.port}/")
            reports.append(found_by(browser))
        return *reports, server, image

    return run


@pytest.fixture
def rebind(browser, site, serve):
    """A function: (what a page could do whose site gave way to the registry on its very port, the server, its image).

    The image was there before, and the page knows its id: nothing but the registry itself is in its way.
    """

    def run(attempts, forged=(), **options):
        earlier = serve()
        image = create_image(earlier)
        earlier.stop()
        own = f"http://evil.example:{site.port}"
        site.page = page_of(attempts, own, image, POLL, forged)
        browser.get(own)
        site.leave()
        server = serve(port=site.port, **options)
        return found_by(browser), server, image

    return run


def page_of(attempts, target, image, before="", forged=()):
    """A page that goes for ``target`` and the image, after the statements ``before``, with ``forged`` headers."""
    page = PAGE.replace("@ATTEMPTS@", attempts).replace("@BEFORE@", before)
    page = page.replace("@FORGED@", json.dumps(dict(forged)))
    return page.replace("@TARGET@", target).replace("@ID@", image["id"])


def found_by(browser):
    """What the page could do, by name of the attempt, once it has tried all."""
    return wait_for(browser, "return window.found")


def create_image(server):
    return server.request("POST", "/images", {"image": IMAGE})[2]["image"]


def images(server):
    return server.request("GET", "/images/detail?is_public=none", headers=identity("admin"))[2]["images"]


def names(server):
    return {image["name"] for image in images(server)}


def members(server, image):
    return server.request("GET", f"/images/{image['id']}/members", headers=identity("admin"))[2]["members"]


# A rebound name, on the very port: to the browser the registry is the attacker's own site


@pytest.mark.parametrize("flavor", ["none", "trusted-auth"])
def test_a_page_whose_name_now_leads_to_the_registry_is_refused_all(rebind, flavor):
    report, server, image = rebind(API, identity("admin"), auth__flavor=flavor)

    assert report == dict.fromkeys(DONE, 400)
    assert images(server) == [image]
    assert members(server, image) == []


@pytest.mark.exhaustive
def test_with_flavor_token_that_page_has_none_and_is_refused_all(rebind, serve):
    report, server, image = rebind(API, identity("admin"), auth__flavor="token")
    server.stop()

    assert report == dict.fromkeys(DONE, 401)
    assert images(serve()) == [image]


@pytest.mark.exhaustive
@pytest.mark.parametrize("flavor", ["none", "trusted-auth"])
@pytest.mark.parametrize("options", [{"server__trusted_hosts": "evil.example"}, {"without": "without_host"}], ids=str)
def test_without_the_rule_of_hosts_that_page_does_all_of_it(rebind, flavor, options):
    report, server, _ = rebind(API, identity("admin"), auth__flavor=flavor, **options)

    assert report == DONE
    assert names(server) == {"stolen"}


@pytest.mark.exhaustive
def test_the_tricks_show_what_they_can_read_and_do_where_they_can(rebind):
    report, server, _ = rebind(TRICKS, without="without_host without_safe_headers")

    assert {name for name, outcome in report.items() if outcome == "read"} == {"get", "frame"}
    assert {"script", "style"} < {name for name, outcome in report.items() if outcome == "done"}
    assert names(server) == {IMAGE["name"], "json beacon"}


# Pages of another port


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("page", "name"),
    [
        *[("localhost", "localhost"), ("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1")],
        *[("evil.example", "127.0.0.1"), ("evil.example", "evil.example")],
    ],
)
def test_a_page_of_another_port_may_ask_for_nothing_and_its_tricks_change_nothing(attack, page, name):
    asked, tricked, server, image = attack(API, TRICKS, host=page, name=name)

    assert set(asked.values()) == {"blocked"}
    assert set(tricked.values()) == {"blocked", "unseen"}
    assert images(server) == [image]
    assert members(server, image) == []


@pytest.mark.exhaustive
def test_the_same_page_does_all_of_it_where_its_origin_is_allowed(attack, site):
    report, server, _ = attack(API, server__allowed_origins=f"http://localhost:{site.port}")

    assert report == DONE
    assert names(server) == {"stolen"}


# Three rules refuse what a page may send without asking: any one of them is enough, but for a name over plain HTTP,
# where browsers send no Sec-Fetch-Site. Without all three it is done.
CONTENT_TYPES, SITE, ORIGIN = "without_content_types", "without_sec_fetch_site", "without_origin"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "without", "done"),
    [
        ("127.0.0.1", (SITE, ORIGIN), set()),
        ("127.0.0.1", (CONTENT_TYPES, SITE), set()),
        ("127.0.0.1", (CONTENT_TYPES, ORIGIN), set()),
        ("127.0.0.1", (CONTENT_TYPES, SITE, ORIGIN), SENT_UNASKED),
        ("registry.example", (CONTENT_TYPES, SITE), set()),
        ("registry.example", (CONTENT_TYPES, ORIGIN), SENT_UNASKED),
    ],
)
def test_each_rule_of_writes_alone_refuses_what_is_done_without_any(attack, name, without, done):
    report, server, image = attack(TRICKS, name=name, without=" ".join(without), server__trusted_hosts=name)

    assert names(server) == {image["name"], *done}
    assert set(report.values()) == {"blocked", "unseen"}


@pytest.mark.exhaustive
@pytest.mark.browser
@pytest.mark.parametrize(("without", "done"), [((), set()), ((SITE,), SENT_UNASKED - {"text form"})])
def test_a_page_of_the_same_name_over_tls_is_refused_by_its_site_alone(serve, certificate, without, done):
    """Its Origin may be our own, behind a proxy that has taken TLS off: 443 and 80 show in no Origin and Host.

    Such a form is the one thing that the browser itself holds back, to warn of it.
    """
    site = Site(certificate)
    server = serve(without=" ".join((CONTENT_TYPES, *without)))
    image = create_image(server)
    site.page = page_of(TRICKS, "http://localhost", image)
    places = f"MAP localhost:443 127.0.0.1:{site.port}, MAP localhost:80 127.0.0.1:{server.port}"

    with open_browser(f"--host-resolver-rules={places}", "--ignore-certificate-errors") as browser:
        browser.get("https://localhost/")
        report = found_by(browser)

    assert names(server) == {image["name"], *done}
    assert set(report.values()) == {"blocked", "unseen"}
    site.leave()
