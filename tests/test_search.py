"""Search (GET /images?q=): matches by words and ids, after any change, and their count."""

import random

import pytest
from conftest import IMAGE
from support import list_model

import models
from listing import pages, sqlite_planner
from storage import engine, search_index

LETTERS = {"İstanbul": "istanbul", "straße": "STRASSE", "Oﬃce ﬁle": "office fi", "Café": "cafe", "CAFÉ": "cafe\u0301"}
LETTERS |= {
    "cafe\u0301": "CAFÉ",
    "Ångström": "angstro",
    "名前の画像": "名前",
    "שלום עולם": "עולם",
    "Ｄｅｂｉａｎ": "debian",
    "x²": "x2",
}
LETTERS |= {
    "מַזָּל": "מזל",
    "ключ": "КЛЮ",
    "Ⅻ": "xii",
    "ΣΊΣΥΦΟΣ": "σισυφος",
    "हिन्दी": "हिन्दी",
    "Dž": "dz",
    "𝐃ebian": "debian",
}
# (the name, what finds it): what FTS5 takes for its language is text, and what is no letter parts words.
LANGUAGE = {
    "this AND that": "AND",
    "or": "x OR y",
    "NOT so": "NOT",
    "near you": "NEAR(near",
    "a*b": "a*",
    'a "b"': '"b"',
}
LANGUAGE |= {
    "^first": "^first",
    "name:value": "name:value",
    "text x": "text:x",
    "a+b": "+b",
    "a-b": "-b",
    "{a b}": "{a",
}
LANGUAGE |= {"ubuntu-24.04_amd64.img": "04 amd", "a'b": "'a'", "semi;colon": ";colon", "a\\b": "\\b", "(open": "(open"}
MISSES = {
    "debian": "ebian",
    "debian 12": "debian 13",
    "alpha": "alpha*beta",
    "or": "x OR y",
    "a b": "a b c",
    "abc": "a bc",
}
MISSES |= {
    "this that": "this NOT that",
    "linux": "lin*ux",
    "x y": '"x z"',
    "🐧 linux": "🐧 windows",
    "near": "NEAR(near far)",
}
BLANK = ["", " ", "\t\u3000"]
WITHOUT_WORDS = ["*", '""', "-", "----", "🐧", "^", "()", "_", "\u0301", "\u200f", "%"]


@pytest.fixture
def found(client):
    """Return a function: the sorted names that a query matches."""

    def find(text, **query):
        response = client.get("/images", query_string={"q": text, "is_public": "none", **query})
        assert response.status_code == 200, response.text
        return sorted(image["name"] for image in response.json["images"])

    return find


@pytest.fixture(params=[1, 256])
def indexed_together(monkeypatch, request):
    """Run a test with words in the search index, and with words not yet in it."""
    monkeypatch.setattr(search_index, "INDEXED_TOGETHER", request.param)
    return request.param


@pytest.mark.parametrize(("name", "text"), [*LETTERS.items(), *((name, name) for name in (*LETTERS, *LANGUAGE))])
def test_words_are_found_whatever_their_case_accents_and_spelling(
    indexed_together, found, client, make_image, name, text
):
    make_image(name=name)
    make_image(name="another", properties={"note": name})
    make_image(name="neither")

    assert found(text) == sorted([name, "another"])


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, text in LANGUAGE.items() if name != "or"])
def test_the_index_s_own_language_is_text(indexed_together, found, make_image, name, text):
    make_image(name=name)
    make_image(name="neither")

    assert found(text) == [name]


@pytest.mark.parametrize(("name", "text"), MISSES.items())
def test_each_word_must_begin_a_word(indexed_together, found, make_image, name, text):
    make_image(name=name)

    assert found(text) == []


@pytest.mark.parametrize("text", BLANK)
def test_what_is_blank_asks_for_nothing(found, make_image, text):
    make_image(name="one", properties={"os": "*"})

    assert found(text) == ["one"]


@pytest.mark.parametrize("text", WITHOUT_WORDS)
def test_what_has_no_word_finds_nothing(client, make_image, text):
    for name in ("one", text):
        marker = make_image(name=name, properties={"os": text}, is_public=True)["id"]

    for more in ({}, {"marker": marker}, {"is_public": "none", "sort_key": "name"}, {"limit": 0}):
        response = client.get("/images", query_string={"q": text, "count": "true", **more})
        assert (response.status_code, response.json["images"]) == (200, [])
        assert response.headers["X-Total-Count"] == "0"
        assert "Link" not in response.headers


def test_all_words_may_be_in_different_values_and_in_any_order(indexed_together, found, make_image):
    make_image(name="Ubuntu noble", properties={"os_version": "24.04", "hw": "q35", "none": None, "empty": ""})

    assert found("35 q35 24 UBU 04") == []
    assert found("q35 24 UBU 04") == ["Ubuntu noble"]
    assert found("os_version") == found("hw") == []


def test_sixteen_words_are_asked_for_and_seventeen_refused(client, found, make_image):
    words = [f"w{number}" for number in range(17)]
    make_image(name=" ".join(words))

    refused = client.get("/images", query_string={"q": " ".join(words)})

    assert found(" ".join(words[:16] * 3)) == [" ".join(words)]
    assert refused.status_code == 400
    assert refused.json["errors"] == {"q": ["Must be at most 16 words."]}


@pytest.mark.parametrize("text", ["%00", "a%00b", "%FF", "%C3", "%ED%A0%80"])
def test_what_is_no_text_is_refused(client, text):
    response = client.get(f"/images?q={text}")

    assert (response.status_code, list(response.json["errors"])) == (400, ["q"])


def test_a_search_as_long_as_a_request_line_is_answered(indexed_together, found, make_image):
    word = "w" * 4000
    make_image(name="long", properties={"text": f"{word} x"})

    assert found(word) == found(f"{word[:3000]} long") == ["long"]
    assert found(f"{word}w") == found(f"{word} {'v' * 3000}") == []


def test_the_first_4096_characters_are_searched(found, make_image):
    make_image(name="beginning", properties={"a": "x" * 4083, "b": "cut off", "c": "never"})

    assert found("cu") == ["beginning"]
    assert found("cut") == found("off") == found("never") == []


def test_an_id_is_found_by_its_beginning_with_and_without_hyphens_in_any_case(indexed_together, found, make_image):
    make_image(name="whole", id="b2173dd3-7ad6-4362-baa6-a68bce3565cb")
    make_image(name="beside", id="b2173dd4-7ad6-4362-baa6-a68bce3565cb")
    make_image(name="B217 as a word")
    hits = ("B2173DD3", "b2173dd3-", "b2173dd37ad6", "b2173dd3-7ad6", " b2173dd3 ", "B2173DD37AD64362BAA6A68BCE3565CB")

    assert {text: found(text) for text in hits} == {text: ["whole"] for text in hits}
    assert found("b2173dd3-7ad6-4362-baa6-a68bce3565cb") == ["whole"]
    assert found("b217") == ["B217 as a word", "beside", "whole"]
    assert found("b21") == found("b217 as") == ["B217 as a word"]
    assert found("2173dd3") == found("b2173dd3-7ad6-4362-baa6-a68bce3565cb0") == []
    assert found("b2173dd37ad64362baa6a68bce3565cb0") == found("b2173dd37-ad6") == []


@pytest.mark.parametrize(("limit", "sort_key"), [(1, "created_at"), (2, "name"), (3, "size"), (4, "status")])
def test_next_links_keep_the_search_and_the_count(client, make_image, limit, sort_key):
    names = [f"Café {number}" for number in range(5)]
    for number, name in enumerate(names):
        make_image(name=name, is_public=True, size=number % 2 or None)
        make_image(name=f"other {number}", is_public=True)

    query = {"q": "CAFÉ", "count": "yes", "limit": limit, "sort_key": sort_key, "sort_dir": "asc"}
    response, seen, counts = client.get("/images", query_string=query), [], []
    while response:
        seen += [image["name"] for image in response.json["images"]]
        counts.append(response.headers["X-Total-Count"])
        link = response.headers.get("Link", "").partition(">")[0].removeprefix("<")
        response = client.get(link) if link else None

    assert sorted(seen) == names
    assert set(counts) == {"5"}


def test_counts_are_exact_up_to_the_limit_and_named_otherwise_above(client, make_image, monkeypatch):
    monkeypatch.setattr(pages, "MOST_COUNTED", 3)
    for number in range(4):
        make_image(name=f"linux {number}", is_public=True, properties={"odd": number % 2})
    make_image(name="gone", is_public=True, is_deleted=True)

    def counted(**query):
        response = client.get("/images", query_string={"count": "true", **query})
        return {name: value for name, value in response.headers if name.startswith("X-Total")}

    assert counted() == counted(q="linux", limit=0) == {"X-Total-Count-At-Least": "3"}
    assert counted(q="linux", **{"property-odd": "1"}, limit=1) == {"X-Total-Count": "2"}
    assert counted(q="linux 2") == counted(deleted="true") == {"X-Total-Count": "1"}
    assert counted(q="windows") == {"X-Total-Count": "0"}
    assert counted(count="false") == {}


def test_what_counts_is_a_boolean(client):
    response = client.get("/images?count=many")

    assert (response.status_code, list(response.json["errors"])) == (400, ["count"])


INACCESSIBLE_TO = {"anonymous": "public", "tenantless": "public", "stranger": "public", "member": "public shared"}
INACCESSIBLE_TO |= {"sharer": "public shared", "owner": "private public shared", "admin@owner": "private public shared"}


@pytest.mark.parametrize(("caller", "names"), [*INACCESSIBLE_TO.items(), ("admin", "public")])
@pytest.mark.parametrize("few", [0, 500])
def test_inaccessible_images_are_neither_found_nor_counted(
    indexed_together, client_as, make_image, monkeypatch, caller, names, few
):
    monkeypatch.setattr(sqlite_planner, "FEW", few)
    fields = {"owner": "owner", "properties": {"os": "secretos"}}
    make_image(name="public", is_public=True, **fields)
    make_image(name="shared", members={"member": False, "sharer": True}, **fields)
    make_image(name="private", **fields)
    make_image(name="deleted", is_public=True, is_deleted=True, **fields)
    make_image(name="killed", is_public=True, status="killed", **fields)
    ids = {image["id"]: image["name"] for image in client_as("admin").get("/images?is_public=none").json["images"]}

    response = client_as(caller).get("/images?q=secret&count=true&is_public=none&deleted=false")
    by_id = {name: client_as(caller).get(f"/images?q={image_id}&count=1") for image_id, name in ids.items()}

    expected = sorted(names.split()) if caller.partition("@")[0] != "admin" else ["private", "public", "shared"]
    assert sorted(image["name"] for image in response.json["images"]) == expected
    assert response.headers["X-Total-Count"] == str(len(expected))
    shown = {
        name: ([image["name"] for image in answer.json["images"]], answer.headers["X-Total-Count"])
        for name, answer in by_id.items()
    }
    assert shown == {name: ([name], "1") if name in names.split() else ([], "0") for name in ids.values()}


# Images change in every way there is, and are found by their present words alone.

WORDS = ("alpha", "beta", "gamma", "al", "ab", "b", "café", "12", "12.04", "x86_64", "名前")


class Changing:
    """Registry with random changes, and a model of its answers."""

    def __init__(self, client, folder, seed):
        self.client, self.folder, self.chance = client, folder, random.Random(seed)

    def words(self):
        return " ".join(self.chance.choices(WORDS, k=self.chance.randint(0, 4)))

    def fields(self):
        properties = {name: self.words() for name in self.chance.sample("abc", self.chance.randint(0, 2))}
        return {"name": self.words(), "is_public": True, "properties": properties}

    def some_id(self):
        images = self.records()
        return self.chance.choice(images)["id"] if images else None

    def records(self):
        shown = [self.client.get(f"/images/detail?is_public=none&deleted={word}").json["images"] for word in (0, 1)]
        return [{**record, "members": []} for images in shown for record in images]

    def run(self, *arguments):
        result = self.client.application.test_cli_runner().invoke(args=[*map(str, arguments)])
        assert result.exit_code == 0, result.output

    def create(self):
        self.client.post("/images", json={"image": {**IMAGE, **self.fields()}})

    def update(self):
        headers = {"X-Glance-Registry-Purge-Props": self.chance.choice(("true", "false"))}
        self.client.put(f"/images/{self.some_id()}", json={"image": self.fields()}, headers=headers)

    def delete(self):
        self.client.delete(f"/images/{self.some_id()}")

    def undelete(self):
        self.client.post(f"/images/{self.some_id()}/undelete")

    def purge(self):
        self.run("purge", "--older-than", "0m", "--yes")

    def replace(self):
        file = self.folder / "records.ndjson"
        file.unlink(missing_ok=True)
        self.run("export", file)
        lines = file.read_text(encoding="utf-8").splitlines()
        file.write_text("".join(f"{line}\n" for line in lines).replace("alpha", "gamma"), encoding="utf-8")
        self.run("import", file, "--on-conflict", self.chance.choice(("replace", "skip")))

    def restore(self):
        copy = self.folder / "copy.db"
        models.database.close()
        self.run("backup", copy, "--force")
        self.run("restore", copy, "--force")

    def answers(self, text):
        """Return (found ids, expected ids)."""
        sqlite_planner.count_cache.clear()
        query = {"q": text, "is_public": "none"}
        shown = self.client.get("/images", query_string=query).json["images"]
        expected = list_model.all_listed(self.records(), query, "admin")
        return sorted(image["id"] for image in shown), sorted(record["id"] for record in expected)


ACTIONS = (
    ("create",) * 6 + ("update",) * 5 + ("delete", "delete", "undelete", "undelete", "purge", "replace", "restore")
)


@pytest.mark.exhaustive
@pytest.mark.sampled
@pytest.mark.parametrize("together", [1, 3, 7, 256])
@pytest.mark.parametrize("seed", range(3))
def test_an_image_is_found_by_its_present_words_alone(client, tmp_path, monkeypatch, together, seed):
    monkeypatch.setattr(search_index, "INDEXED_TOGETHER", together)
    monkeypatch.setattr(sqlite_planner, "FEW", (0, 500, 3)[seed])
    changing = Changing(client, tmp_path, f"{together} {seed}")

    for _ in range(60):
        action = changing.chance.choice(ACTIONS)
        getattr(changing, action)()
        for text in (changing.chance.choice(WORDS), changing.words()[:20]):
            found, expected = changing.answers(text)
            assert found == expected, (action, text)

    models.database.close()
    changing.run("check")


def test_of_the_words_the_index_has_those_of_whole_hundreds_at_once(client, make_image, monkeypatch):
    monkeypatch.setattr(search_index, "INDEXED_TOGETHER", 4)
    held = []
    for _ in range(9):
        make_image(name="linux")
        held.append(engine.execute("SELECT count(*) FROM search WHERE search MATCH 'linux'", ()).fetchone()[0])

    assert held == [0, 0, 0, 4, 4, 4, 4, 8, 8]


def test_a_create_that_is_refused_leaves_no_words(client, make_client, make_image):
    image = make_image(name="kept")

    response = client.post("/images", json={"image": {**IMAGE, "id": image["id"], "name": "refused"}})

    assert response.status_code == 409
    assert client.get("/images?is_public=none&q=refused").json["images"] == []
    assert engine.execute("SELECT count(*) FROM words", ()).fetchone() == (1,)


# Names of files

FILES = {
    "a path": ("file:///srv/images/noble-server.qcow2", "noble-server"),
    "a URL": ("https://example.org/images/Noble%20Server.img?token=secret#part", "noble serv"),
    "a folder's end": ("https://example.org/noble/", "noble"),
    "accents": ("file:///srv/caf%C3%A9.img", "cafe"),
}


@pytest.mark.parametrize(("url", "text"), FILES.values(), ids=FILES)
def test_an_image_is_found_by_the_name_of_its_file(indexed_together, found, make_image, url, text):
    make_image(name="unrelated", location=url)
    make_image(name="other", location="file:///srv/other.img")

    assert found(text) == ["unrelated"]
    assert found(f"unrelated {text}") == ["unrelated"]


@pytest.mark.parametrize("text", ["secret", "example", "srv", "images", "user"])
def test_nothing_but_the_last_part_of_a_location_is_searched(indexed_together, found, make_image, text):
    make_image(name="unrelated", location="https://user:user@example.org/srv/images/disk.img?key=secret")

    assert found("disk") == ["unrelated"]
    assert found(text) == []


@pytest.mark.parametrize("url", ["swift+https://user:pass/word@store", "s3://key:se/cret%40@host"])
def test_credentials_with_a_slash_are_not_searched(indexed_together, found, make_image, url):
    make_image(name="unrelated", location=url)

    assert found("word") == found("cret") == found("host") == found("store") == []


def test_a_file_that_is_named_by_the_image_s_id_adds_no_words(indexed_together, found, client):
    image_id = "0c1d2e3f-4a5b-4c6d-8e7f-001122334455"
    values = {"id": image_id, "name": "x", "status": "active", "disk_format": "raw", "container_format": "bare"}
    client.post("/images", json={"image": values | {"location": f"file:///var/lib/images/{image_id}"}})

    assert found("4a5b") == []
    assert found("0c1d") == ["x"]  # the beginning of the id


def test_the_name_of_a_file_follows_the_location(indexed_together, found, client, make_image):
    image = make_image(name="x", location="file:///srv/first.img")

    client.put(f"/images/{image['id']}", json={"image": {"location": "file:///srv/second.img"}})

    assert found("first") == []
    assert found("second") == ["x"]


@pytest.mark.parametrize(("expose", "seen_by_stranger"), [("owner", 0), ("all", 1)])
@pytest.mark.parametrize("text", ["noble", "§noble", "%C2%A7noble"])
def test_names_of_files_are_found_only_by_callers_who_see_locations(make_client, expose, seen_by_stranger, text):
    client = make_client(auth__flavor="trusted-auth", api__expose_locations=expose)
    admin = {"X-Identity-Status": "Confirmed", "X-Tenant-Id": "owner", "X-Roles": "admin"}
    stranger = {"X-Identity-Status": "Confirmed", "X-Tenant-Id": "stranger", "X-Roles": "member"}
    image = {"name": "x", "status": "active", "disk_format": "raw", "container_format": "bare", "is_public": True}
    image |= {"location": "file:///srv/noble.img"}
    assert client.post("/images", json={"image": image}, headers=admin).status_code == 200

    counts = [len(client.get(f"/images?q={text}", headers=headers).json["images"]) for headers in (admin, stranger)]

    assert counts == [1, seen_by_stranger]
