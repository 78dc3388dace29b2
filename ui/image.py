"""One image: all that the caller may know about it, and what the caller may do with it."""

import json
from typing import Any, NamedTuple

import orjson
from flask import request

import web
from formatting import redact_record
from listing import pages
from members import Member
from models import Image
from security import SAFE_HEADERS
from ui import sessions
from ui.rendering import api_url, flavor, page_url, render, see_other

# Unlike the API's, this is of a session: nothing keeps it, as nothing keeps a page.
JSON_HEADERS = {**dict(SAFE_HEADERS), "Cache-Control": "private, no-store"}.items()


class Seen(NamedTuple):
    """An image as the caller sees it."""

    record: dict[str, Any]
    tag: str  # the ETag of exactly this
    is_owner: bool  # the caller is, or an admin

    @property
    def may_change(self):
        return self.is_owner and not request.context.is_read_only


def see(image_id):
    """The Seen of an image. Raises NotFound, for a hidden image as for none."""
    context = request.context
    shown = pages.show(image_id, context)
    tag, record = pages.rendered(shown, context, request.settings.api)
    # Not orjson's: it turns the larger integers that a store's metadata may hold into floats.
    return Seen(json.loads(record), tag, context.is_owner_of(shown.owner))


def show_image(image_id):
    return image_page(see(image_id))


def lead_to_image(image_id):
    """Who loads a form's address anew, or comes back to it after signing in, finds the image."""
    return see_other(page_url(see(image_id).record["id"]))


def show_json(image_id):
    """As the API shows it to this caller, for who has a session and no token at hand."""
    tag, record = pages.rendered(pages.show(image_id, request.context), request.context, request.settings.api)
    answered = web.answer(b'{"image":%b}' % record, [("ETag", f'"{tag}"')])
    answered.safe_headers = JSON_HEADERS
    return answered


def image_page(seen, status=200, refusal=None, entered=None):
    """``refusal`` is why what was asked for was not done, and ``entered`` what stood in its form."""
    image, context = seen.record, request.context
    members = Member.list_of(image["id"], context)
    may_share = seen.may_change or ((context.tenant, True) in members and not context.is_read_only)
    shown = redact_record(image)
    values = {
        "image": shown,
        "raw": orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode(),
        "members": members,
        "may_share": may_share and not image["deleted"],
        "history": Image.history_of(image["id"], context) if seen.is_owner else None,
        "curl": curl_line(image["id"]),
        "notice": sessions.take_notice(),
    }
    return render("image.html", status, seen=seen, refusal=refusal, entered=entered or {}, **values)


def curl_change(image_id):
    """The command that changes one thing of an image."""
    address = curl_line(image_id).removeprefix("curl")
    return f"""curl -X PUT -H "Content-Type: application/json" -d '{{"image": {{"name": "new"}}}}'{address}"""


def curl_line(image_id):
    token = ' -H "X-Auth-Token: $REGISTRY_TOKEN"' if flavor() == "token" else ""
    return f"curl{token} {api_url('v1.show_image', image_id=image_id)}"
