"""Validation of responses: a server at --url can send anything."""

TEXT, WHOLE, TRUTH = (str, type(None)), (int, type(None)), (bool,)
# Fields that commands read, with their types.
RECORD = {
    "id": (str,),
    **dict.fromkeys(("name", "status", "disk_format", "container_format", "checksum", "owner", "location"), TEXT),
    **dict.fromkeys(("created_at", "updated_at", "deleted_at"), TEXT),
    **dict.fromkeys(("size", "virtual_size", "min_disk", "min_ram"), WHOLE),
    **dict.fromkeys(("is_public", "protected", "deleted"), TRUTH),
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
