"""What forms do to images: create, edit, share, protect, delete, and take back."""

import json

from flask import request, url_for
from werkzeug.datastructures import ETags

from errors import Conflict, Forbidden, Invalid, NotFound, PreconditionFailed, QuotaExceeded
from members import Member
from models import Image
from schemas import CREATE_STATUSES, UPDATE_STATUSES, parse_member
from ui import clashes, forms, sessions
from ui.forms import first, read_form
from ui.image import image_page, see
from ui.listing import view_link
from ui.pages import render, see_other

# What a form is shown again for, with the reason beside its fields.
REFUSALS = (Invalid, Conflict, Forbidden, PreconditionFailed, QuotaExceeded)
EMPTY_ROWS, MORE_ROWS = 3, 10


def show_create_form():
    request.context.require_may_create()
    values = forms.defaults(request.settings.api)
    return form_page(values, [])


def create_image():
    request.context.require_may_create()
    fields, refusal = read_form(), None
    try:
        if "more" not in fields:
            body = {"image": forms.body_of(forms.values_of_fields(fields))}
            values = request.bodies.parse_create(body, request.context)
            return done("created", Image.register(values, request.context, request.settings.api))
    except REFUSALS as error:
        refusal = error
    return form_page(forms.scalars_of_fields(fields), forms.rows_of_fields(fields), refusal)


def show_edit_form(image_id):
    Image.require_changeable(image_id, request.context)
    seen = see(image_id)
    values = forms.values_of_record(seen.record)
    return form_page(values, forms.rows_of_values(values), seen=seen, tag=seen.tag, base=json.dumps(values))


def edit_image(image_id):
    Image.require_changeable(image_id, request.context)
    fields, refusal = read_form(), None
    tag, base = first(fields, "tag"), first(fields, "base")
    try:
        if "more" not in fields:
            return save(image_id, fields, tag)
    except PreconditionFailed:
        return clashes.clash_page(see(image_id), forms.values_of_fields(fields), base)
    except REFUSALS as error:
        refusal = error
    values, rows = forms.scalars_of_fields(fields), forms.rows_of_fields(fields)
    return form_page(values, rows, refusal, seen=see(image_id), tag=tag, base=base)


def save(image_id, fields, tag):
    """Write what the form changes, if the record is still the one that it was filled in on."""
    seen = see(image_id)
    values = clashes.chosen(fields, forms.values_of_fields(fields), forms.values_of_record(seen.record))
    if tag != seen.tag:
        raise PreconditionFailed
    changes, _ = request.bodies.parse_update({"image": forms.body_of(values, seen.record)}, request.context)
    row = change(image_id, changes, tag, purges_properties="properties" in changes) if changes else seen.record
    return done("changed", row)


def change(image_id, changes, tag, *, purges_properties=False):
    options = {"api": request.settings.api, "from_state": None, "purges_properties": purges_properties}
    return Image.change(image_id, changes, request.context, tags=ETags([tag]), **options)


def form_page(values, rows, refusal=None, *, seen=None, tag="", base=""):
    """The form of a new image, or of the one ``seen``; what was refused is said beside its fields."""
    errors = refusal.errors if isinstance(refusal, Invalid) else {}
    for shape in ("location", "location_data"):
        errors = {"locations" if name == shape else name: texts for name, texts in errors.items()}
    api = request.settings.api
    choices = {
        "status": UPDATE_STATUSES if seen else CREATE_STATUSES,
        "disk_format": api.disk_formats,
        "container_format": api.container_formats,
    }
    shown = [*rows, *[("", "")] * (MORE_ROWS if refusal is None and any(rows) and not seen else EMPTY_ROWS)]
    status = 200 if refusal is None else refusal.status
    return render(
        "form.html",
        status,
        values=values,
        rows=shown,
        errors=errors,
        refusal=refusal,
        choices=choices,
        seen=seen,
        tag=tag,
        base=base,
        form_token=sessions.form_token,
    )


def done(kind, row, place=None):
    sessions.send_notice(kind, row)
    return see_other(place or url_for("ui.show_image", image_id=row["id"]))


def attempted(image_id, action, entered=None):
    """What ``action`` answers; where it is refused, the image's page says why."""
    try:
        return action()
    except REFUSALS as error:
        return image_page(see(image_id), error.status, error, entered)


def share_image(image_id):
    Member.require_shareable(image_id, request.context)
    fields = read_form()
    member_id = first(fields, "member_id").strip()

    def share():
        member, can_share = parse_member(member_id, {"member": {"can_share": bool(first(fields, "can_share"))}})
        Member.put(image_id, member, can_share, request.context, request.settings.api)
        return done("shared", see(image_id).record)

    return attempted(image_id, share, {"member_id": member_id})


def unshare_image(image_id):
    """A member that is gone already is what was wanted."""
    Member.require_shareable(image_id, request.context)
    fields = read_form()
    try:
        Member.remove(image_id, first(fields, "member_id"), request.context, request.settings.api)
    except NotFound:
        see(image_id)
    return done("unshared", see(image_id).record)


def protect_image(image_id):
    Image.require_changeable(image_id, request.context)
    fields = read_form()
    is_protected = bool(first(fields, "protected"))

    def protect():
        row = change(image_id, {"protected": is_protected}, first(fields, "tag"))
        return done("protected" if is_protected else "unprotected", row)

    return attempted(image_id, protect)


def show_delete_page(image_id):
    Image.require_changeable(image_id, request.context)
    return delete_page(see(image_id))


def delete_page(seen, refusal=None):
    status = 200 if refusal is None else refusal.status
    return render("delete.html", status, seen=seen, image=seen.record, refusal=refusal, form_token=sessions.form_token)


def delete_image(image_id):
    Image.require_changeable(image_id, request.context)
    fields = read_form()
    try:
        row = Image.remove(image_id, request.context, request.settings.api, ETags([first(fields, "tag")]))
    except REFUSALS as error:
        return delete_page(see(image_id), error)
    return done("deleted", row, view_link(first(fields, "view")))


def undelete_image(image_id):
    """For admins: others do not see what is deleted."""
    Image.require_changeable(image_id, request.context)
    read_form()

    def undelete():
        return done("undeleted", Image.restore(image_id, request.context, request.settings.api, None))

    return attempted(image_id, undelete)
