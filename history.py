"""What was changed of an image, when and by whom: its newest changes, as far as [api] image_history_limit goes."""

import orjson

from storage.documents import CHANGE_COLUMNS, change_digest, fits
from storage.engine import damaged, execute

FIELDS = (
    *("name", "status", "disk_format", "container_format", "size", "virtual_size", "checksum", "min_disk", "min_ram"),
    *("owner", "visibility", "protected"),
)
LONGEST_TEXT = 255
MOST_CHANGES = 200
LAST = "SELECT coalesce(max(number), 0) FROM change WHERE image_id = ?"
INSERT = """INSERT INTO change (image_id, number, at, action, tenant, is_admin, changes, digest)
    VALUES (:image_id, :number, :at, :action, :tenant, :is_admin, :changes, :digest)"""
FORGET = "DELETE FROM change WHERE image_id = ? AND number <= ?"
LIST = """SELECT image_id, number, at, action, tenant, is_admin, changes, digest FROM change
    WHERE image_id = ? ORDER BY number DESC"""


def note(pk, at, action, context, changes, limit):
    """Keep an entry, and of the image's no more than ``limit``, within the transaction of the change itself.

    ``action`` is one of created, updated, deleted, undeleted, shared, unshared; ``changes`` are of ``differences``.
    """
    if not limit:
        return
    number = 1 if action == "created" else execute(LAST, (pk,)).fetchone()[0] + 1
    entry = {"image_id": pk, "number": number, "at": at, "action": action, "tenant": context.tenant}
    entry |= {"is_admin": int(context.is_admin), "changes": orjson.dumps(changes[:MOST_CHANGES]).decode()}
    execute(INSERT, entry | {"digest": change_digest(entry)})
    if number > limit:
        execute(FORGET, (pk, number - limit))


def entries(pk):
    """[dict] as the API shows them, the newest first. Raises DatabaseUnavailable where one does not fit its digest."""
    return [shown(values) for values in execute(LIST, (pk,))]


def shown(values):
    *columns, digest = values
    entry = dict(zip(CHANGE_COLUMNS, columns, strict=True))
    if not fits(digest, change_digest, entry):
        raise damaged("The image's history")
    return {
        "at": entry["at"],
        "action": entry["action"],
        "by": {"tenant": entry["tenant"], "is_admin": bool(entry["is_admin"])},
        "changes": orjson.loads(entry["changes"]),
    }


def differences(before, after, parts_before, parts_after):
    """[{"field", "from", "to"}] of what differs between two rows and their models.Parts; properties have a "name" too.

    A property that was not there has no "from", one that is not there any more no "to". Of locations it is said only
    that they changed: they can carry credentials.
    """
    changes = [
        {"field": name, "from": shortened(before[name]), "to": shortened(after[name])}
        for name in FIELDS
        if before[name] != after[name]
    ]
    changes += named_differences("property", parts_before.properties, parts_after.properties)
    return changes if parts_before.locations == parts_after.locations else [*changes, {"field": "locations"}]


def note_sharing(pk, at, context, before, after, limit):
    """Keep what differs between two {member_id: can_share}."""
    changes = named_differences("member", before, after)
    if changes:
        note(pk, at, "unshared" if after.keys() < before.keys() else "shared", context, changes, limit)


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
