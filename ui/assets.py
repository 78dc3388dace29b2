"""Static assets at content-addressed URLs, so that browsers cache them for good."""

import hashlib
from functools import lru_cache
from pathlib import Path

from flask import Blueprint, url_for

from errors import NotFound
from security import SAFE_HEADERS
from ui.rendering import Page

FOLDER = Path(__file__).parent / "static"
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
FILES = ("vendor/pico.min.css", "vendor/htmx.min.js", "registry.css", "registry.js", "icon.svg")
DIGITS = 12
HEADERS = {
    **dict(SAFE_HEADERS),
    "Cache-Control": "public, max-age=31536000, immutable",
    "Cross-Origin-Resource-Policy": "same-origin",
}

assets = Blueprint("ui_assets", __name__)


@assets.get("/ui/static/<digest>/<path:name>")
def send_asset(digest, name):
    """Send an asset if the digest in its URL is the current one."""
    if name not in FILES or digest != read(name)[1]:
        raise NotFound("No such file.")
    return Page(read(name)[0], headers=HEADERS, content_type=TYPES[Path(name).suffix])


@lru_cache(maxsize=len(FILES))
def read(name):
    """Return an asset's content and the digest for its URL."""
    content = (FOLDER / name).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:DIGITS]


def asset_url(name):
    return url_for("ui_assets.send_asset", digest=read(name)[1], name=name)
