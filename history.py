"""Change log of each image: its newest changes, up to [api] image_history_limit."""

import orjson
from peewee import SQL, CharField, CompositeKey, IntegerField, Model, TextField

from storage.documents import change_digest, fits
from storage.engine import damaged, database, execute, malformed_json
from storage.fields import HISTORY_FIELDS

LONGEST_TEXT = 255
MOST_CHANGES = 200
# SQL as text serves POST and PUT: Peewee's builder takes 160 µs for each of these, SQLite 4 µs.
LAST = "SELECT coalesce(max(number), 0) FROM change WHERE image_id = ?"
INSERT = """INSERT INTO change (image_id, number, at, action, tenant, is_admin, changes, digest)
    VALUES (:image_id, :number, :at, :action, :tenant, :is_admin, :changes, :digest)"""


class Change(Model):
    """An entry of an image's history."""

    # A plain column: the table of images is declared above this module.
    image_id = IntegerField(constraints=[SQL("REFERENCES image (pk) ON DELETE CASCADE")])
    number = IntegerField()
    at = CharField(26)
    action = CharField(9)  # created, updated, deleted, undeleted, shared, unshared
    tenant = CharField(255, null=True)
    is_admin = IntegerField()
    changes = TextField()  # a JSON array
    digest = IntegerField()  # see ``documents.change_digest``

    class Meta:
        database = database
        primary_key = CompositeKey("image_id", "number")
        without_rowid = True


def note(pk, at, action, context, changes):
    """Store an entry, and delete those beyond the limit, within a transaction.

    ``changes`` are of ``differences``.
    """
    limit = context.limits.image_history_limit
    if not limit:
        return
    number = 1 if action == "created" else execute(LAST, (pk,)).fetchone()[0] + 1
    entry = {"image_id": pk, "number": number, "at": at, "action": action, "tenant": context.tenant}
    entry |= {"is_admin": int(context.is_admin), "changes": orjson.dumps(changes[:MOST_CHANGES]).decode()}
    execute(INSERT, entry | {"digest": change_digest(entry)})
    if number > limit:
        Change.delete().where((Change.image_id == pk) & (Change.number <= number - limit)).execute()


def entries(pk):
    """Return the entries as the API shows them, newest first.

    Raises: DatabaseUnavailable for a wrong checksum.
    """
    found = Change.select().where(Change.image_id == pk).order_by(Change.number.desc())
    try:
        rows = list(found.dicts())
    except ValueError as error:  # of bytes that are not text, or text that is not a number
        raise damaged("The image's history") from error
    return [render_entry(row) for row in rows]


def render_entry(entry):
    if not fits(entry["digest"], change_digest, entry):
        raise damaged("The image's history")
    return {
        "at": entry["at"],
        "action": entry["action"],
        "by": {"tenant": entry["tenant"], "is_admin": bool(entry["is_admin"])},
        "changes": orjson.loads(entry["changes"]),
    }


def renew_checksums(pk):
    """Give the entries of an image new checksums, and delete those that are not JSON.

    Within a transaction.
    """
    Change.delete().where((Change.image_id == pk) & malformed_json(Change.changes)).execute()
    for entry in Change.select().where(Change.image_id == pk).dicts():
        changed = Change.update(digest=change_digest(entry))
        changed.where((Change.image_id == pk) & (Change.number == entry["number"])).execute()


def differences(before, after):
    """Return [{"field", "from", "to"}] of what differs between two models.Record.

    Properties have a "name" too.

    A new property has no "from", a removed one no "to". Locations are only named, since they can carry credentials.
    """
    changes = [
        {"field": name, "from": shortened(before.row[name]), "to": shortened(after.row[name])}
        for name in HISTORY_FIELDS
        if before.row[name] != after.row[name]
    ]
    changes += named_differences("property", before.properties, after.properties)
    return changes if before.locations == after.locations else [*changes, {"field": "locations"}]


def note_sharing(pk, at, context, before, after):
    """Store what differs between two {member_id: can_share}."""
    changes = named_differences("member", before, after)
    if changes:
        note(pk, at, "unshared" if after.keys() < before.keys() else "shared", context, changes)


def named_differences(field, before, after):
    changes = []
    for name in sorted(before.keys() | after.keys()):
        values = {
            side: shortened(mapping[name]) for side, mapping in (("from", before), ("to", after)) if name in mapping
        }
        if len(values) < 2 or before[name] != after[name]:
            changes.append({"field": field, "name": name, **values})
    return changes


def shortened(value):
    return value if not isinstance(value, str) or len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}…"
