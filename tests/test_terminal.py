"""Images at the terminal, as people and scripts see them."""

import csv
import hashlib
import io
import json
import os
import re
import subprocess

import pytest
from support.image_files import MEBIBYTE, make
from support.terminals import LAUNCHER, plain

EVIL = "evil\x1b]0;owned\x07\x1b[31mred\u202e\nnext\ttab"
ESCAPED = r"evil\x1b]0;owned\x07\x1b[31mred\u202e\nnext\ttab"
ID = "0f3c9d1e-5b7a-4f0e-8c2d-6a1b9e8f7a6{}"


@pytest.fixture
def create(folder):
    """A function: an image of the command; its id."""

    def create_image(name, *options):
        return folder.get("create", name, "--disk-format", "qcow2", *options).strip()

    return create_image


def fields_of(folder, image):
    return json.loads(folder.get("show", image, "--json"))


# list


def test_a_list_has_all_images_private_ones_too(folder, create):
    create("secret", "--private", "--owner", "acme")
    create("open", "--public", "--size", "2G")

    lines = [line.split("\t") for line in folder.get("list").splitlines()]

    assert [line[1:8] for line in lines] == [
        ["open", "active", "qcow2", "bare", "2147483648", "public", ""],
        ["secret", "active", "qcow2", "bare", "", "private", "acme"],
    ]


@pytest.mark.exhaustive
def test_a_list_goes_on_over_all_pages(folder):
    records = "".join(
        f'{{"name":"n{n}","status":"active","disk_format":"raw","container_format":"bare"}}\n' for n in range(2500)
    )
    assert folder.run("import", "-", content=records)[0] == 0

    assert len(set(folder.get("list", "--quiet").split())) == 2500
    assert len(json.loads(folder.get("list", "--json"))) == 2500
    assert len(folder.get("list", "--limit", "1200").splitlines()) == 1200
    assert folder.get("list", "--limit", "0") == ""


@pytest.mark.exhaustive
def test_json_is_one_array_of_the_records_of_the_api(folder, create):
    ids = [create("a", "--property", "k=v"), create("b", "--location", "https://me:secret@host/b")]

    found = json.loads(folder.get("list", "--json", "--sort-dir", "asc"))

    assert [image["id"] for image in found] == ids
    assert found[0] == fields_of(folder, ids[0])
    assert found[1]["location"] == "https://me:secret@host/b"
    assert json.loads(folder.get("list", "--json", "--name", "none")) == []


def test_csv_has_a_head_and_every_value_exactly(folder, create):
    create('a, "b"\nc', "--size", "1K", "--property", "ü=x", "--location", "https://me:secret@host/b")

    (row,) = csv.DictReader(io.StringIO(folder.get("list", "--csv")))

    assert (row["name"], row["size"], row["visibility"]) == ('a, "b"\nc', "1024", "private")
    assert (json.loads(row["properties"]), row["location"]) == ({"ü": "x"}, "https://•••@host/b")


FILTERS = {
    "name": (["--name", "one"], ["one"]),
    "status": (["--status", "queued"], ["two"]),
    "format": (["--disk-format", "qcow2"], ["one"]),
    "owner": (["--owner", "acme"], ["two"]),
    "public": (["--public"], ["one"]),
    "private": (["--visibility", "private"], ["two"]),
    "at least": (["--size-min", "1.5M"], ["two"]),
    "at most": (["--size-max", "1M"], ["one"]),
    "property": (["--property", "os=a=b"], ["one"]),
    "properties": (["-p", "os=a=b", "-p", "n="], ["one"]),
    "neither": (["-p", "os=a=b", "-p", "n=1"], []),
    "protected": (["--protected"], ["two"]),
    "since": (["--changes-since", "1h"], ["two", "one"]),
    "since a day": (["--changes-since", "2100-01-01"], []),
    "search": (["--search", "a=b on"], ["one"]),
    "search for none": (["--search", "three"], []),
    "sorted": (["--sort-key", "name", "--sort-dir", "asc"], ["one", "two"]),
    "limit": (["-n", "1"], ["two"]),
}


@pytest.fixture(scope="module")
def two_images(tmp_path_factory):
    from support.terminals import Folder

    folder = Folder(tmp_path_factory.mktemp("two"))
    options = ("--public", "--size", "1M", "-p", "os=a=b", "-p", "n=")
    folder.get("create", "one", "--disk-format", "qcow2", *options)
    options = ("--status", "queued", "--owner", "acme", "--size", "2M", "--protected")
    folder.get("create", "two", "--disk-format", "raw", *options)
    return folder


@pytest.mark.exhaustive
@pytest.mark.parametrize(("options", "names"), FILTERS.values(), ids=FILTERS)
def test_a_filter_leaves_what_fits(two_images, options, names):
    assert [line.split("\t")[1] for line in two_images.get("list", *options).splitlines()] == names


@pytest.mark.exhaustive
def test_a_table_fits_the_terminal_and_keeps_both_ends_of_a_name(folder, create):
    create("ubuntu-24.04-minimal-cloudimg-with-a-long-name-amd64-20261118.1", "--size", "3G", "--owner", "acme")
    create("日本語のイメージ")

    for columns in (60, 80, 100, 200):
        code, shown = folder.shown("list", columns=columns)
        lines = plain(shown).splitlines()
        assert code == 0
        assert max(map(width_of, lines)) <= columns
        assert re.search(r"ubuntu-24.*20261118\.1", lines[2])
        assert lines[1].split()[1] == "日本語のイメージ"
    assert lines[0].split() == ["ID", "NAME", "STATUS", "FORMAT", "SIZE", "VISIBILITY", "OWNER", "CREATED"]
    assert lines[2].split()[2:] == ["active", "qcow2", "3.0", "GiB", "private", "acme", "just", "now"]


def width_of(line):
    """East Asian letters of these tests take two columns."""
    return sum(1 + ("\u3000" < letter < "\u9fff") for letter in line)


@pytest.mark.exhaustive
def test_the_ids_of_a_table_are_as_long_as_tells_them_apart_and_are_taken_as_they_stand(folder, create):
    create("a", "--id", ID.format(1))
    create("b", "--id", ID.format(2))

    lines = plain(folder.shown("list")[1]).splitlines()

    assert lines[1].split()[0] == ID.format(2)
    assert fields_of(folder, lines[1].split()[0])["name"] == "b"
    assert create("c", "--id", "fedcba98" + ID.format(3)[8:])
    assert folder.get("show", "fedcba98", "--quiet").strip() == "fedcba98" + ID.format(3)[8:]


@pytest.mark.exhaustive
def test_colours_are_for_terminals_alone_and_as_asked(folder, create):
    create("x")

    assert "\x1b[32mactive\x1b[0m" in folder.shown("list")[1]
    assert "\x1b" not in folder.shown("list", NO_COLOR="1")[1]
    assert "\x1b" not in folder.shown("list", TERM="dumb")[1]
    assert "\x1b" not in folder.get("list")
    assert "\x1b[32mactive\x1b[0m" in folder.get("list", FORCE_COLOR="1")
    assert "\x1b" not in folder.get("list", FORCE_COLOR="1", NO_COLOR="1")


@pytest.mark.exhaustive
def test_what_a_name_says_to_the_terminal_does_not_reach_it(folder, create):
    image = create(EVIL, "-p", f"{EVIL}=x\x9b31m", "--location", f"file:///{EVIL}")

    shown = folder.shown("list", NO_COLOR="1")[1] + folder.shown("show", image, NO_COLOR="1")[1]
    shown += folder.shown("list", "--json")[1] + folder.shown("list", "--csv")[1]
    shown += folder.shown("update", image, "--min-ram", "1", NO_COLOR="1")[1]

    assert [letter for letter in shown if not (letter.isprintable() or letter == "\n")] == []
    assert ESCAPED in shown
    assert folder.get("list").count("\n") == 1
    assert json.loads(folder.get("list", "--json"))[0]["name"] == EVIL


@pytest.mark.exhaustive
def test_a_letter_that_the_locale_lacks_is_escaped(folder, create):
    create("日")

    _, output, _ = folder.run_file("list", PYTHONIOENCODING="latin-1")

    assert output.split("\t")[1] == r"\u65e5"


@pytest.mark.exhaustive
def test_no_image_is_said_on_a_terminal_only(folder):
    folder.run("import", "-", content="")

    assert folder.shown("list") == (0, "No images.\n")
    assert folder.run("list") == (0, "", "")


def test_a_reader_who_goes_ends_the_list_without_a_word(folder, create):
    create("x")
    script = f"'{LAUNCHER}' list --json | head -c 1"

    done = subprocess.run(
        ["bash", "-c", script], check=False, cwd=folder.path, env=folder.variables, capture_output=True
    )

    assert (done.stdout, done.stderr) == (b"[", b"")


# show


@pytest.mark.exhaustive
def test_show_has_everything_and_hides_passwords_until_asked(folder, create):
    image = create(
        "x", "--location", "swift+https://user:secret@host/x?sig=abc", "-p", "os_distro=debian", "--min-ram", "2G"
    )
    folder.get("share", "x", "acme", "--can-share")

    code, shown = folder.shown("show", "x")
    lines = folder.get("show", "x").splitlines()

    words = " ".join(plain(shown).split())
    assert code == 0
    for expected in (
        f"id {image}",
        "status active",
        "min ram 2048 MB",
        "shared with acme (can share)",
        "os_distro debian",
    ):
        assert expected in words
    assert "swift+https://•••@host/x?sig=•••" in words
    assert "location\tswift+https://•••@host/x?sig=•••" in lines
    assert {"property\tos_distro=debian", "member\tacme\ttrue", "min_ram\t2048", "checksum\t"} <= {*lines}
    assert "location\tswift+https://user:secret@host/x?sig=abc" in folder.get("show", "x", "--secrets").splitlines()


def test_an_image_is_found_by_id_by_name_and_by_the_beginning_of_its_id(folder, create):
    image = create("x", "--id", ID.format(1))
    create(ID.format(1), "--id", "1" * 32)  # the exact id wins over this name
    named = create("0f3c", "--id", "2" * 32)  # and the exact name over the beginning of an id
    killed = create("dead", "--status", "killed")

    for text in (ID.format(1), ID.format(1).replace("-", "").upper(), "x", "0f3c9", "0F3C9D1E-5b7a", "0f3c9d1e5b7a"):
        assert folder.get("show", text, "--quiet").strip() == image, text
    assert folder.get("show", "0f3c", "--quiet").strip() == named
    assert folder.get("show", "dead", "--quiet").strip() == killed


@pytest.mark.exhaustive
def test_what_may_be_several_lists_them_and_what_is_none_says_so(folder, create):
    ids = {create("same", "--id", ID.format(1)), create("same", "--id", ID.format(2))}

    code, output, errors = folder.run("show", "same")
    by_prefix = folder.run("show", "0f3c9d1e")
    missing = folder.run("show", "no\x1bne")

    assert (code, output) == (3, "")
    assert ids == {*re.findall(r"[0-9a-f-]{36}", errors)} == {*re.findall(r"[0-9a-f-]{36}", by_prefix[2])}
    assert by_prefix[0] == 3
    assert missing == (3, "", "Error: No image is named “no\\x1bne”, and no id starts with it.\n")


# create, update


def test_create_takes_every_field_with_units(folder):
    options = [
        "--disk-format",
        "raw",
        "--container-format",
        "ovf",
        "--status",
        "queued",
        "--size",
        "1.5K",
        "--virtual-size",
    ]
    options += ["2GB", "--checksum", "c" * 32, "--min-disk", "20G", "--min-ram", "512", "--owner", "acme", "--public"]
    options += ["--protected", "--location", "https://host/x", "-p", "a=b=c", "-p", "d=", "--id", ID.format(1)]

    image = json.loads(folder.get("create", "x", *options, "--json"))

    expected = {
        "id": ID.format(1),
        "name": "x",
        "status": "queued",
        "disk_format": "raw",
        "container_format": "ovf",
        "size": 1536,
        "virtual_size": 2 * 10**9,
        "checksum": "c" * 32,
        "min_disk": 20,
        "min_ram": 512,
        "owner": "acme",
        "is_public": True,
        "protected": True,
        "location": "https://host/x",
        "properties": {"a": "b=c", "d": ""},
    }
    assert {name: image[name] for name in expected} == expected


def test_create_reads_size_and_checksum_of_a_file_and_says_where_it_is(folder):
    (folder.path / "my image.raw").write_bytes(b"x" * 3_000_000)

    image = json.loads(folder.get("create", "--file", "my image.raw", "--disk-format", "raw", "--json"))

    checksum = hashlib.md5(b"x" * 3_000_000).hexdigest()
    assert (image["name"], image["size"], image["checksum"]) == ("my image.raw", 3_000_000, checksum)
    assert image["location"] == f"file://{folder.path.resolve()}/my%20image.raw"


def test_create_knows_format_and_checksums_of_a_file_as_a_scan_does(folder):
    make(folder.path / "debian.img", "qcow2")

    image = json.loads(folder.get("create", "--file", "debian.img", "--json"))

    assert (image["disk_format"], image["virtual_size"]) == ("qcow2", 8 * MEBIBYTE)
    digest = hashlib.sha512((folder.path / "debian.img").read_bytes()).hexdigest()
    assert image["properties"] == {"os_hash_algo": "sha512", "os_hash_value": digest}


def refuse_overlay(path):
    make(path / "base.qcow2", "qcow2")
    make(path / "file", "qcow2", "backing_file=base.qcow2", "backing_fmt=qcow2")


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("fill", "options", "reason"),
    [
        (refuse_overlay, ("--disk-format", "qcow2"), "needs the backing file base.qcow2; flatten it with"),
        (
            lambda path: make(path / "file", "qcow2"),
            ("--disk-format", "raw"),
            "has the format qcow2, not raw",
        ),
        (lambda path: (path / "file").write_text("notes"), (), "is text; give --disk-format"),
        (
            lambda path: (path / "file").write_text("notes"),
            ("--disk-format", "vmdk"),
            "does not begin like vmdk: it is text",
        ),
        (lambda path: (path / "file").symlink_to("/dev/zero"), ("--disk-format", "raw"), "is not a regular file"),
    ],
    ids=["overlay", "another", "none", "claim", "device"],
)
@pytest.mark.parametrize("words", [("create",), ("update", "x")], ids=lambda words: words[0])
def test_a_file_that_is_not_what_is_said_of_it_is_refused_in_one_line(folder, fill, options, reason, words):
    folder.get("create", "x", "--disk-format", "raw", "--container-format", "bare")
    fill(folder.path)

    code, output, errors = folder.run(*words, "--file", "file", *options)

    if words[0] == "update" and not options:  # the record says raw, which any content may be called on purpose
        assert code == 0, errors
        return
    assert (code, output) == (1, "")
    assert errors.startswith("Error: file")
    assert reason in errors
    assert errors.count("\n") == 1


def test_an_update_with_another_file_leaves_no_checksum_of_the_old_one(folder):
    make(folder.path / "old.qcow2", "qcow2")
    make(folder.path / "new.vmdk", "vmdk")
    folder.get("create", "x", "--file", "old.qcow2")

    image = json.loads(folder.get("update", "x", "--file", "new.vmdk", "--json"))

    assert image["disk_format"] == "vmdk"
    assert folder.run("verify")[0] == 0


def test_create_says_what_it_did_on_a_terminal_and_the_id_elsewhere(folder):
    _code, shown = folder.shown("create", "x", "--disk-format", "raw")

    assert re.fullmatch(r"Created x  [0-9a-f-]{36}\n", plain(shown))
    assert re.fullmatch(r"[0-9a-f-]{36}\n", folder.get("create", "y", "--disk-format", "raw"))


@pytest.mark.exhaustive
def test_update_changes_what_is_named_and_leaves_the_rest(folder, create):
    image = create("x", "--size", "1K", "-p", "a=1", "-p", "b=2", "-p", "c=3", "--owner", "acme")
    before = fields_of(folder, image)

    folder.get(
        "update",
        "x",
        "--name",
        "y",
        "-p",
        "a=one",
        "--remove-property",
        "b",
        "--remove-property",
        "c",
        "--unset",
        "owner",
    )

    after = fields_of(folder, image)
    assert after == before | {"name": "y", "owner": None, "properties": {"a": "one"}, "updated_at": after["updated_at"]}
    folder.get("update", "y", "-p", "d=4")
    assert fields_of(folder, image)["properties"] == {"a": "one", "d": "4"}


def test_a_property_that_is_not_there_is_not_removed(folder, create):
    create("x", "-p", "a=1")

    assert folder.run("update", "x", "--remove-property", "b") == (1, "", "Error: The image has no property b.\n")


# delete, share


def test_delete_asks_on_a_terminal_and_needs_yes_elsewhere(folder, create):
    create("a")
    create("b")

    assert folder.run("delete", "a", "b") == (
        1,
        "",
        "Error: Confirmation needs a terminal; add --yes to delete without it.\n",
    )
    code, shown = folder.shown("delete", "a", "b", typed="n\n")
    assert (code, "Delete these 2? [y/N]" in shown) == (1, True)
    assert len(folder.get("list", "-q").split()) == 2
    code, shown = folder.shown("delete", "a", typed="y\n")
    assert (code, "Deleted a" in plain(shown)) == (0, True)
    assert folder.get("list", "--deleted").split("\t")[1] == "a"


def test_nothing_is_deleted_where_one_of_several_is_not_found(folder, create):
    create("a")

    assert folder.run("delete", "a", "nothing", "--yes")[0] == 3
    assert len(folder.get("list", "-q").split()) == 1


@pytest.mark.exhaustive
def test_a_deletion_is_taken_back_by_name_and_what_was_not_deleted_is_not_found(folder, create):
    image = create("a", "-p", "k=v")
    create("b")
    folder.get("delete", "a", "--yes")

    assert folder.run("show", "a")[0] == 3
    assert folder.run("undelete", "b")[0] == 3
    assert folder.get("undelete", "a").strip() == image
    assert fields_of(folder, "a")["properties"] == {"k": "v"}


def test_a_protected_image_stays(folder, create):
    image = create("a", "--protected")

    assert folder.run("delete", "a", "--yes") == (
        4,
        "",
        f"Error: a is protected. Remove the protection first: registry update {image} --unprotected\n",
    )


def test_sharing_comes_and_goes(folder, create):
    image = create("a")

    assert folder.run("share", "a", "tenant/ü") == (0, f"{image}\n", "a is shared with tenant/ü.\n")
    folder.get("share", "a", "acme", "--can-share")
    folder.get("share", "a", "acme")  # as it was
    members = [line for line in folder.get("show", "a").splitlines() if line.startswith("member")]
    assert members == ["member\tacme\ttrue", "member\ttenant/ü\tfalse"]
    folder.get("unshare", "a", "tenant/ü")
    assert "tenant" not in folder.get("show", "a")
    assert folder.run("unshare", "a", "nobody")[0] == 3


WRONG = {
    "two outputs": ["list", "--json", "--csv"],
    "a size": ["list", "--size-min", "2X"],
    "half a byte": ["list", "--size-min", "1.5"],
    "a pair": ["list", "--property", "os_distro"],
    "a property twice": ["list", "-p", "a=1", "-p", "a=2"],
    "nothing to change": ["update", "x"],
    "a time": ["list", "--changes-since", "yesterday"],
    "no text": ["list", "--name", os.fsdecode(b"\xff")],
    "no text as a name": ["create", os.fsdecode(b"\xff"), "--disk-format", "raw"],
    "too large": ["create", "x", "--disk-format", "raw", "--size", "16E"],
    "rather large": ["create", "x", "--disk-format", "raw", "--size", "8E"],
    "two names": ["create", "x", "--name", "y"],
    "a token alone": ["list", "--token", "x"],
    "no url": ["list", "--url", "localhost"],
    "an unknown option": ["list", "--colour"],
    "an unknown command": ["lsit"],
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_wrong_usage_is_2(folder, arguments):
    code, output, errors = folder.run(*arguments)

    assert (code, output) == (2, "")
    assert "Error: " in errors.splitlines()[-1]


REFUSED = {
    "a value": (["create", "x", "--disk-format", "tar"], "--disk-format: Must be one of ari,"),
    "no format": (["create", "x"], "--disk-format is missing: Must be one of"),
}


@pytest.mark.parametrize(("arguments", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_is_one_line(folder, arguments, reason):
    code, output, errors = folder.run(*arguments)

    assert (code, output) == (2, "")
    assert errors.startswith(f"Error: {reason}")
    assert errors.count("\n") == 1


# history


@pytest.mark.exhaustive
def test_history_says_what_was_changed_and_shows_no_orders_to_the_terminal(folder, create):
    create("x", "-p", "a=1")
    folder.get("update", "x", "--name", "y", "-p", f"a={EVIL}", "--location", "https://user:secret@host/x")
    folder.get("share", "y", "acme")

    lines = [line.split("\t") for line in folder.get("history", "y").splitlines()]
    _code, shown = folder.shown("history", "y", columns=200)
    entries = json.loads(folder.get("history", "y", "--json"))

    assert [line[1:4] for line in lines] == [[what, "", "true"] for what in ("shared", "updated", "created")]
    assert lines[1][4] == f"name: x → y; property a: 1 → {ESCAPED}; locations"
    assert [entry["action"] for entry in entries] == ["shared", "updated", "created"]
    assert plain(shown).splitlines()[0].split() == ["WHEN", "WHAT", "WHO", "CHANGES"]
    assert "member acme: shared" in shown
    assert "secret" not in shown + str(lines) + str(entries)
