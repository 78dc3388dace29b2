"""Records in files: one line of an import or export holds an image with its visibility and members."""

import orjson
from marshmallow import ValidationError

import members
import models
import schemas
import web
from errors import Invalid
from storage.fields import PUBLIC, VISIBILITIES


def parse_members(value):
    """Return {member_id: can_share}."""
    try:
        memberships = members.parse_memberships({"memberships": value})
    except Invalid as error:
        raise ValidationError(error.errors["memberships"]) from None
    return {member_id: bool(can_share) for member_id, can_share in memberships.items()}


# Fields that only exports have.
EXTRAS = {
    "deleted": schemas.flag(),
    "deleted_at": schemas.moment(),
    "visibility": schemas.word(VISIBILITIES),
    "members": schemas.Value(parse_members, "Must be a list of {member_id, can_share}."),
}


class RecordParser:
    """Parser of records as POST /images takes them from an admin, with the fields that exports add."""

    def __init__(self, api):
        required, nullable = {"required": api.strict_create}, {"allow_none": not api.strict_create}
        self.schema = schemas.image_schema(api, schemas.UPDATE_STATUSES, required, required | nullable, EXTRAS)

    def parse(self, line):
        """Return the values of a line in bytes, or raise Invalid."""
        values = schemas.load_new_image(self.schema, parse_object(line))
        require_agreement(values)
        models.require_pair(values)
        return values


def parse_object(line):
    try:
        return web.parse_json(line.rstrip())
    except Invalid as error:
        # A body can have several lines; a record is one.
        texts = [text.replace(", line 1 column ", ", column ") for text in error.errors["body"]]
        raise Invalid({"record": texts}) from None


def require_agreement(values):
    """Raise Invalid for two fields that contradict each other."""
    visibility = values.get("visibility")
    if visibility and values.get("is_public", visibility == PUBLIC) != (visibility == PUBLIC):
        raise Invalid({"visibility": ["Must be public if is_public is true, and another if it is false."]})
    if values.get("deleted_at") and not values.get("deleted"):
        raise Invalid({"deleted_at": ["Must be null, or left out, unless deleted is true."]})


def line_of(document, location_document, visibility, members):
    """Return the line of a record.

    The API's document, visibility, members ([[member_id, can_share]] as JSON).
    """
    if members != "[]":
        entries = [{"member_id": member, "can_share": bool(can_share)} for member, can_share in orjson.loads(members)]
        members = orjson.dumps(entries).decode()
    return f'{document}{location_document[:-1]},"visibility":"{visibility}","members":{members}}}\n'.encode()
