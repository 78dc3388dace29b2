"""Page of one image: record, members, history and the actions of the caller."""

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
from ui.verified import read_results

# Unlike the API's answers this belongs to a session: no cache keeps it.
JSON_HEADERS = {**dict(SAFE_HEADERS), "Cache-Control": "private, no-store"}.items()


class Seen(NamedTuple):
    """Image as visible to the caller."""

    record: dict[str, Any]
    etag: str  # the ETag of this record
    is_owner: bool  # the caller is the owner, or an admin

    @property
    def may_change(self):
        return self.is_owner and not request.context.is_read_only


def see(image_id):
    """Return the image as the caller sees it.

    Raises: NotFound if it does not exist or is inaccessible.
    """
    context = request.context
    shown = pages.show(image_id, context)
    etag, record = pages.rendered(shown, context, request.settings.api)
    # json, not orjson: orjson turns integers above 64 bits in location metadata into floats.
    return Seen(json.loads(record), etag, context.is_owner_of(shown.owner))


def show_image(image_id):
    return image_page(see(image_id))


def redirect_to_image(image_id):
    """Redirect a reloaded form address to the image's page."""
    return see_other(page_url(see(image_id).record["id"]))


def show_json(image_id):
    """Return the record as JSON, as the API shows it to this caller."""
    etag, record = pages.rendered(pages.show(image_id, request.context), request.context, request.settings.api)
    response = web.respond(b'{"image":%b}' % record, [("ETag", f'"{etag}"')])
    response.last_headers = JSON_HEADERS
    return response


def image_page(seen, status=200, refusal=None, entered=None):
    """Return the page; ``refusal`` is the error of a form, ``entered`` its fields."""
    image, context = seen.record, request.context
    members = Member.list_of(image["id"], context)
    may_share = seen.may_change or ((context.tenant, True) in members and not context.is_read_only)
    shown = redact_record(image)
    values = {
        "image": shown,
        "verified": read_results([image]).get(image["id"]),
        "raw": orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode(),
        "members": members,
        "may_share": may_share and not image["deleted"],
        "history": Image.history_of(image["id"], context) if seen.is_owner else None,
        "curl": curl_line(image["id"]),
        "notice": sessions.take_notice(),
    }
    return render("image.html", status, seen=seen, refusal=refusal, entered=entered or {}, **values)


def curl_change(image_id):
    """Return a curl command that changes a field of an image."""
    address = curl_line(image_id).removeprefix("curl")
    return f"""curl -X PUT -H "Content-Type: application/json" -d '{{"image": {{"name": "new"}}}}'{address}"""


def curl_line(image_id):
    token = ' -H "X-Auth-Token: $REGISTRY_TOKEN"' if flavor() == "token" else ""
    return f"curl{token} {api_url('v1.show_image', image_id=image_id)}"
