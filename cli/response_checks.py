"""Validation of responses: a server at --url can send anything."""

from storage.fields import FIELDS

TEXT, TRUTH = (str, type(None)), (bool,)
TYPES = {"image_id": (str,), "count": (int, type(None)), "flag": TRUTH}
# Fields that commands read, with their types.
RECORD = {
    **{field.name: TYPES.get(field.kind, TEXT) for field in FIELDS if field.is_in_document},
    "location": TEXT,
    "properties": (dict,),
    "location_data": (list,),
}
MEMBER = {"member_id": (str,), "can_share": TRUTH}
CHANGE = {"at": (str,), "action": (str,), "by": (dict,), "changes": (list,)}


def is_like(value, types):
    return isinstance(value, dict) and all(isinstance(value.get(name, ...), kinds) for name, kinds in types.items())


def is_record(value):
    return is_like(value, RECORD)


def is_list_of_records(value):
    return isinstance(value, list) and all(map(is_record, value))


def is_list_of_members(value):
    return isinstance(value, list) and all(is_like(entry, MEMBER) for entry in value)


def is_list_of_changes(value):
    return isinstance(value, list) and all(is_like(entry, CHANGE) for entry in value)
