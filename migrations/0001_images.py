"""Images, their properties, locations and members."""

from peewee import (
    SQL,
    AutoField,
    BigIntegerField,
    BooleanField,
    CharField,
    CompositeKey,
    ForeignKeyField,
    IntegerField,
    Model,
    TextField,
)

from migrations import APPLICATION_ID


def up(migrator, db):
    class Image(Model):
        pk = AutoField()
        id = CharField(36, unique=True)
        name = CharField(255, null=True)
        status = CharField(30)
        disk_format = CharField(20, null=True)
        container_format = CharField(20, null=True)
        size = BigIntegerField(null=True)
        virtual_size = BigIntegerField(null=True)
        checksum = CharField(32, null=True)
        min_disk = IntegerField()
        min_ram = IntegerField()
        owner = CharField(255, null=True)
        visibility = CharField(9)
        protected = BooleanField()
        created_at = CharField(26)
        updated_at = CharField(26)
        deleted = BooleanField()
        deleted_at = CharField(26, null=True)
        revision = IntegerField()
        nonce = CharField(16)

        class Meta:
            database = db
            table_name = "image"
            constraints = [SQL("CHECK (visibility IN ('public', 'private', 'shared', 'community'))")]
            indexes = (
                (("created_at", "id"), False),
                (("updated_at", "created_at", "id"), False),
                (("name", "created_at", "id"), False),
                (("size", "created_at", "id"), False),
                (("owner", "created_at", "id"), False),
            )

    class Property(Model):
        image = ForeignKeyField(Image, on_delete="CASCADE", index=False)
        name = CharField(255)
        value = TextField(null=True)

        class Meta:
            database = db
            table_name = "property"
            primary_key = CompositeKey("image", "name")
            without_rowid = True
            indexes = ((("name", "value"), False),)

    class Location(Model):
        image = ForeignKeyField(Image, on_delete="CASCADE", index=False)
        position = IntegerField()
        url = TextField()
        metadata = TextField()
        status = CharField(14)

        class Meta:
            database = db
            table_name = "location"
            primary_key = CompositeKey("image", "position")
            without_rowid = True

    class Member(Model):
        image = ForeignKeyField(Image, on_delete="CASCADE", index=False)
        member = CharField(255)
        can_share = BooleanField()

        class Meta:
            database = db
            table_name = "member"
            primary_key = CompositeKey("image", "member")
            without_rowid = True
            indexes = ((("member",), False),)

    db.create_tables([Image, Property, Location, Member])
    db.pragma("application_id", APPLICATION_ID)
