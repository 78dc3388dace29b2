"""Who reads the pages: sessions that a token has opened, and what a form carries to show that it is ours."""

import hashlib
import hmac
import re
import secrets

from flask import g, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

import auth
from auth import ANONYMOUS, context_of_bearer, identify
from errors import Forbidden, Unauthorized
from ui.labels import is_visible
from ui.session_key import read_key

SESSION_COOKIE, VISITOR_COOKIE, NOTICE_COOKIE = "registry_session", "registry_visitor", "registry_notice"
# After so long somebody signs in again, however busy the session.
LONGEST_SESSION_SECONDS = 12 * 3600
NOTICE_SECONDS = 60
VISITOR = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
SIGNED_OUT = "You are not signed in."
OVER = "Your session is over: it has lasted long enough, or its token has expired or was revoked."
FOREIGN_FORM = "This form was not of this browser's present session. Look at it once more, and send it again."


def identify_visitor(asked):
    """The caller of a page: by the session, where there is one, else as for the API.

    Raises Unauthorized where nobody may be anonymous, and for a session that is over.
    """
    settings = asked.settings
    if settings.auth.flavor != "token" or SESSION_COOKIE not in asked.cookies:
        return identify(asked.environ, settings.auth, auth.find_bearer)
    bearer = auth.find_bearer_of_hash(token_hash(asked) or "")
    if bearer is None:
        raise Unauthorized(OVER)
    return context_of_bearer(bearer, settings.auth)


def identify_guest(asked):
    """Who signs in is nobody yet, unless it has a session still."""
    try:
        return identify_visitor(asked)
    except Unauthorized:
        return ANONYMOUS


def identify_nobody(asked):
    """Whoever asks for a stylesheet."""
    return ANONYMOUS


def token_hash(asked):
    """The hash of the token that opened the session, or None: where the key is another, no session counts."""
    try:
        return signer("session").loads(asked.cookies.get(SESSION_COOKIE, ""), max_age=LONGEST_SESSION_SECONDS)
    except BadSignature:
        return None


def signer(purpose):
    options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeTimedSerializer(read_key(request.settings.database), salt=purpose, signer_kwargs=options)


def open_session(text):
    """Whether ``text`` is a token that counts; the cookie carries its hash, so that no page can leak it."""
    if auth.find_bearer(text) is None:
        return False
    send_cookie(SESSION_COOKIE, signer("session").dumps(auth.hash_token(text)), LONGEST_SESSION_SECONDS)
    send_cookie(VISITOR_COOKIE, secrets.token_urlsafe(16))
    return True


def close_session():
    for name in (SESSION_COOKIE, VISITOR_COOKIE):
        send_cookie(name, "", 0)


def send_cookie(name, value, seconds=None):
    """Let the answer set it; None lasts as long as the browser is open. Behind TLS it never travels without."""
    is_secure = request.is_secure or request.headers.get("Origin", "").startswith("https:")
    options = {"httponly": True, "samesite": "Strict", "path": f"{request.script_root}/ui", "secure": is_secure}
    g.setdefault("cookies", {})[name] = {"value": value, "max_age": seconds, **options}


def form_token():
    """What each form of a page carries: it fits this browser, this session, and this registry's key."""
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
    """Raises Forbidden for a form that another page has made up."""
    visitor = request.cookies.get(VISITOR_COOKIE, "")
    if not VISITOR.fullmatch(visitor) or not hmac.compare_digest(token_of(visitor).encode(), given.encode()):
        raise Forbidden(FOREIGN_FORM)


def send_notice(kind, image=None, about=""):
    """Let the next page say what was done to an image: signed, so that no link makes a page say it."""
    image_id, name = "", ""
    if image:
        image_id, name = image["id"], (image["name"] if is_visible(image["name"]) else image["id"])[:100]
    send_cookie(NOTICE_COOKIE, signer("notice").dumps([kind, image_id, name, about]), NOTICE_SECONDS)


def take_notice():
    """[kind, image's id, its name, whom it is shared with], or None; it is told once."""
    text = request.cookies.get(NOTICE_COOKIE)
    if text is None:
        return None
    send_cookie(NOTICE_COOKIE, "", 0)
    try:
        return signer("notice").loads(text, max_age=NOTICE_SECONDS)
    except BadSignature:
        return None
