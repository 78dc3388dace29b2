"""What callers who are no admins may add: how much of it, and locations of which schemes; by the section [api]."""

from errors import Invalid, QuotaExceeded

# The quota's option → what an answer calls that which it counts.
COUNTED = {
    "image_property_quota": "properties of an image",
    "image_member_quota": "members of an image",
    "image_location_quota": "locations of an image",
    "user_image_quota": "images of a tenant",
}
UNLIMITED = -1


def quota_of(api, context, name):
    """UNLIMITED, or the number."""
    quota = UNLIMITED if context.is_admin else getattr(api, name)
    return UNLIMITED if name == "user_image_quota" and quota == 0 else quota


def require_room(api, context, name, attempted, present=0):
    """Raises QuotaExceeded where there would be more than the quota, unless there were as many before."""
    quota = quota_of(api, context, name)
    if quota != UNLIMITED and attempted > max(quota, present):
        raise QuotaExceeded(f"[api] {name} allows {quota} {COUNTED[name]}; with this there would be {attempted}.")


def require_locations(api, context, locations, present=()):
    """Raises Invalid, QuotaExceeded; ``locations`` and those ``present`` are [(url, …)], and what is there may stay.

    A refused URL is not repeated: it can carry credentials.
    """
    require_room(api, context, "image_location_quota", len(locations), len(present))
    added = {url for url, *_ in locations} - {url for url, *_ in present}
    schemes = {url.partition(":")[0].lower() for url in added}
    if not context.is_admin and not schemes <= set(api.location_schemes):
        raise Invalid({"location": [f"Must be a URL of one of the schemes {', '.join(api.location_schemes)}."]})
