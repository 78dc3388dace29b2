"""The API's own description: /docs for people, /openapi.json for programs, /versions for both."""

from functools import cache
from pathlib import Path

import orjson
from flask import Blueprint

from auth import ANONYMOUS
from config import VERSION
from security import SAFE_HEADERS
from web import Answer, answer, answer_json

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "openapi.json"
SCRIPT = ROOT / "ui" / "static" / "vendor" / "rapidoc" / "rapidoc-min.js"
# Its styles stand within the script. Nothing is fetched from another host, and nothing else runs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {**dict(SAFE_HEADERS), "Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}.items()
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


class Page(Answer):
    """Bytes for a browser, with what it may do with them."""

    safe_headers = HEADERS


reference = Blueprint("reference", __name__)


@reference.get("/docs")
def show_docs():
    """The document, rendered."""
    return page(PAGE.replace("VERSION", VERSION).encode(), "text/html; charset=utf-8")


@reference.get("/docs/rapidoc.js")
def show_script():
    """What renders it."""
    answered = page(read_script(), "text/javascript; charset=utf-8")
    answered.safe_headers = {**dict(HEADERS), "Cache-Control": "private, max-age=86400"}.items()
    return answered


@reference.get("/openapi.json")
def show_openapi():
    """The document, of the server that is asked."""
    return answer(read_document())


@reference.get("/versions")
def show_versions():
    """The product's version, and the API's."""
    links = [{"rel": "self", "href": "/images"}, {"rel": "describedby", "href": "/openapi.json"}]
    return answer_json({"version": VERSION, "versions": [{"id": "v1.0", "status": "CURRENT", "links": links}]})


def page(content, content_type):
    return Page(content, 200, [("Content-Type", content_type), ("Content-Length", str(len(content)))])


@cache
def read_script():
    return SCRIPT.read_bytes()


@cache
def read_document():
    document = orjson.loads(DOCUMENT.read_bytes())
    return orjson.dumps({**document, "servers": [{"url": "/"}]})


def register(app):
    """Who asks is nobody's business: nothing of this is anybody's image."""
    app.register_blueprint(reference)
    app.identifiers[reference.name] = lambda asked: ANONYMOUS
