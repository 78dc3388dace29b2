"""Forms that change images: create, edit, share, protect, delete, undelete."""

from contextlib import suppress

from flask import g, request
from werkzeug.datastructures import ETags

from errors import Conflict, Invalid, NotFound, PreconditionFailed, RegistryError, TooLarge
from members import Member, parse_member
from models import GONE, Image
from schemas import CREATE_STATUSES, UPDATE_STATUSES
from storage.fields import WRITABLE_FIELDS
from ui import conflicts, forms, sessions
from ui.forms import first, read_fields, read_form
from ui.image import curl_change, image_page, see
from ui.image_list import view_link
from ui.labels import LABELS
from ui.rendering import page_url, render, see_other
from web import log_failure

EMPTY_ROWS, MORE_ROWS = 3, 10
# Deletion has its own button.
CHOSEN_STATUSES = tuple(status for status in UPDATE_STATUSES if status not in GONE)
DELETED = "The image is deleted: undelete it first."
GONE_MEANWHILE = "The image was deleted, or is no longer shared with you. Your entries are kept below."
TOO_LARGE = "This image is too large for a form. Change single fields through the API:"


def show_create_form():
    request.context.require_may_create()
    return form_page(forms.defaults(request.settings.api), [])


def create_image():
    fields = read_fields()
    request.context.require_may_create()
    read_form()
    if "more" in fields:
        return form_again()
    values = parsed(request.bodies.parse_create, fields, forms.values_of_fields(fields))
    return done("created", Image.register(values, request.context))


def show_edit_form(image_id):
    Image.require_changeable(image_id, request.context)
    seen = see(image_id)
    if seen.record["deleted"]:
        return image_page(seen, Conflict.status, Conflict(DELETED))
    values = forms.values_of_record(seen.record)
    rows = forms.rows_of_values(values)
    try:
        forms.require_sendable(values, rows)
    except TooLarge as error:
        return image_page(seen, error.status, TooLarge(f"{TOO_LARGE} {curl_change(image_id)}"))
    return form_page(values, rows, image=seen.record, etag=seen.etag, base=conflicts.base_of(values))


def edit_image(image_id):
    fields = read_fields()
    Image.require_changeable(image_id, request.context)
    read_form()
    if "more" in fields:
        return form_again()
    try:
        return save(image_id, fields, first(fields, "etag"))
    except PreconditionFailed:
        return conflicts.conflict_page(see(image_id), fields)


def save(image_id, fields, etag):
    """Store the changes of the form, if the record is unchanged since it was opened."""
    record, present = see(image_id)[:2]
    if record["deleted"]:
        raise Conflict(DELETED)
    values = conflicts.resolve(fields, forms.values_of_fields(fields, record), forms.values_of_record(record))
    if etag != present:
        raise PreconditionFailed
    changes, _ = parsed(request.bodies.parse_update, fields, values, record)
    if not changes:
        return done("unchanged", record)
    return done("changed", change(image_id, changes, etag, purges_properties="properties" in changes))


def parsed(parse, fields, values, record=None):
    """Return ``parse`` of the form as a request body.

    Raises: Invalid with every error of the form, in the order of its fields.
    """
    faults, made = forms.faults_of_fields(fields, record), None
    try:
        body = {"image": forms.body_of(values, record)}
        made = parse(body, request.context)
    except Invalid as error:
        for name, texts in error.errors.items():
            faults.setdefault("locations" if name == "location_data" else name, texts)
    if faults:
        raise Invalid({name: faults[name] for name in sorted(faults, key=[*LABELS].index)})
    return made


def change(image_id, changes, etag, *, purges_properties=False):
    options = {"from_state": None, "purges_properties": purges_properties}
    return Image.change(image_id, changes, request.context, etags=ETags([etag]), **options)


def form_again(refusal=None):
    """Return the submitted form again with its entries and the error.

    Returns: the page, or None if the request is no create or edit form.
    """
    if request.endpoint not in ("ui.create_image", "ui.edit_image") or "fields" not in g:
        return None
    fields, image_id = g.fields, request.view_args.get("image_id")
    values, image = forms.scalars_of_fields(fields), None
    if image_id is not None:
        image = {"id": image_id, "name": values["name"], "status": values["status"], "deleted": False}
        with suppress(RegistryError):
            image = see(image_id).record
    if isinstance(refusal, NotFound):
        refusal = NotFound(GONE_MEANWHILE)
    rows = [row for row in forms.rows_of_fields(fields) if any(row)]
    return form_page(values, rows, refusal, image=image, etag=first(fields, "etag"), base=first(fields, "base"))


def form_page(values, rows, refusal=None, *, image=None, etag="", base=""):
    """Return the form of a new image or of ``image``, with errors beside the fields."""
    api = request.settings.api
    choices = {
        "status": {**dict.fromkeys(CHOSEN_STATUSES), image["status"]: None} if image else CREATE_STATUSES,
        "disk_format": api.disk_formats,
        "container_format": api.container_formats,
    }
    return render(
        "form.html",
        200 if refusal is None else refusal.status,
        fields=WRITABLE_FIELDS,
        values=values,
        rows=[*rows, *[("", "")] * (MORE_ROWS if "more" in g.get("fields", ()) else EMPTY_ROWS)],
        errors=refusal.errors if isinstance(refusal, Invalid) else {},
        refusal=refusal,
        choices=choices,
        image=image,
        etag=etag,
        base=base,
    )


def done(kind, row, place=None, about=""):
    sessions.send_notice(kind, row, about)
    return see_other(place or page_url(row["id"]))


def attempted(image_id, action):
    """Return the response of ``action``, or the image's page with the error."""
    fields = read_fields()
    try:
        read_form()
        return action(fields)
    except RegistryError as error:
        log_failure(error)
        return image_page(see(image_id), error.status, error, fields)


def share_image(image_id):
    Member.require_shareable(image_id, request.context)

    def share(fields):
        member_id = first(fields, "member_id").strip()
        if not member_id:
            raise Invalid({"member_id": ["Must not be blank."]})
        member, can_share = parse_member(member_id, {"member": {"can_share": bool(first(fields, "can_share"))}})
        Member.put(image_id, member, can_share, request.context)
        return done("shared", see(image_id).record, about=member)

    return attempted(image_id, share)


def unshare_image(image_id):
    """Remove a member; an absent member is no error."""
    Member.require_shareable(image_id, request.context)

    def unshare(fields):
        member_id = first(fields, "member_id")
        with suppress(NotFound):
            Member.remove(image_id, member_id, request.context)
        return done("unshared", see(image_id).record, about=member_id)

    return attempted(image_id, unshare)


def protect_image(image_id):
    Image.require_changeable(image_id, request.context)

    def protect(fields):
        is_protected = bool(first(fields, "protected"))
        row = change(image_id, {"protected": is_protected}, first(fields, "etag"))
        return done("protected" if is_protected else "unprotected", row)

    return attempted(image_id, protect)


def show_delete_page(image_id):
    Image.require_changeable(image_id, request.context)
    return delete_page(see(image_id))


def delete_page(seen, refusal=None):
    if seen.record["deleted"]:
        return image_page(seen, Conflict.status, Conflict("The image is deleted already."))
    return render(
        "delete.html", 200 if refusal is None else refusal.status, seen=seen, image=seen.record, refusal=refusal
    )


def delete_image(image_id):
    Image.require_changeable(image_id, request.context)
    try:
        fields = read_form()
        row = Image.remove(image_id, request.context, ETags([first(fields, "etag")]))
    except RegistryError as error:
        log_failure(error)
        return delete_page(see(image_id), error)
    return done("deleted", row, view_link(first(fields, "view")))


def undelete_image(image_id):
    """Undelete an image; only admins see deleted images."""
    Image.require_changeable(image_id, request.context)

    def undelete(fields):
        return done("undeleted", Image.restore(image_id, request.context, None))

    return attempted(image_id, undelete)
