"""Request sequence of a recording: each route with each value, then a random mixture with a fixed seed.

A sequence is a generator: it yields a Request and receives its Answer, so that it can use ETags, links and ids.
Ids chosen here have version 5, so that they differ from those of the server, which have version 4.
"""

import json
import random
from itertools import cycle
from typing import NamedTuple

from replay_values import (
    BODIES,
    FIELDS,
    HEADERS,
    IMAGE,
    JSON,
    MD5,
    MEMBERS,
    MEMBERSHIPS,
    METHODS,
    MISSING,
    ODD_IDS,
    PATHS,
    PREFLIGHT,
    QUERIES,
    SORT_KEYS,
    TYPES,
    URLS,
)


class Request(NamedTuple):
    """One HTTP request of a named caller."""

    caller: str
    method: str
    target: str
    headers: list
    body: bytes | None


class Answer(NamedTuple):
    """One HTTP response: its status, header lines in order, and body."""

    status: int
    headers: list
    body: bytes

    def header(self, name):
        """Return the value of a header, or an empty text."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def image(self):
        """Return the image in the body, or an empty dict."""
        return json.loads(self.body).get("image", {}) if self.body[:9] == b'{"image":' else {}


class Sequence:
    """Requests to one server, whose callers are ``callers``; the first is an admin, the second a tenant.

    Three servers, with the seeds 0 to 2, share the longest tables.
    """

    def __init__(self, seed, callers):
        self.seed = seed
        self.random = random.Random(seed)
        self.callers = callers
        self.admin, self.tenant = callers[:2]
        self.turns = cycle(callers)
        self.writers = cycle(callers[:2])
        self.ids = []

    def __iter__(self):
        """Generate the tables, then the mixture without end."""
        tables = (self.create_all, self.walk_pages, self.share, self.try_conditions, self.try_ids, self.delete)
        for table in (*tables, self.list_all, self.try_headers, self.try_bodies, self.visit_paths, self.try_fields):
            yield from table()
        while True:
            yield from self.mix()

    def ask(self, method, target, content=None, headers=(), caller=None):
        """Return a Request; ``content`` is bytes as they are, or an object that becomes JSON."""
        is_json = content is not None and not isinstance(content, bytes)
        body = json.dumps(content).encode() if is_json else content
        return Request(caller or next(self.turns), method, target, [*([JSON] if is_json else []), *headers], body)

    def part(self, table):
        """Return [(turn, item)] of the items that this server takes, two of three; their turns are 1 and 2."""
        turns = [((number - self.seed) % 3, item) for number, item in enumerate(table)]
        return [(turn, item) for turn, item in turns if turn]

    def choose_id(self):
        """Return a new id of version 5."""
        text = f"{self.random.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def pick(self):
        """Return the path of one of the images."""
        return f"/images/{self.random.choice(self.ids)}"

    def create(self, caller=None, **fields):
        """Create an image with an id chosen here, and remember the id where it is taken."""
        fields = {**IMAGE, "id": self.choose_id(), **fields}
        answer = yield self.ask("POST", "/images", {"image": fields}, caller=caller or next(self.writers))
        self.ids += [answer.image()["id"]] if answer.status == 200 else []
        return answer

    def create_all(self):
        """Create images that differ in what lists filter and sort by, and delete some."""
        names, sizes = ("cirros", "debian 13", "", "ü 漢", None), (0, 5, 100, None)
        for number in range(20):
            fields = {"name": names[number % 5], "size": sizes[number % 4], "is_public": number % 3 > 0}
            fields |= {"status": ("active", "active", "queued", "killed")[number % 4], "location": URLS[0]}
            fields |= {"min_ram": number % 2 * 64, "checksum": (MD5, None)[number % 2], "protected": number % 7 == 6}
            fields |= {"properties": ({"os": "linux", "Bits": "64"}, {"os": ""}, {})[number % 3]}
            fields |= {"created_at": "2020-01-01"} if number % 6 == 0 else {}
            yield from self.create(**fields)
        for image_id in self.ids[::9]:
            yield self.ask("DELETE", f"/images/{image_id}", caller=self.admin)

    def walk_pages(self):
        """Follow the Link of lists in each order; only here by id, while all ids are chosen here."""
        for sort_key in (*SORT_KEYS, "id"):
            for direction in ("asc", "desc"):
                path, caller = self.random.choice(("/", "/images", "/images/detail")), next(self.turns)
                target = f"{path}?limit=4&sort_key={sort_key}&sort_dir={direction}"
                for _ in range(3):
                    answer = yield self.ask("GET", target, caller=caller)
                    target = answer.header("Link").partition(">")[0].removeprefix("<") or target

    def share(self):
        """Share images, as different callers, with good and bad members."""
        for memberships in MEMBERSHIPS:
            path = f"{self.pick()}/members"
            yield self.ask("PUT", path, {"memberships": memberships}, caller=next(self.writers))
            yield self.ask("GET", path)
        for member in MEMBERS:
            path = f"/images/{self.random.choice(self.ids[1:6])}/members/{member}"
            body = self.random.choice((None, {"member": {"can_share": True}}, {"member": {"can_share": False}}, {}))
            yield self.ask("PUT", path, body, caller=next(self.writers))
            yield self.ask("GET", f"/shared-images/{member}")
            yield self.ask(self.random.choice(("DELETE", "DELETE", "PUT", "GET", "OPTIONS")), path)

    def try_conditions(self):
        """Read and write with the present ETag, an old one, and others."""
        path = f"/images/{self.ids[2]}"
        for template in ("{0}", "W/{0}", '"x", {0}', "*", '"x"', "x", "", '{0}"', "{0}-public"):
            answer = yield self.ask("GET", path, caller=self.admin)
            tag = template.format(answer.header("ETag"))
            for method in ("GET", "HEAD"):
                yield self.ask(method, path, headers=[("If-None-Match", tag)], caller=self.admin)
            for _ in ("present", "old"):
                body = {"image": {"min_ram": self.random.randrange(99)}}
                yield self.ask("PUT", path, body, [("If-Match", tag)], caller=next(self.writers))
        for method, below in (("DELETE", ""), ("POST", "/undelete")):
            yield self.ask(method, path + below, headers=[("If-Match", '"1-0"')], caller=self.admin)

    def try_ids(self):
        """Send ids that no image has, and other spellings of one that it has."""
        known = self.ids[3]
        operations = (("PUT", ""), ("GET", "/members"), ("POST", "/undelete"), ("DELETE", ""))
        for odd in (*ODD_IDS, "{id}", known.upper(), known.replace("-", "")):
            path = f"/images/{odd.replace('{id}', known)}"
            yield self.ask("GET", path, caller=self.admin)
            method, below = self.random.choice(operations)
            yield self.ask(method, path + below, {"image": {}} if method == "PUT" else None, caller=self.admin)

    def delete(self):
        """Delete and undelete images of each kind, and read what is left, as different callers."""
        steps = (("DELETE", ""), ("GET", ""), ("DELETE", ""), ("POST", "/undelete"), ("POST", "/undelete"))
        for status in ("pending_delete", "deleted", "killed"):
            answer = yield from self.create(protected=status == "killed", location=self.random.choice((URLS[1], None)))
            path = f"/images/{answer.image().get('id', MISSING)}"
            yield self.ask("PUT", path, {"image": {"status": status}}, caller=self.admin)
            for method, below in steps:
                yield self.ask(method, path + below)
                yield self.ask(method, path + below, caller=self.admin)
            yield self.ask("GET", f"{path}/history", caller=self.admin)

    def list_all(self):
        """List with each query, at each path and by each caller in turn."""
        paths, methods = cycle(("/images", "/images/detail", "/images", "/")), cycle(["GET"] * 10 + ["HEAD"])
        answer = yield self.ask("GET", self.pick(), caller=self.admin)
        for _, template in self.part(QUERIES):
            query = template.format(id=self.random.choice(self.ids), time=answer.image()["updated_at"])
            yield self.ask(next(methods), f"{next(paths)}?{query}")

    def try_headers(self):
        """Send each header with a read, most with a write too, and each origin with preflights."""
        anonymous = "anonymous" if "anonymous" in self.callers else self.admin
        for headers in HEADERS:
            yield self.ask("GET", self.random.choice(("/", self.pick())), headers=headers, caller=anonymous)
            for path in (self.pick(), "/nothing") if headers[0][0] == "Origin" else ():
                yield self.ask("OPTIONS", path, headers=[*headers, *PREFLIGHT], caller=anonymous)
        for turn, headers in self.part(HEADERS):
            yield self.ask("PUT", self.pick(), {"image": {"min_disk": turn}}, headers, caller=self.admin)

    def try_bodies(self):
        """Send each body to one of the routes that read one, and some with each content type."""
        operations = (("POST", ""), ("PUT", "/{id}"), ("PUT", "/{id}/members"), ("PUT", "/{id}"))
        for number, body in enumerate((*BODIES, *BODIES[-len(TYPES) :])):
            method, below = operations[(number + self.seed) % 4]
            headers = [JSON] if number < len(BODIES) else TYPES[number - len(BODIES)]
            yield self.ask(method, f"/images{below}".format(id=self.ids[1]), body, headers, caller=self.admin)
        chunked, headers = b"4\r\n{}  \r\n0\r\n\r\n", [JSON, ("Transfer-Encoding", "chunked")]
        yield self.ask("PUT", self.pick(), chunked, headers, caller=self.admin)

    def visit_paths(self):
        """Read each path, and send some of the methods to it; share those of an image's own paths."""
        for path in PATHS:
            for method in ("GET", self.random.choice(METHODS)):
                yield self.ask(method, path)
        below_image = ("", "/members", "/members/beta", "/history", "/undelete")
        for turn, (method, below) in self.part([(method, below) for method in METHODS for below in below_image]):
            if turn == 1:
                yield self.ask(method, f"{self.pick()}{below}", caller=self.admin)

    def try_fields(self):
        """Create with each value of each field, and update with it; a server does one of the two with a value."""
        pairs = [(name, value) for name, values in FIELDS.items() for value in values]
        for turn, (field, value) in self.part(pairs):
            if turn == 1:
                yield from self.create(**{field: value})
            else:
                purge = [("X-Glance-Registry-Purge-Props", "true")] if self.random.random() < 0.3 else []
                body = {"image": {field: value}}
                yield self.ask("PUT", f"/images/{self.ids[1]}", body, purge, caller=next(self.writers))
        yield self.ask("GET", f"/images/{self.ids[1]}/history", caller=self.admin)

    def mix(self):
        """Do one of the things that callers do, with ids of the server too."""
        caller, kind, path = self.random.choice(self.callers), self.random.randrange(8), self.pick()
        field = self.random.choice([name for name in FIELDS if name not in ("id", "created_at")])
        body = {field: self.random.choice(FIELDS[field])}
        if kind == 0:
            answer = yield self.ask("POST", "/images", {"image": IMAGE | body}, caller=caller)
            self.ids += [answer.image()["id"]] if answer.status == 200 else []
        elif kind < 3:
            yield self.ask("PUT", path, {"image": body}, caller=caller)
        elif kind == 3:
            yield self.ask("GET", self.mixed_list(), caller=caller)
        else:
            below = ("", "", "/members", "/history", "/members/beta", "/undelete")
            method, below = self.random.choice(("GET", "HEAD", "POST", "PUT", "DELETE")), self.random.choice(below)
            yield self.ask(method, path + below, caller=caller)

    def mixed_list(self):
        """Return the target of a list with two queries."""
        queries = self.random.sample([query for query in QUERIES if "{" not in query and "sort_key" not in query], 2)
        return f"/images?sort_key={self.random.choice(SORT_KEYS)}&{'&'.join(queries)}&limit=3"
