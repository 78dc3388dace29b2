"""Link headers to the next page of a list (RFC 8288)."""

from functools import lru_cache
from urllib.parse import quote, unquote_plus

# gunicorn accepts request lines of 8,190 bytes; a longer next link omits the position.
LONGEST_QUERY = 8000
SAFE_IN_QUERY = "%=!$'()*+,;:@/?-._~"  # RFC 3986


def next_link(path, query_string, marker, position):
    """Return the Link header of the page after ``marker`` with its encoded position."""
    by_marker = f"{kept_parameters(query_string)}marker={marker}"
    parameters = f"{by_marker}&position={position}"
    if len(parameters) > LONGEST_QUERY:
        parameters = by_marker
    return f'<{path}?{parameters}>; rel="next"'


@lru_cache(maxsize=512)
def kept_parameters(query_string):
    """Return the query as the client wrote it, without marker and position."""
    named = [(unquote_plus(part.partition("=")[0]), part) for part in query_string.decode("latin-1").split("&")]
    kept = [part for name, part in named if part and name not in ("marker", "position")]
    return "".join(f"{quote(part, safe=SAFE_IN_QUERY, encoding='latin-1')}&" for part in kept)
