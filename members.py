"""Members of images: tenants that an image is shared with."""

from marshmallow import EXCLUDE, Schema, ValidationError
from peewee import BooleanField, CharField, CompositeKey, ForeignKeyField, IntegerField

import history
from auth import UNLIMITED
from errors import Forbidden, Invalid, NotFound, Unauthorized
from models import Image, Table
from schemas import flag, load, require_object, sentences, text
from storage.documents import member_digest
from storage.engine import executemany, reading, writing
from storage.timestamps import current_time

# SQL as text serves imports, of millions of rows: Peewee's builder has no executemany.
STORE = """INSERT INTO member (image_id, member, can_share, digest) VALUES (?, ?, ?, ?)
    ON CONFLICT (image_id, member) DO UPDATE SET can_share = excluded.can_share, digest = excluded.digest"""
MEMBER = Schema.from_dict({"member_id": text(shortest=1, required=True), "can_share": flag()})(unknown=EXCLUDE)


class Member(Table):
    """A tenant that an image is shared with."""

    image = ForeignKeyField(Image, on_delete="CASCADE")
    member = CharField(255)
    can_share = BooleanField(default=False)
    digest = IntegerField(default=0)  # see ``documents.member_digest``

    class Meta:
        primary_key = CompositeKey("image", "member")
        without_rowid = True

    @classmethod
    def list_of(cls, image_id, context):
        """Return [(member_id, can_share)] as far as the caller may know. Raises NotFound."""
        with reading():
            row = Image.find(image_id, context)
            shares = cls.shares_of(row["pk"])
        if context.is_owner_of(row["owner"]) or shares.get(context.tenant):
            return list(shares.items())
        return [share for share in shares.items() if share[0] == context.tenant]

    @classmethod
    def shared_with(cls, member_id, context):
        """Return [(image_id, can_share)] of the undeleted images shared with a member.

        Admins see all, a tenant those shared with itself; with another member, those among its own images.
        """
        if context.tenant is None and not context.is_admin:
            return []
        with reading():
            entries = cls.select(Image.id, cls.can_share).join(Image).order_by(Image.created_at, Image.id)
            entries = entries.where((cls.member == member_id) & (Image.deleted == False))  # noqa: E712
            if not (context.is_admin or context.tenant == member_id):
                entries = entries.where(Image.owner == context.tenant)
            return list(entries.tuples())

    @classmethod
    def find_shareable(cls, image_id, context):
        """Return the row of an image that the caller may share.

        Raises: NotFound, Unauthorized, Forbidden.
        """
        row = Image.find(image_id, context)
        context.require_may_write()
        if not context.is_owner_of(row["owner"]):
            if context.tenant is None:
                raise Unauthorized("Only a tenant's user or an admin may share images.")
            if not cls.shares_of(row["pk"], context.tenant).get(context.tenant):
                raise Forbidden("Only the image's owner, an admin, or a member who can share may do this.")
        return row

    @classmethod
    def require_shareable(cls, image_id, context):
        """Raise what ``find_shareable`` raises, before the body is read."""
        with reading():
            cls.find_shareable(image_id, context)

    @classmethod
    def replace_all(cls, image_id, memberships, context):
        """Replace the members by ``{member_id: can_share or None}``.

        Raises as ``find_shareable`` does.
        """
        with writing():
            row = cls.find_shareable(image_id, context)
            before = cls.shares_of(row["pk"])
            context.require_room("image_member_quota", len(memberships), len(before))
            shares = {
                member_id: before.get(member_id, False) if can_share is None else can_share
                for member_id, can_share in memberships.items()
            }
            cls.delete().where(cls.image == row["pk"]).execute()
            cls.store(row["pk"], shares)
            history.note_sharing(row["pk"], current_time(), context, before, shares)

    @classmethod
    def put(cls, image_id, member_id, can_share, context):
        """Add a member, or change its can_share unless that is None.

        Raises as ``find_shareable`` does.
        """
        with writing():
            row = cls.find_shareable(image_id, context)
            before = cls.shares_of(row["pk"], member_id)
            if not before and context.quota("image_member_quota") != UNLIMITED:
                present = cls.select().where(cls.image == row["pk"]).count()
                context.require_room("image_member_quota", present + 1, present)
            after = {member_id: before.get(member_id, False) if can_share is None else can_share}
            if after != before:
                cls.store(row["pk"], after)
                history.note_sharing(row["pk"], current_time(), context, before, after)

    @classmethod
    def remove(cls, image_id, member_id, context):
        """Remove a member.

        Raises as ``find_shareable`` does, and NotFound for one that is none.
        """
        with writing():
            row = cls.find_shareable(image_id, context)
            before = cls.shares_of(row["pk"], member_id)
            if not before:
                # Clients of Glance Registry compare this sentence.
                raise NotFound("Membership could not be found.")
            cls.delete().where((cls.image == row["pk"]) & (cls.member == member_id)).execute()
            history.note_sharing(row["pk"], current_time(), context, before, {})

    @classmethod
    def shares_of(cls, pk, member_id=None):
        """Return {member_id: can_share} of all members in their order, or of the one."""
        is_asked = (cls.image == pk) if member_id is None else (cls.image == pk) & (cls.member == member_id)
        return dict(cls.select(cls.member, cls.can_share).where(is_asked).order_by(cls.member).tuples())

    @classmethod
    def store(cls, pk, shares):
        """Add members ``{member_id: can_share}``, or replace their entries.

        Within a transaction.
        """
        rows = [(pk, *share, member_digest(pk, *share)) for share in shares.items()]
        executemany(STORE, rows)


def parse_memberships(body):
    """Return {member_id: can_share, or None if it is omitted}. Raises Invalid."""
    if not isinstance(body.get("memberships"), list):
        raise Invalid({"memberships": ["Must be a list of {member_id, can_share}."]})
    memberships = {}
    for number, entry in enumerate(body["memberships"]):
        member = load_entry(entry, number)
        if member["member_id"] in memberships:
            raise Invalid({"memberships": [f"{number}.member_id: Must not be named twice."]})
        memberships[member["member_id"]] = member.get("can_share")
    return memberships


def load_entry(entry, number):
    """Load one object of a list. Raises Invalid that names its place in the list."""
    if not isinstance(entry, dict):
        raise Invalid({"memberships": [f"{number}: Must be an object {{{', '.join(MEMBER.fields)}}}."]})
    try:
        return MEMBER.load(entry)
    except ValidationError as error:
        raise Invalid({"memberships": list(sentences({str(number): error.messages}))}) from None


def parse_member(member_id, body):
    """Return (member_id, can_share or None) of a body, or of None without one.

    Raises: Invalid.
    """
    entry = {} if body is None else require_object(body, "member")
    return member_id, load(MEMBER, {**entry, "member_id": member_id}).get("can_share")
