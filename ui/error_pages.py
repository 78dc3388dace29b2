"""What goes wrong on a page, told in words; who must sign in is led there."""

import logging
from contextlib import suppress
from http import HTTPStatus

from flask import request, url_for

from errors import RegistryError, Unauthorized
from ui import sessions
from ui.actions import form_again
from ui.forms import read_fields
from ui.rendering import asked_url, flavor, problem_page, render, see_other
from web import log_failure

logger = logging.getLogger("registry")

DETAILS = {
    404: "There is no such page, or nothing that you may see.",
    405: "This page is there to be read: it takes no form.",
}


def show_refusal(error):
    log_failure(error)
    page = form_again(error)
    if page is None:
        return problem_page(error.status, error.detail, error.headers)
    page.headers.extend(error.headers)
    return page


def show_unauthorized(error):
    """With tokens, the way to sign in, and back here afterwards; elsewhere a proxy says who is asking.

    A form that was filled in stays: who signs in elsewhere in the browser sends it again.
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
        # A link on another site's page brings no cookie along (SameSite=Strict): our own page asks again, with it.
        return render("again.html", 200, place=asked_url())
    if is_over:
        sessions.close_session()
        sessions.send_notice("over")
    place = url_for("ui_entrance.show_signin", next=asked_url())
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
    refusal = RegistryError("A mistake of the registry's own; its log says more under the request id.")
    return form_again(refusal) or problem_page(500, refusal.detail)
