"""Sign-in and sign-out pages for flavor ``token``."""

import re

from flask import request, url_for

from errors import Forbidden, NotFound
from ui import sessions
from ui.forms import first, read_fields, read_form
from ui.rendering import flavor, render, see_other

# Only paths below /ui: the sign-in page must not be an open redirect.
OWN_PLACE = re.compile(r"/ui(?:[/?][^\\\x00-\x20\x7f]*)?", re.ASCII)
# Dot segments, plain or percent-encoded: browsers resolve them, and no page has one.
CLIMBING = re.compile(r"(/|%2f|%5c)(\.|%2e){1,2}(/|%2f|%5c|#|;|$)", re.IGNORECASE)
REFUSED = "This token is unknown, expired or revoked."


def show_signin():
    require_tokens()
    place, notice = request.args.get("next", ""), sessions.take_notice()
    if request.context.is_authenticated:
        return see_other(own_place(place))
    return signin_page(place, sessions.OVER if notice and notice[0] == "over" else None, 200)


def sign_in():
    require_tokens()
    fields = read_fields()
    place = first(fields, "next")
    try:
        read_form()
    except Forbidden as error:
        return signin_page(place, error.detail, error.status)
    if not sessions.open_session(first(fields, "token").strip()):
        return signin_page(place, REFUSED)
    return see_other(own_place(place))


def sign_out():
    require_tokens()
    read_form()
    sessions.close_session()
    return see_other(url_for("ui_entrance.show_signin"))


def signin_page(place, refusal=None, status=400):
    is_open = request.settings.auth.allow_anonymous_access
    return render(
        "signin.html",
        status,
        place=place,
        refusal=refusal,
        is_wrong=refusal == REFUSED,
        is_open=is_open,
    )


def own_place(text):
    place = text.removeprefix(request.script_root)
    is_own = OWN_PLACE.fullmatch(place) and not CLIMBING.search(place.partition("?")[0])
    return f"{request.script_root}{place}" if is_own else url_for("ui.list_images")


def require_tokens():
    """Raise NotFound if the authentication method has no sign-in page."""
    if flavor() != "token":
        raise NotFound("There is no sign-in page: your identity is known without it.")
