"""Sessions of the web pages: signed cookies, CSRF tokens of forms, and one-time notices."""

import hashlib
import hmac
import re
import secrets

from flask import g, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

import auth
from auth import ANONYMOUS, context_of_token, identify
from errors import Forbidden, Unauthorized
from ui.labels import is_visible
from ui.session_key import read_key

SESSION_COOKIE, VISITOR_COOKIE, NOTICE_COOKIE = "registry_session", "registry_visitor", "registry_notice"
# A session ends after this time, however busy it is.
LONGEST_SESSION_SECONDS = 12 * 3600
NOTICE_SECONDS = 60
VISITOR = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
SIGNED_OUT = "You are not signed in."
OVER = "Your session has ended: it expired, or its token expired or was revoked. Sign in again."
FOREIGN_FORM = "This form does not belong to your current session. Check it and send it again."


def identify_visitor(asked):
    """Return the caller of a page, by the session or else as for the API.

    Raises: Unauthorized if identity is required and missing, or the session has ended.
    """
    settings = asked.settings
    if settings.auth.flavor != "token" or SESSION_COOKIE not in asked.cookies:
        return identify(asked.environ, settings.auth, auth.find_token)
    identity = auth.find_token_of_hash(token_hash(asked) or "")
    if identity is None:
        raise Unauthorized(OVER)
    return context_of_token(identity, settings.auth)


def identify_guest(asked):
    """Return the session's caller, or the anonymous one on the sign-in page."""
    try:
        return identify_visitor(asked)
    except Unauthorized:
        return ANONYMOUS


def identify_nobody(asked):
    """Return the anonymous caller, for assets that need no identity."""
    return ANONYMOUS


def token_hash(asked):
    """Return the hash of the session's token, or None if the cookie is invalid.

    A cookie signed with an earlier key is invalid.
    """
    try:
        return signer("session").loads(asked.cookies.get(SESSION_COOKIE, ""), max_age=LONGEST_SESSION_SECONDS)
    except BadSignature:
        return None


def signer(purpose):
    options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeTimedSerializer(read_key(request.settings.database), salt=purpose, signer_kwargs=options)


def open_session(text):
    """Open a session for the token ``text`` and return whether the token is valid.

    The cookie carries the token's hash, so that no page can leak the token.
    """
    if auth.find_token(text) is None:
        return False
    send_cookie(SESSION_COOKIE, signer("session").dumps(auth.hash_token(text)), LONGEST_SESSION_SECONDS)
    send_cookie(VISITOR_COOKIE, secrets.token_urlsafe(16))
    return True


def close_session():
    for name in (SESSION_COOKIE, VISITOR_COOKIE):
        send_cookie(name, "", 0)


def send_cookie(name, value, seconds=None):
    """Set a cookie with the response; None lasts for the browser session.

    Behind TLS the cookie is marked Secure.
    """
    is_secure = request.is_secure or request.headers.get("Origin", "").startswith("https:")
    options = {"httponly": True, "samesite": "Strict", "path": f"{request.script_root}/ui", "secure": is_secure}
    g.setdefault("cookies", {})[name] = {"value": value, "max_age": seconds, **options}


def form_token():
    """Return the CSRF token of this browser, session and signing key."""
    visitor = request.cookies.get(VISITOR_COOKIE, "")
    if not VISITOR.fullmatch(visitor):
        visitor = g.get("visitor") or secrets.token_urlsafe(16)
        g.visitor = visitor
        send_cookie(VISITOR_COOKIE, visitor)
    return token_of(visitor)


def token_of(visitor):
    key = read_key(request.settings.database)
    about = f"form {visitor} {request.cookies.get(SESSION_COOKIE, '')}"
    return hmac.new(key.encode(), about.encode(), hashlib.sha256).hexdigest()


def require_form_token(given):
    """Raise Forbidden for a form whose CSRF token is missing or wrong."""
    visitor = request.cookies.get(VISITOR_COOKIE, "")
    if not VISITOR.fullmatch(visitor) or not hmac.compare_digest(token_of(visitor).encode(), given.encode()):
        raise Forbidden(FOREIGN_FORM)


def send_notice(kind, image=None, about=""):
    """Show a notice on the next page, in a cookie signed against forgery."""
    image_id, name = "", ""
    if image:
        image_id, name = image["id"], (image["name"] if is_visible(image["name"]) else image["id"])[:100]
    send_cookie(NOTICE_COOKIE, signer("notice").dumps([kind, image_id, name, about]), NOTICE_SECONDS)


def take_notice():
    """Return the pending notice and clear it.

    Returns: [kind, image id, image name, member id], or None.
    """
    text = request.cookies.get(NOTICE_COOKIE)
    if text is None:
        return None
    send_cookie(NOTICE_COOKIE, "", 0)
    try:
        return signer("notice").loads(text, max_age=NOTICE_SECONDS)
    except BadSignature:
        return None
