"""With whom images are shared, and who may share them on."""

from peewee import BooleanField, CharField, CompositeKey, ForeignKeyField, IntegerField

import history
from errors import Forbidden, NotFound, Unauthorized
from models import Image, Table
from quotas import UNLIMITED, quota_of, require_room
from storage.documents import member_digest
from storage.engine import database, execute, reading, writing
from storage.timestamps import current_time


class Member(Table):
    image = ForeignKeyField(Image, on_delete="CASCADE")
    member = CharField(255)
    can_share = BooleanField(default=False)
    digest = IntegerField(default=0)  # see ``documents.member_digest``

    class Meta:
        primary_key = CompositeKey("image", "member")
        without_rowid = True

    @classmethod
    def list_of(cls, image_id, context):
        """[(member_id, can_share)] as far as the caller may know. Raises NotFound."""
        with reading():
            row = Image.find(image_id, context)
            members = cls.select(cls.member, cls.can_share).where(cls.image == row["pk"]).order_by(cls.member)
            entries = list(members.tuples())
            if context.is_owner_of(row["owner"]) or (context.tenant, True) in entries:
                return entries
            return [entry for entry in entries if entry[0] == context.tenant]

    @classmethod
    def shared_with(cls, member_id, context):
        """[(image_id, can_share)]: to a caller its own, or those of its images that it shares. Never deleted ones."""
        with reading():
            entries = cls.select(Image.id, cls.can_share).join(Image).order_by(Image.created_at, Image.id)
            entries = entries.where((cls.member == member_id) & (Image.deleted == False))  # noqa: E712
            if not (context.is_admin or context.tenant == member_id):
                entries = entries.where(Image.owner == context.tenant)
            return list(entries.tuples()) if context.is_admin or context.tenant is not None else []

    @classmethod
    def find_shareable(cls, image_id, context):
        """The image's row. Raises NotFound, Unauthorized, Forbidden where the caller may not share it on."""
        row = Image.find(image_id, context)
        context.require_may_write()
        if not context.is_owner_of(row["owner"]):
            if context.tenant is None:
                raise Unauthorized("Only a tenant's user or an admin may share images.")
            is_sharing = (cls.image == row["pk"]) & (cls.member == context.tenant) & (cls.can_share == True)  # noqa: E712
            if not cls.select().where(is_sharing).exists():
                raise Forbidden("Only the image's owner, an admin, or a member who can share may do this.")
        return row

    @classmethod
    def require_shareable(cls, image_id, context):
        """Before the body is read: raises as ``find_shareable`` does."""
        with reading():
            cls.find_shareable(image_id, context)

    @classmethod
    def replace_all(cls, image_id, memberships, context, api):
        """Make ``{member_id: can_share or None}`` the whole set. Raises as ``find_shareable`` does."""
        with writing():
            row = cls.find_shareable(image_id, context)
            before = cls.shares_of(row["pk"])
            require_room(api, context, "image_member_quota", len(memberships), len(before))
            cls.delete().where(cls.image == row["pk"]).execute()
            shares = {
                member_id: before.get(member_id, False) if can_share is None else can_share
                for member_id, can_share in memberships.items()
            }
            rows = [(*entry, member_digest(*entry)) for entry in ((row["pk"], *share) for share in shares.items())]
            database.connection().executemany("INSERT INTO member VALUES (?, ?, ?, ?)", rows)
            history.note_sharing(row["pk"], current_time(), context, before, shares, api.image_history_limit)

    @classmethod
    def put(cls, image_id, member_id, can_share, context, api):
        """Add a member, or change its can_share unless that is None. Raises as ``find_shareable`` does."""
        with writing():
            row = cls.find_shareable(image_id, context)
            before = cls.shares_of(row["pk"], member_id)
            if not before and quota_of(api, context, "image_member_quota") != UNLIMITED:
                present = cls.select().where(cls.image == row["pk"]).count()
                require_room(api, context, "image_member_quota", present + 1, present)
            after = {member_id: before.get(member_id, False) if can_share is None else can_share}
            if after != before:
                digest = member_digest(row["pk"], member_id, after[member_id])
                execute("REPLACE INTO member VALUES (?, ?, ?, ?)", (row["pk"], member_id, after[member_id], digest))
                history.note_sharing(row["pk"], current_time(), context, before, after, api.image_history_limit)

    @classmethod
    def remove(cls, image_id, member_id, context, api):
        """Raises as ``find_shareable`` does, and NotFound where it is no member."""
        with writing():
            row = cls.find_shareable(image_id, context)
            before = cls.shares_of(row["pk"], member_id)
            if not before:
                # Clients of the time look for this sentence.
                raise NotFound("Membership could not be found.")
            cls.delete().where((cls.image == row["pk"]) & (cls.member == member_id)).execute()
            history.note_sharing(row["pk"], current_time(), context, before, {}, api.image_history_limit)

    @classmethod
    def shares_of(cls, pk, member_id=None):
        """{member_id: can_share} of all members, or of the one."""
        is_asked = (cls.image == pk) if member_id is None else (cls.image == pk) & (cls.member == member_id)
        return dict(cls.select(cls.member, cls.can_share).where(is_asked).tuples())
