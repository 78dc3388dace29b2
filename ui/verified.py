"""Results of ``verify`` on the pages, as far as the caller may know them."""

from flask import request

from listing.pages import sees_locations
from storage import verifications


def read_results(images):
    """Return {image id: Verified} of records.

    A reason can name files, so only callers who see the locations of the image get it.
    """
    context, api = request.context, request.settings.api
    owners = {image["id"]: image["owner"] for image in images}
    return {
        image_id: result if sees_locations(owners[image_id], context, api) else result._replace(reason="")
        for image_id, result in verifications.read(owners).items()
    }
