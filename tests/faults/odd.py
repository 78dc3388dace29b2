"""Requests that no client should send: strategies for paths, queries, headers, bodies, and bytes on a socket."""

import base64
import json
from typing import NamedTuple
from urllib.parse import quote_from_bytes

from conftest import CALLERS, identity
from hypothesis import strategies as st

import schemas
from config import OPTIONS
from listing import parameters

# Registered before, so that requests reach what lies behind the first look at an image.
KNOWN_IDS = tuple(f"71c675ab-d94f-49cd-a114-e12490b3280{number}" for number in range(6))
MEMBERS = ("acme", "member", "owner", "sharer", "a/b")
WORDS = (*schemas.UPDATE_STATUSES, *parameters.SORT_KEYS, *schemas.BOOLEAN_WORDS, "none", "None", "asc", "desc", "raw")
WORDS += tuple(name for option in OPTIONS if option.name.endswith("_formats") for name in option.parse(option.default))
ODD_TEXTS = (
    "",
    "\0",
    "a\0b",
    "\ud800",
    "\udfff\ud800",
    "\ufeff",
    "é",
    "\N{PENGUIN}",
    "'",
    '"',
    "\\",
    "%",
    "%00",
    "%s",
    "{0}",
)
ODD_TEXTS += (
    "a" * 255,
    "a" * 256,
    "\N{PENGUIN}" * 256,
    "İ",
    "\r\nX: y",
    "\x7f",
    "\x1f",
    "../..",
    "' OR 1=1 --",
    "x" * 5000,
)
ODD_NUMBERS = (0, -1, 1, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**40, 10**400, -(2**63) - 1)
ODD_TIMES = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30", "2026-11-24", "20261124")
ODD_TIMES += ("2026-11-24T25:00:00", "1970-01-01T00:00:00+00:01", "2026-11-24T04:08:17.767932Z", "9998-12-31T23:59:60")
ODD_URLS = ("file:///x", "a:b", ":x", "x" * 4097 + ":y", "http://[::1", "swift+https://user:key@host/é", "a:\0")

text = st.one_of(st.sampled_from(ODD_TEXTS), st.sampled_from(WORDS), st.text(st.characters(), max_size=20))
number = st.one_of(st.sampled_from(ODD_NUMBERS), st.integers(), st.floats())
time = st.one_of(
    st.sampled_from(ODD_TIMES), st.datetimes(timezones=st.none() | st.timezones()).map(lambda t: t.isoformat())
)
scalar = st.one_of(st.none(), st.booleans(), number, text, time, st.sampled_from(ODD_URLS), st.sampled_from(KNOWN_IDS))
anything = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=8
)


class OddRequest(NamedTuple):
    method: str
    target: bytes
    headers: list  # (name, value), in bytes that a server hands over
    body: bytes | None


# Bodies

IMAGE_FIELDS = {
    "id": st.sampled_from(KNOWN_IDS) | scalar,
    "name": text | st.none(),
    "status": st.sampled_from(schemas.UPDATE_STATUSES),
    "disk_format": st.sampled_from(("raw", "qcow2", "ami")),
    "container_format": st.sampled_from(("bare", "ovf", "ami")),
    **dict.fromkeys(
        ("size", "virtual_size", "min_disk", "min_ram"), st.integers(0, 2**31 - 1) | number | number.map(str)
    ),
    "checksum": text,
    "owner": st.sampled_from(CALLERS) | text,
    "is_public": st.booleans() | st.sampled_from(tuple(schemas.BOOLEAN_WORDS)),
    "protected": st.sampled_from((False, False, "no", True)),
    "properties": st.dictionaries(text, scalar, max_size=5)
    | st.lists(st.fixed_dictionaries({"name": text, "value": scalar}), max_size=5),
    "location": st.sampled_from(ODD_URLS) | st.none(),
    "locations": st.lists(st.sampled_from(ODD_URLS) | scalar, max_size=3),
    "location_data": st.lists(
        st.fixed_dictionaries(
            {"url": st.sampled_from(ODD_URLS)},
            optional={
                "metadata": st.dictionaries(text, anything, max_size=3),
                "status": st.sampled_from(schemas.LOCATION_STATUSES),
            },
        )
        | anything,
        max_size=3,
    ),
    **dict.fromkeys(("created_at", "updated_at", "deleted_at"), time),
    "deleted": st.booleans(),
}
VALID = {"status": "active", "disk_format": "raw", "container_format": "bare"}


@st.composite
def images(draw):
    """Mostly a valid one; now and then any field is anything."""
    names = draw(st.lists(st.sampled_from(tuple(IMAGE_FIELDS)), max_size=4, unique=True))
    fields = {name: draw(IMAGE_FIELDS[name]) for name in names}
    if draw(st.integers(0, 3)) == 0:
        fields[draw(st.sampled_from(tuple(IMAGE_FIELDS)) | text)] = draw(anything)
    return {**VALID, **fields}


memberships = st.lists(
    st.fixed_dictionaries(
        {"member_id": st.sampled_from(MEMBERS) | text},
        optional={"can_share": st.booleans() | st.sampled_from(tuple(schemas.BOOLEAN_WORDS))},
    )
    | anything,
    max_size=4,
)
documents = st.one_of(
    st.fixed_dictionaries({"image": images()}),
    st.fixed_dictionaries({"image": images(), "from_state": st.sampled_from(schemas.UPDATE_STATUSES) | anything}),
    st.fixed_dictionaries({"memberships": memberships | anything}),
    st.fixed_dictionaries({"member": st.fixed_dictionaries({}, optional={"can_share": st.booleans() | anything})}),
    anything,
)


def repeated(parsed):
    """The same object with each of its keys twice, as no dict can have them."""
    if not isinstance(parsed, dict):
        return json.dumps(parsed)
    return (
        "{" + ",".join(f"{json.dumps(k)}:{repeated(v)},{json.dumps(k)}:{repeated(v)}" for k, v in parsed.items()) + "}"
    )


def nested(depth, opening):
    closing = {"[": "]", '{"a":': "}"}[opening]
    return f'{{"image":{{"status":"active","properties":{opening * depth}1{closing * depth}}}}}'.encode()


RAW_BODIES = (
    b"",
    b" ",
    b"\xff",
    b"\xef\xbb\xbf{}",
    b"nul",
    b'{"image":{}',
    b'{"image":{"name":"\xed\xa0\x80"}}',
    b"{}\0",
)
RAW_BODIES += (b'{"image":{"size":1e999}}', b'{"image":{"size":NaN}}', b'{"image":{"size":' + b"9" * 5000 + b"}}")
RAW_BODIES += (b"a=b&c=d", b'{"image":{"name":"\\ud800"}}', "{}".encode("utf-16"), b"x" * 5000)
bodies = st.one_of(
    documents.map(lambda parsed: json.dumps(parsed).encode()),
    documents.map(lambda parsed: json.dumps(parsed, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    documents.map(lambda parsed: repeated(parsed).encode()),
    st.builds(nested, st.sampled_from((1, 98, 99, 100, 101, 5000)), st.sampled_from(("[", '{"a":'))),
    st.sampled_from(RAW_BODIES),
    st.builds(lambda parsed, cut: json.dumps(parsed).encode()[: cut % 200], documents, st.integers(0)),
    st.binary(max_size=60),
)

# Paths and queries


def as_bytes(value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def escaped(value):
    return quote_from_bytes(as_bytes(value), safe="").encode()


piece = st.one_of(
    text.map(escaped), st.binary(min_size=1, max_size=8).map(escaped), st.sampled_from((b"%", b"%zz", b"..", b";a"))
)
image_id = st.one_of(
    st.sampled_from(KNOWN_IDS).map(str.encode),
    st.sampled_from(KNOWN_IDS).map(lambda known: known.upper().replace("-", "").encode()),
    st.uuids().map(lambda new: str(new).encode()),
    piece,
)
member_id = st.sampled_from(MEMBERS).map(escaped) | piece
paths = st.one_of(
    st.sampled_from(
        (b"/", b"/images", b"/images/", b"/images/detail", b"/images/detail/", b"/nowhere", b"//images", b"*")
    ),
    st.builds(lambda image: b"/images/" + image, image_id),
    st.builds(lambda image, slash: b"/images/" + image + b"/members" + slash, image_id, st.sampled_from((b"", b"/"))),
    st.builds(lambda image, member: b"/images/" + image + b"/members/" + member, image_id, member_id),
    st.builds(lambda member: b"/shared-images/" + member, member_id),
    st.lists(piece, max_size=4).map(lambda pieces: b"/" + b"/".join(pieces)),
)
parameter_names = st.one_of(
    st.sampled_from((*parameters.LIST_PARAMETERS, "property-", "property-a")),
    text,
    text.map(lambda name: f"property-{name}"),
)
fitting_positions = st.builds(
    lambda key, values: parameters.position_text(key, json.dumps(values)),
    st.sampled_from(parameters.SORT_KEYS),
    st.lists(scalar | st.sampled_from(KNOWN_IDS), max_size=4),
)
odd_positions = st.builds(lambda parsed: base64.urlsafe_b64encode(json.dumps(parsed).encode()).rstrip(b"="), anything)
positions = fitting_positions | odd_positions
parameter_values = st.one_of(
    scalar, scalar, st.binary(max_size=6), positions, st.sampled_from(("9" * 45, "-1", "1e3", "1.5"))
)
list_queries = st.lists(st.tuples(parameter_names, parameter_values), max_size=4).map(
    lambda pairs: b"&".join(escaped(name) + b"=" + escaped(value) for name, value in pairs)
)
places = st.builds(
    lambda marker, position, key: (
        b"marker=" + escaped(marker) + b"&position=" + escaped(position) + b"&sort_key=" + key
    ),
    st.sampled_from(KNOWN_IDS),
    positions,
    st.sampled_from(parameters.SORT_KEYS).map(str.encode),
)
odd_queries = st.binary(max_size=20).map(lambda raw: escaped(raw).replace(b"%3D", b"="))
query_strings = st.one_of(list_queries, list_queries, places, odd_queries)

# Headers

ALLOWED_ORIGIN = "https://images.example.org"
TRUSTED_HOST = "registry.example.org"
HOSTS = (
    "localhost",
    "[::1]:9191",
    "[::1",
    "a b",
    "é",
    "",
    "127.0.0.1:x",
    "127.8.9.10:80",
    "localhost.",
    "evil.example",
)
HOSTS += (TRUSTED_HOST, f"{TRUSTED_HOST.upper()}:1", "localhost, evil.example", "http://localhost", "l" * 300, "\xff")
ORIGINS = (ALLOWED_ORIGIN, ALLOWED_ORIGIN.upper(), "http://localhost", "https://localhost:443", "http://evil.example")
ORIGINS += ("null", "", "://", "http://[", "http://é", f"{ALLOWED_ORIGIN}, null", "http://" + "x" * 300)
SITES = ("none", "same-origin", "same-site", "cross-site", "", "NONE", "none, cross-site")
TOKENS = ("registry_" + "x" * 43, "registry_" + "é" * 43, "registry_", "x" * 5000)
CREDENTIALS = ("Bearer", "Bearer ", "bearer  x", "Basic eDp5", "Bearer é", *(f"Bearer {text}" for text in TOKENS))
PEERS = ("127.0.0.1", "::1, 10.0.0.1", "unknown", "[", "é")

header_text = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20)
OPTIONAL_HEADERS = {
    "Content-Type": st.sampled_from(
        (
            "application/json",
            "application/json; charset=utf-8",
            "application/json; charset=\xff",
            "text/plain",
            ";",
            'a/b; c="',
        )
    )
    | header_text,
    "Content-Encoding": st.sampled_from(("gzip", "identity", "IDENTITY")) | header_text,
    "If-Match": st.sampled_from(("*", '"1-0"', 'W/"1"', '"', ",", "*, *")) | header_text,
    "If-None-Match": st.sampled_from(("*", '"1-0"', 'W/"1"', '"', ",", "*, *")) | header_text,
    "X-Glance-Registry-Purge-Props": st.sampled_from(("true", "1", "no")) | header_text,
    "X-Openstack-Request-Id": st.sampled_from(("req-1", "x" * 64, "x" * 65)) | header_text,
    "X-Identity-Status": st.sampled_from(("Confirmed", "Invalid", "confirmed,Confirmed")) | header_text,
    "X-Tenant-Id": st.sampled_from(CALLERS) | header_text | st.just("t" * 256),
    "X-Roles": st.sampled_from(("admin", "ADMIN, x", ",")) | header_text,
    "X-Auth-Token": st.sampled_from(TOKENS) | header_text,
    "Authorization": st.sampled_from(CREDENTIALS) | header_text,
    "Host": st.sampled_from(HOSTS) | header_text,
    "Origin": st.sampled_from(ORIGINS) | header_text,
    "Sec-Fetch-Site": st.sampled_from(SITES) | header_text,
    "Access-Control-Request-Method": st.sampled_from(("PUT", "X-Y", "")) | header_text,
    "X-Forwarded-For": st.sampled_from(PEERS) | header_text,
    **dict.fromkeys(("Accept", "Range", "Cookie", "Expect", "X-Forwarded-Host", "X-Forwarded-Proto"), header_text),
}
# Headers that the guard judges, of what one browser or program sends at once.
WEB_HEADERS = ("Host", "Origin", "Sec-Fetch-Site", "Access-Control-Request-Method")
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE")


IMAGE_PATHS = image_id.map(lambda image: b"/images/" + image)
# Requests whose parts fit together: (method, path, body), so that they come far.
FITTING = (
    ("POST", st.just(b"/images"), st.fixed_dictionaries({"image": images()})),
    ("PUT", IMAGE_PATHS, st.fixed_dictionaries({"image": images()}, optional={"from_state": st.sampled_from(WORDS)})),
    ("PUT", IMAGE_PATHS.map(lambda path: path + b"/members"), st.fixed_dictionaries({"memberships": memberships})),
    ("PUT", st.builds(lambda path, member: path + b"/members/" + member, IMAGE_PATHS, member_id), st.none()),
    ("DELETE", st.builds(lambda path, member: path + b"/members/" + member, IMAGE_PATHS, member_id), st.none()),
    ("DELETE", IMAGE_PATHS, st.none()),
    ("GET", IMAGE_PATHS, st.none()),
    ("GET", st.sampled_from((b"/", b"/images", b"/images/detail")), st.none()),
)


def deletes_a_kept_image(method, target):
    """Half of the known images stay, so that there is something to find for all requests."""
    plain = target.partition(b"?")[0].replace(b"-", b"").lower()
    return method == "DELETE" and any(plain.endswith(kept.replace("-", "").encode()) for kept in KNOWN_IDS[:3])


@st.composite
def odd_requests(draw):
    method = draw(st.sampled_from(METHODS) | st.sampled_from(("PATCH", "TRACE", "CONNECT", "X-Y", "PROPFIND")))
    target, caller = draw(paths), draw(st.sampled_from(CALLERS))
    body = draw(bodies) if draw(st.booleans()) or method in ("POST", "PUT") else None
    if draw(st.integers(0, 3)):
        method, fitting_paths, fitting_bodies = draw(st.sampled_from(FITTING))
        target, parsed = draw(fitting_paths), draw(fitting_bodies)
        body = None if parsed is None else json.dumps(parsed).encode()
    method = "PUT" if deletes_a_kept_image(method, target) else method
    headers = identity(caller)
    if body is not None and draw(st.integers(0, 9)):
        headers["Content-Type"] = "application/json"
    for name in draw(st.lists(st.sampled_from(tuple(OPTIONAL_HEADERS)), max_size=2, unique=True)):
        headers[name] = draw(OPTIONAL_HEADERS[name])
    if draw(st.integers(0, 5)) == 0:
        method = draw(st.sampled_from((method, method, "OPTIONS")))
        headers |= {name: draw(OPTIONAL_HEADERS[name]) for name in WEB_HEADERS if draw(st.booleans())}
    query = draw(query_strings) if method in ("GET", "HEAD") or draw(st.booleans()) else b""
    return OddRequest(method, target + b"?" + query if query else target, list(headers.items()), body)


# Bytes on a socket


def written(asked):
    """A request as its bytes, well-formed as far as its parts are."""
    head = [asked.method.encode() + b" " + asked.target + b" HTTP/1.1"]
    head += [f"{name}: {value}".encode("latin-1") for name, value in asked.headers]
    head += [] if any(name == "Host" for name, _ in asked.headers) else [b"Host: localhost"]
    head += [] if asked.body is None else [b"Content-Length: %d" % len(asked.body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + (asked.body or b"")


ODD_LINES = (
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: x",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b": x",
)
ODD_LINES += (
    b"Content-Length: 1e3",
    b"Host: a",
    b"X\0: y",
    b"X: \0",
    b" folded",
    b"X_Tenant_Id: a",
    b"\xff: \xff",
    b"Expect: 100-continue",
)
ODD_LINES += (b"Connection: close", b"Upgrade: h2c", b"Content-Length: 99999999999999999999", b"X: " + b"y" * 40_000)
ODD_STARTS = (
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\0\x01\0",
    b"\0" * 50,
)
ODD_STARTS += (
    b"GET http://other/images HTTP/1.1\r\n\r\n",
    b"GET  / HTTP/1.1\r\n\r\n",
    b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n",
)
ODD_STARTS += (
    b"\r\n\r\nGET /images HTTP/1.0\r\n\r\n",
    b"GET images HTTP/1.1\r\n\r\n",
    b"GET ? HTTP/1.1\r\n\r\n",
    b"G\xc9T / HTTP/1.1\r\n\r\n",
)
ODD_STARTS += (
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\n\r\n",
    b"GET //[ HTTP/1.1\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\n\r\n",
)


def with_line(content, line):
    start, end, rest = content.partition(b"\r\n")
    return start + end + line + b"\r\n" + rest


def spliced(content, place, more, cut):
    place %= len(content) + 1
    return content[:place] + more + content[place + cut :]


CHUNKS = (
    b"2\r\n{}\r\n0\r\n\r\n",
    b"zz\r\n",
    b"ffffffffffffffffff\r\n{}",
    b"2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n",
    b"5\r\n{}\r\n0\r\n\r\n",
    b"-1\r\n",
)
streams = st.one_of(
    odd_requests().map(written),
    st.builds(with_line, odd_requests().map(written), st.sampled_from(ODD_LINES)),
    st.builds(spliced, odd_requests().map(written), st.integers(0, 2000), st.binary(max_size=4), st.integers(0, 4)),
    st.builds(
        lambda asked, chunks: with_line(written(asked._replace(body=None)), b"Transfer-Encoding: chunked") + chunks,
        odd_requests(),
        st.sampled_from(CHUNKS),
    ),
    st.sampled_from(ODD_STARTS),
    st.binary(max_size=200),
    st.lists(odd_requests().map(written), min_size=2, max_size=3).map(b"".join),
)
