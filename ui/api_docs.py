"""API description: /docs for people, /openapi.json for programs, and /versions."""

from functools import cache
from pathlib import Path

import orjson
from flask import Blueprint

from auth import ANONYMOUS
from config import VERSION
from security import SAFE_HEADERS
from web import respond, respond_json

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "openapi.json"
SCRIPT = ROOT / "ui" / "static" / "vendor" / "rapidoc" / "rapidoc-min.js"
# The viewer has its styles inline. Nothing is fetched from another host, and no other script runs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {**dict(SAFE_HEADERS), "Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Image registry: the API</title>
<link rel="icon" href="data:,">
<script type="module" src="/docs/rapidoc.js"></script>
</head>
<body>
<rapi-doc spec-url="/openapi.json" render-style="read" schema-style="table" load-fonts="false" show-header="false"
 allow-server-selection="false" sort-tags="false" use-path-in-nav-bar="true"
 show-method-in-nav-bar="as-plain-text" regular-font="system-ui, sans-serif"
 mono-font="ui-monospace, monospace" primary-color="#0b62c4">
<p slot="overview">This server is the image registry VERSION.</p>
<a slot="nav-logo" href="/ui/images" style="color: #fff">← Images</a>
</rapi-doc>
<noscript><p>This page needs JavaScript; <a href="/openapi.json">openapi.json</a> does not.
<a href="/ui/images">To the images</a></p></noscript>
</body>
</html>
"""


reference = Blueprint("reference", __name__)


@reference.get("/docs")
def show_docs():
    """Show the API reference."""
    return send(PAGE.replace("VERSION", VERSION).encode(), "text/html; charset=utf-8")


@reference.get("/docs/rapidoc.js")
def show_script():
    """Send the viewer of the API reference."""
    return send(read_script(), "text/javascript; charset=utf-8", {"Cache-Control": "private, max-age=86400"})


@reference.get("/openapi.json")
def show_openapi():
    """Send the OpenAPI document, with this server's address."""
    return respond(read_document())


@reference.get("/versions")
def show_versions():
    """List the versions of the product and of the API."""
    links = [{"rel": "self", "href": "/images"}, {"rel": "describedby", "href": "/openapi.json"}]
    return respond_json({"version": VERSION, "versions": [{"id": "v1.0", "status": "CURRENT", "links": links}]})


def send(content, content_type, headers=()):
    """Return a response for a browser, with this page's security headers."""
    response = respond(content, content_type=content_type)
    response.last_headers = {**HEADERS, **dict(headers)}.items()
    return response


@cache
def read_script():
    return SCRIPT.read_bytes()


@cache
def read_document():
    document = orjson.loads(DOCUMENT.read_bytes())
    return orjson.dumps({**document, "servers": [{"url": "/"}]})


def register(app):
    """Add the routes; they need no identity, since they show no image."""
    app.register_blueprint(reference)
    app.identifiers[reference.name] = lambda request: ANONYMOUS
