"""Values that a recording sends: good, bad and odd ones of each part of a request."""

MISSING = "11111111-2222-5333-a444-555555555555"
MD5 = "ee1eca47dc88f4879d8a229cc70a07c6"
ORIGIN = "https://images.example.org"
JSON = ("Content-Type", "application/json")
IMAGE = {"name": "cirros", "status": "active", "disk_format": "qcow2", "container_format": "bare"}
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "PROPFIND")
PATHS = (
    *("/", "/images", "/images/", "/images/detail", "/images/detail/", "/versions", "/openapi.json", "/docs"),
    *("/docs/rapidoc.js", "/healthcheck", "/metrics", "/nothing", "/v1/images", "//images", "/images//detail"),
    *("/images/%64etail", "/shared-images", "/shared-images/", "/images/detail/members", "/%FF", "/IMAGES", "/*"),
)
TEXTS = ("", "ü 漢 🐧", "a\tb\r\nc", "x" * 255, "x" * 256, "a\0b", "\ud800", 5, True, [], {}, None)
NUMBERS = (0, 5, "12", "007", 2**31 - 1, 2**31, 2**63 - 1, 2**63, "9" * 41, -1, "-1", 1.5, "x", "", True, [], None)
FLAGS = (True, False, "true", "False", "1", "0", "YES", "no", "maybe", 1, 0, "", None)
TIMES = (
    *("2020-01-02T03:04:05.678901", "2020-01-02T03:04:05Z", "2020-01-02 03:04", "2020-01-02T03:04:05+02:00"),
    *("20200102", "2099-12-31T23:59:59,5", "2020-02-30", "1969-12-31", "9999-01-01", "yesterday", "", 5, None),
)
STATUSES = ("queued", "saving", "killed", "active", "pending_delete", "deleted", "deactivated", "ready", "", 5, None)
FORMATS = ("raw", "vhd", "vmdk", "vdi", "iso", "aki", "ari", "ami", "bare", "ovf", "ova", "docker", "RAW", "", 5, None)
URLS = (
    *("https://images.example.org/a b?c=ü", "swift+https://user:key@host/container", "file:///etc/passwd"),
    *("http:", "no url", "http://h/" + "x" * 4096, "", 5, None),
)
METADATA = ({"store": "a", "n": [1, {"ü": None}]}, {"bad": "\0"}, {"huge": 10**400}, [], "x", None)
PROPERTIES = (
    *({}, {"os": "linux", "Bits": 64, "live": True, "gone": None, "v": 22.10}, [{"name": "os", "value": "bsd"}]),
    *({"ü ö": "漢", "x:y": "a\nb"}, {"": 1}, {"x" * 256: 1}, {"a\0": "b"}, {"a": "\ud800"}, {"a": {}, "b": []}),
    *([{"name": "a"}, {"name": "a"}], [5], [{"value": 1}], "x", 5, None, {f"p{n:03}": "y" for n in range(129)}),
    {f"p{n:02}": "y" * 300 for n in range(70)},
)
LOCATION_DATA = (
    *([{"url": "http://h/1", "metadata": metadata}] for metadata in METADATA),
    *([{"url": "rbd://a", "status": status}] for status in ("active", "pending_delete", "deleted", "queued", 5)),
    *([{"url": "http://h/2", "metadata": METADATA[0], "status": None, "extra": 1}], [5], [{}], {}, None),
)
FIELDS = {
    "id": (MISSING, MISSING.upper(), MISSING.replace("-", ""), "{" + MISSING + "}", "x", "", 5, None),
    "name": TEXTS,
    "status": STATUSES,
    "disk_format": FORMATS,
    "container_format": FORMATS,
    "size": NUMBERS,
    "virtual_size": NUMBERS[:10:3],
    "checksum": (MD5, "x" * 33, "", 5, None),
    "min_disk": NUMBERS[3:8],
    "min_ram": NUMBERS[4::4],
    "owner": ("acme", "beta", "", "ü", "x" * 256, 5, None),
    "is_public": FLAGS,
    "protected": FLAGS[8:],
    "properties": PROPERTIES,
    "location": URLS,
    "locations": ([], URLS[:2], list(URLS), "x", None, [f"http://h/{n}" for n in range(11)]),
    "location_data": LOCATION_DATA,
    "created_at": TIMES,
    "updated_at": TIMES[5:],
    "deleted": (True, None),
    "unknown": ("x",),
}
QUERIES = (
    *("name=cirros", "name=", "name=%C3%BC%20%E6%BC%A2", "name=%FF", "name=%00", "name=a&name=b", "name=a&name=a"),
    *("status=active", "status=killed", "status=queued", "status=nothing", "container_format=bare", "disk_format="),
    *("disk_format=qcow2", f"checksum={MD5}", "owner=acme", "owner=beta", "owner=", "min_ram=64", "min_ram=-1"),
    *("min_disk=1", "min_disk=9223372036854775808", "protected=true", "protected=0", "protected=maybe", "min_ram=x"),
    *("size_min=5", "size_max=5", "size_min=1&size_max=100", "size_min=x", "size_max=-1", "size_min=" + "9" * 41),
    *("changes-since=2020-01-01T00:00:00", "changes-since=2020-06-01T00:00:00+02:00", "changes-since=yesterday"),
    *("changes-since=2020-06-01T00:00:00%2B02:00", "changes-since=1969-01-01", "changes-since=2098", "changes-since="),
    *("changes-since=20980101", "changes-since={time}", "q=cirros", "q=CIR", "q=debian+13", "q=%3F", "q=", "q=linux"),
    *("q=a+b+c+d+e+f+g+h+i+j+k+l+m+n+o+p+q+r", "q=OR+NOT", "q={id:.8}", "q={id}", "q=%22", "q=%FF", "q=12ab"),
    *("count=true", "count=1&limit=1", "count=true&q=cirros", "count=perhaps", "count=true&limit=0", "count="),
    *("sort_key=owner", "sort_key=", "sort_dir=up", "sort_dir=ASC", "limit=0", "limit=1", "limit=100000", "limit=-1"),
    *("limit=x", "limit=" + "9" * 50, "limit=", "limit=1.5", "limit=2&marker={id}", "marker={id}&sort_dir=asc"),
    *(f"marker={MISSING}", "marker=x", "marker=", "position=x", "position=W10", "marker={id}&position=WyJpZCJd"),
    *("is_public=true", "is_public=false", "is_public=none", "is_public=maybe", "deleted=true", "deleted=false"),
    *("deleted=none", "property-os=linux", "property-os=", "property-none=1", "property-=x", "property-%FF=1"),
    *("property-os=linux&property-Bits=64", "property-bits=64", "unknown=1", "&&", "name", "=x", "a%zz=1", "a=1;x"),
    *("limit=x&sort_key=x&min_ram=x", "status=active&disk_format=qcow2&min_ram=0&size_min=1&sort_dir=asc"),
    *("%6Eame=cirros", "name=cir+ros", "limit=1&count=1&sort_key=name&unknown=%3Cb%3E'\"", "limit=1&x=" + "y" * 7000),
    "&".join(f"property-p{n}=1" for n in range(501)),
)
SORT_KEYS = ("name", "status", "disk_format", "container_format", "size", "created_at", "updated_at")
BODIES = (
    *(None, b"", b"{", b"[]", b"null", b"5", b'"x"', b"{}", b'{"image":[]}', b'{"image":null}', b'{"image":{}}'),
    *(b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"image":{"name":NaN}}', b'{"image":{"size":1e400}}', b'{"image":{"a":1},}'),
    *(b'{"image":{"name":"\xff"}}', b"[" * 101, b'{"a":' * 101 + b"1" + b"}" * 101, b"9" * 4301, b"x" * 1048577),
    *(b'{"image":{"properties":{"a":1.10,"b":1e5,"c":-0}}}', b'{"image":{},"from_state":5}', b"{'image': 1}"),
    *(b'{"image":{"name":"a","name":"b"}}', b'{"image":{"min_ram":1},"from_state":"killed"}', b'{"member":5}'),
    *(b'{"image":{"min_ram":2},"from_state":"active"}', b'{"member":{"can_share":"x"}}', b'{"memberships":5}'),
)
TYPES = (
    *([], [("Content-Type", "text/plain")], [("Content-Type", "application/json; charset=latin-1")]),
    *([("Content-Type", "APPLICATION/JSON; charset=UTF8")], [JSON, ("Content-Encoding", "gzip")]),
    *([("Content-Type", "application/x-www-form-urlencoded")], [JSON, ("Content-Encoding", "identity")]),
)
MEMBERSHIPS = (
    *([], [{"member_id": "beta", "can_share": True}], [{"member_id": "beta"}, {"member_id": "gamma"}], [5], [{}]),
    *([{"member_id": "a"}, {"member_id": "a"}], [{"member_id": ""}], [{"member_id": "x" * 256}], [{"member_id": 5}]),
    *([{"member_id": "ü/漢", "can_share": "yes"}], [{"member_id": "b", "can_share": "x"}], {}, None, [{}, {}]),
    *([{"member_id": f"m{n:03}"} for n in range(129)], [{"member_id": "beta", "can_share": 1}], [None]),
)
MEMBERS = ("beta", "gamma", "acme", "a%2Fb", "a/b", "a/b/", "%C3%BC", "%FF", "%00", "x" * 255, "x" * 256, "%20", "é")
ODD_IDS = ("x", "{id}/", "{id}x", "%20", "%FF", "DETAIL", MISSING, "{" + MISSING + "}", "a%2Fb", "..", "%00", "5", "é")
HEADERS = (
    *([("Host", host)] for host in ("evil.example", "127.0.0.1:80", "[::1]", "LOCALHOST.", "localhost:x", "", "a b")),
    *([("Origin", origin)] for origin in (ORIGIN, ORIGIN.upper(), "http://localhost", "https://evil.example", "null")),
    *([("Sec-Fetch-Site", site)] for site in ("none", "same-origin", "same-site", "cross-site")),
    *([("X-Openstack-Request-Id", text)] for text in (f"req-{MISSING}", "x" * 65, "a b", "ü", "")),
    *([("Accept", "text/html")], [("Accept", "application/xml")], [("X-HTTP-Method-Override", "DELETE")]),
    *([("X-Auth-Token", "registry_" + "x" * 43)], [("X-Auth-Token", "x"), ("X-Auth-Token", "y")]),
    *([("Authorization", "Basic eDp5")], [("Authorization", "Bearer x"), ("X-Auth-Token", "y")]),
    *([("X-Identity-Status", "Confirmed"), ("X-Roles", roles)] for roles in ("ADMIN", "member", "\xff", "x, Admin")),
    *([("X-Identity-Status", "Confirmed"), ("X-Tenant-Id", name)] for name in ("acme", " beta ", "a\tb", "x" * 256)),
    *([("X-Identity-Status", "Invalid")], [("X-Identity-Status", "Confirmed"), *[("X-Roles", "admin")] * 2]),
    *([("X-Forwarded-For", "10.0.0.1")], [("Range", "bytes=0-5")], [("Accept-Encoding", "gzip")], [("Expect", "x")]),
)
PREFLIGHT = (("Access-Control-Request-Method", "PUT"), ("Access-Control-Request-Headers", "content-type"))
