"""Pages as answers: how they are rendered, what a browser may do with them, and how refusals are told in words."""

import json
from http import HTTPStatus

from flask import Response, current_app, g, render_template, request, url_for

from security import SAFE_HEADERS
from ui import sessions
from web import JSONResponse

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
# A page is its reader's: nothing keeps it, lest the next one at this machine goes back to it.
PAGE_HEADERS = {
    **dict(SAFE_HEADERS),
    "Content-Security-Policy": POLICY,
    "Cache-Control": "private, no-store",
    # With no-referrer a browser would send its own forms with Origin: null, and the guard refuses those.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Cookie, HX-Request",
}
HTMX = {
    "includeIndicatorStyles": False,
    "allowEval": False,
    "allowScriptTags": False,
    "historyCacheSize": 0,
    "refreshOnHistoryMiss": True,
    "responseHandling": [
        {"code": "204", "swap": False},
        {"code": "[23]..", "swap": True},
        {"code": "[45]..", "swap": True, "error": True},
    ],
}
TITLES = {
    400: "That cannot be read",
    401: "Who are you?",
    403: "Not allowed",
    404: "Nothing here",
    405: "That cannot be done here",
    409: "That does not go together",
    412: "Changed meanwhile",
    413: "Too much",
    415: "Not a form",
    503: "Not now",
    507: "The disk is full",
}


class Page(JSONResponse):
    """HTML or an asset: its headers say themselves what a browser may do with it, unlike JSON's."""

    default_mimetype = "text/html"
    automatically_set_content_length = True

    def get_wsgi_response(self, environ):
        return Response.get_wsgi_response(self, environ)


def render(template, status=200, /, **values):
    """A page; what htmx asks for is the part that it replaces."""
    shown = {
        "htmx": json.dumps(HTMX),
        "reader": request.context,
        "flavor": flavor(),
        "api_url": api_url,
        "form_token": sessions.form_token,
        **values,
    }
    return with_cookies(Page(render_template(template, **shown), status, PAGE_HEADERS))


def see_other(place):
    """After a form, so that going back or reloading sends nothing twice."""
    return with_cookies(Page("", 303, {**PAGE_HEADERS, "Location": place}))


def with_cookies(response):
    """With those that sessions.send_cookie has prepared."""
    for name, options in g.pop("cookies", {}).items():
        response.set_cookie(name, **options)
    return response


def flavor():
    return current_app.settings.auth.flavor


def is_part():
    """Whether htmx asks, for its part of the page."""
    return request.headers.get("HX-Request") == "true" and "HX-History-Restore-Request" not in request.headers


def page_url(image_id):
    return url_for("ui.show_image", image_id=image_id)


def api_url(endpoint, **values):
    """Where a command asks the API, by the name that this page was asked under."""
    host = request.environ.get("HTTP_HOST") or "localhost"
    return f"{request.scheme}://{host}{url_for(endpoint, **values)}"


def asked_url():
    """The path and query asked for, as a link within the site."""
    query = request.query_string.decode("latin-1")
    return f"{request.script_root}{request.path}{'?' + query if query else ''}"


def problem_page(status, detail, headers=()):
    """What went wrong, in words, with the request's id for whoever reads the log."""
    values = {"code": status, "title": TITLES.get(status, HTTPStatus(status).phrase), "detail": detail}
    image_id = (request.view_args or {}).get("image_id")
    values["image"] = page_url(image_id) if image_id and request.method == "POST" and status != 404 else None
    template = "_problem.html" if is_part() else "problem.html"
    response = render(template, status, request_id=request.request_id, home=url_for("ui.list_images"), **values)
    response.headers.extend(dict(headers))
    return response
