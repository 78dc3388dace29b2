"""Error handlers of the web pages, and the redirect to the sign-in page."""

import logging
from contextlib import suppress
from http import HTTPStatus

from flask import request, url_for

from errors import RegistryError, Unauthorized
from ui import sessions
from ui.actions import form_again
from ui.forms import read_fields
from ui.rendering import flavor, problem_page, render, requested_url, see_other
from web import log_failure

logger = logging.getLogger("registry")

DETAILS = {
    404: "This page does not exist, or you may not see it.",
    405: "This page accepts no form.",
}


def show_refusal(error):
    log_failure(error)
    page = form_again(error)
    if page is None:
        return problem_page(error.status, error.detail, error.headers)
    page.headers.extend(error.headers)
    return page


def show_unauthorized(error):
    """Redirect to the sign-in page and back, or show why identity is missing.

    A form keeps what was entered, so that it can be sent after signing in in another tab.
    """
    is_over = flavor() == "token" and sessions.SESSION_COOKIE in request.cookies
    if request.method == "POST":
        with suppress(RegistryError):
            read_fields()
        detail = sessions.OVER if is_over else sessions.SIGNED_OUT if flavor() == "token" else error.detail
        if page := form_again(Unauthorized(detail)):
            return page
    if flavor() != "token":
        return problem_page(401, error.detail)
    if not is_over and request.headers.get("Sec-Fetch-Site") == "cross-site" and request.method == "GET":
        # A link on another site sends no cookie (SameSite=Strict): this page repeats the request with it.
        return render("again.html", 200, place=requested_url())
    if is_over:
        sessions.close_session()
        sessions.send_notice("over")
    place = url_for("ui_entrance.show_signin", next=requested_url())
    response = see_other(place)
    if request.headers.get("HX-Request") == "true":
        response.status_code = 200
        del response.headers["Location"]
        response.headers["HX-Redirect"] = place
    return response


def show_http_error(error):
    allowed = {"Allow": ", ".join(error.valid_methods)} if error.code == 405 else {}
    return problem_page(error.code, DETAILS.get(error.code, HTTPStatus(error.code).phrase + "."), allowed)


def show_mistake(error):
    logger.exception("%s %s %r", request.request_id, request.method, request.path, exc_info=error)
    refusal = RegistryError("Internal error; the log has the details under the request id.")
    return form_again(refusal) or problem_page(500, refusal.detail)
