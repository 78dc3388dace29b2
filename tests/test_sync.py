"""``sync simplestreams``: a mirror's images, registered where they are, or fetched and checked."""

import hashlib
import json
import os
import struct
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import free_port
from support.mirrors import INCUS, UBUNTU, incus_product, publish, serving, ubuntu_product

from cli.mirror_files import FetchError, Mirror, split_url
from cli.simplestreams import StreamError, require_path


def qcow2(number=0, backing=0):
    """The head of one, and something that makes it another's."""
    head = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, backing, 0, 16, 1 << 20)
    return head.ljust(65536, b"\0") + bytes([number]) * 1000


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "mirror"
    path.mkdir()
    return path


@pytest.fixture
def ubuntu(root):
    """The mirror: two versions for amd64, one for arm64."""
    products = {
        "com.ubuntu.cloud:server:24.04:amd64": ubuntu_product(root, {"20251001": qcow2(1), "20251113": qcow2(2)}),
        "com.ubuntu.cloud:server:24.04:arm64": ubuntu_product(root, {"20251113": qcow2(3)}, arch="arm64"),
    }
    publish(root, UBUNTU, products)
    return products


@pytest.fixture
def mirror(root):
    """(URL, the paths that were asked for)"""
    with serving(root) as served:
        yield served


@pytest.fixture
def sync(folder):
    """A function: (exit code, lines, the summary)."""

    def run(*arguments, **variables):
        code, output, errors = folder.run("sync", "simplestreams", *arguments, **variables)
        assert "Traceback" not in errors
        return code, output.splitlines(), errors.splitlines()[-1]

    return run


def records(folder, *arguments):
    """{name: record}"""
    return {image["name"]: image for image in json.loads(folder.get("list", "--json", *arguments))}


AMD64 = "ubuntu-noble-24.04-amd64-server-20251113"
DISK = "server/releases/noble/release-20251113/ubuntu-24.04-server-cloudimg-amd64.img"


@pytest.mark.exhaustive
def test_the_newest_version_of_each_product_is_registered_where_it_is(folder, ubuntu, mirror, sync):
    url, asked = mirror

    assert sync(url)[::2] == (0, "2 added, 0 updated, 0 unchanged")

    found = records(folder)
    image, content = found[AMD64], qcow2(2)
    assert set(found) == {AMD64, AMD64.replace("amd64", "arm64")}
    assert (image["location"], image["size"], image["is_public"]) == (f"{url}/{DISK}", len(content), True)
    assert (image["status"], image["disk_format"], image["checksum"]) == (
        *("active", "qcow2"),
        hashlib.md5(content).hexdigest(),
    )
    assert image["properties"] == {
        "os_distro": "ubuntu",
        "os_version": "24.04",
        "architecture": "x86_64",
        "release": "noble",
        "version": "20251113",
        "os_hash_algo": "sha256",
        "os_hash_value": hashlib.sha256(content).hexdigest(),
        "stream": UBUNTU,
        "stream_product": "com.ubuntu.cloud:server:24.04:amd64",
        "stream_item": "disk1.img",
        "stream_source": f"{url}/",
        "support_eol": "2029-05-31",
    }
    assert asked == ["/streams/v1/index.json", "/streams/v1/com.ubuntu.cloud:released:download.json"]


def test_the_format_of_incus_is_read_too(folder, root, mirror, sync):
    publish(root, INCUS, {"debian:trixie:amd64:default": incus_product(root, {"20251124_05:24": qcow2()})})

    assert sync(mirror[0])[::2] == (0, "1 added, 0 updated, 0 unchanged")

    image = records(folder)["Debian trixie default amd64 20251124_05:24"]
    assert image["location"] == f"{mirror[0]}/images/debian/trixie/amd64/default/20251124_05:24/disk.qcow2"
    kept = {name: image["properties"][name] for name in ("os_distro", "os_version", "architecture", "variant")}
    assert kept == {"os_distro": "debian", "os_version": "13", "architecture": "x86_64", "variant": "default"}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--all-versions"], 3),
        (["--arch", "amd64"], 1),
        (["--arch", "x86_64", "--arch", "aarch64"], 2),
        (["--arch", "riscv64"], 0),
        (["--release", "noble"], 2),
        (["--release", "24.04", "--arch", "arm64", "--all-versions"], 1),
        (["--release", "lts"], 2),
        (["--release", "jammy"], 0),
    ],
)
def test_what_is_synced_can_be_chosen(folder, ubuntu, root, sync, options, count):
    folder.run("import", "-", content="")  # a dry run makes no database
    assert sync(root, "--dry-run", *options)[::2] == (0, f"{count} added, 0 updated, 0 unchanged")
    assert folder.get("list") == ""


def test_a_second_sync_changes_what_the_mirror_changed_and_nothing_else(folder, ubuntu, root, mirror, sync):
    url, _ = mirror
    sync(url)
    folder.get("update", AMD64, "--name", "mine", "--property", "os_version=24.04.3")
    before = records(folder)
    assert sync(url) == (0, [], "0 added, 0 updated, 2 unchanged")
    assert records(folder) == before

    ubuntu["com.ubuntu.cloud:server:24.04:amd64"] = ubuntu_product(root, {"20251113": qcow2(9)})
    ubuntu["com.ubuntu.cloud:server:24.04:arm64"] = ubuntu_product(root, {"20251201": qcow2(4)}, arch="arm64")
    publish(root, UBUNTU, ubuntu)
    code, lines, summary = sync(url)

    assert (code, summary) == (0, "1 added, 1 updated, 0 unchanged, 1 gone")
    assert [line.split()[0] for line in lines] == ["updated", "added", "gone"]
    after = records(folder)["mine"]
    assert after["properties"]["os_hash_value"] == hashlib.sha256(qcow2(9)).hexdigest()
    assert (after["id"], after["properties"]["os_version"]) == (before["mine"]["id"], "24.04.3")


def test_files_are_fetched_and_checked_once(folder, ubuntu, mirror, sync, tmp_path):
    url, asked = mirror

    assert sync(url, "--arch", "amd64", "--download", "kept")[::2] == (0, "1 added, 0 updated, 0 unchanged")

    path, image = tmp_path / "kept" / DISK, records(folder)[AMD64]
    assert path.read_bytes() == qcow2(2)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert (image["location"], image["virtual_size"]) == (f"file://{path}", 1 << 20)
    assert folder.run("verify")[::2] == (0, "1 ok\n")
    asked.clear()
    assert sync(url, "--arch", "amd64", "--download", "kept")[2] == "0 added, 0 updated, 1 unchanged"
    assert sync(url, "--arch", "amd64")[2] == "0 added, 0 updated, 1 unchanged"
    assert [one for one in asked if one.endswith(".img")] == []
    assert folder.run("scan", "kept")[2] == "0 added, 0 updated, 1 unchanged\n"
    assert sync(url, "--arch", "amd64", "--download", "kept")[2] == "0 added, 0 updated, 1 unchanged"


@pytest.mark.exhaustive
def test_a_record_of_the_mirror_becomes_one_of_the_file_when_that_is_fetched(folder, ubuntu, mirror, sync, tmp_path):
    sync(mirror[0], "--arch", "amd64")

    assert sync(mirror[0], "--arch", "amd64", "--download", "kept")[2] == "0 added, 1 updated, 0 unchanged"
    assert records(folder)[AMD64]["location"] == f"file://{tmp_path}/kept/{DISK}"


@pytest.mark.exhaustive
def test_a_file_that_is_there_and_right_is_not_fetched_and_one_that_is_wrong_is(ubuntu, mirror, sync, tmp_path):
    url, asked = mirror
    path = tmp_path / "kept" / DISK
    path.parent.mkdir(parents=True)
    path.write_bytes(qcow2(2))
    sync(url, "--arch", "amd64", "--download", "kept")
    assert f"/{DISK}" not in asked
    other = tmp_path / "other" / DISK
    other.parent.mkdir(parents=True)
    other.write_bytes(qcow2(7))

    assert sync(url, "--arch", "amd64", "--download", "other")[2] == "0 added, 1 updated, 0 unchanged"
    assert (other.read_bytes(), asked[-1]) == (qcow2(2), f"/{DISK}")


@pytest.mark.exhaustive
def test_a_folder_is_a_mirror_whose_files_are_checked(folder, ubuntu, root, sync):
    (root / DISK.replace("amd64", "arm64")).write_bytes(qcow2(8))

    code, lines, summary = sync(root)

    assert (code, summary) == (1, "1 added, 0 updated, 0 unchanged, 1 failed")
    assert records(folder)[AMD64]["location"] == f"file://{root}/{DISK}"
    arm64 = ("", DISK.replace("amd64", "arm64"), "qcow2", AMD64.replace("amd64", "arm64"))
    assert lines[1].split("\t") == ["failed", *arm64, "differs from the index in size or sha256"]
    (root / DISK.replace("amd64", "arm64")).unlink()
    assert [line.split("\t") for line in sync(root)[1]] == [["failed", *arm64, "is missing in the mirror's folder"]]
    assert sync(root / "streams/v1/index.json", "--arch", "amd64")[2] == "0 added, 0 updated, 1 unchanged"


def test_images_of_one_version_have_a_name_each(folder, root, sync):
    product = ubuntu_product(root, {"20251113": qcow2(2)})
    version = product["versions"]["20251113"]
    del version["pubname"]
    disk = version["items"]["disk1.img"]
    version["items"] |= {"uefi1.img": disk | {"ftype": "uefi1.img"}, "disk.img": disk | {"ftype": "disk.img"}}
    publish(root, UBUNTU, {"com.ubuntu.cloud:server:24.04:amd64": product})

    sync(root)

    start = "ubuntu 24.04 LTS amd64 20251113"
    assert set(records(folder)) == {f"{start} disk1.img", f"{start} uefi1.img", f"{start} disk.img"}


def test_what_is_not_wanted_is_not_refused_either(ubuntu, root, sync):
    spoil(root, sha256="abc")

    assert sync(root, "--arch", "arm64")[::2] == (0, "1 added, 0 updated, 0 unchanged")
    assert sync(root, "--arch", "amd64")[0] == 1


def test_a_folder_that_cannot_be_used_is_told_once(folder, ubuntu, mirror):
    (folder.path / "file").touch()

    code, output, errors = folder.run("sync", "simplestreams", mirror[0], "--download", "file/kept")

    assert (code, output) == (2, "")
    assert errors.endswith("Error: Invalid value for '--download': file/kept: Not a directory.\n")


def test_a_mirror_that_is_not_there_is_named_and_has_its_own_exit_code(sync):
    url = f"http://127.0.0.1:{free_port()}"

    code, lines, error = sync(url)

    assert (code, lines) == (5, [])
    assert error.startswith(f"Error: {url}/streams/v1/index.json: ")


def test_what_is_fetched_may_be_read_by_whom_the_umask_lets_and_leaves_another_syncs_part_alone(
    ubuntu, mirror, sync, tmp_path
):
    path = tmp_path / "kept" / DISK
    path.parent.mkdir(parents=True)
    part = path.with_name(f".{path.name}.7.part")
    part.write_text("another's")

    assert sync(mirror[0], "--arch", "amd64", "--download", "kept")[0] == 0
    umask = os.umask(0o22)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert {each.name for each in path.parent.iterdir()} == {path.name, part.name}


# What mirrors should not do


def spoil(root, **changes):
    """The document of products, with one item changed."""
    path = root / f"streams/v1/{UBUNTU}.json"
    document = json.loads(path.read_text())
    items = document["products"]["com.ubuntu.cloud:server:24.04:amd64"]["versions"]["20251113"]["items"]
    items["disk1.img"] |= changes
    path.write_text(json.dumps(document))


WRONG = {
    "sha256": ({"sha256": "0" * 64}, "differs from the index in sha256"),
    "shorter": ({"size": 100}, "is larger than the 100 bytes that the index says"),
    "longer": ({"size": 10**6}, f"has {len(qcow2())} bytes, the index says 1000000"),
    "not there": ({"path": "server/missing.img"}, "the server answered 404"),
    "no image": ({"path": "streams/v1/index.json", "size": -1}, "has no valid size"),
    "no sha256": ({"sha256": "abc"}, "has no valid sha256"),
    "up": ({"path": "../../etc/passwd"}, "its path leads out of the mirror: ../../etc/passwd"),
    "absolute": ({"path": "/etc/passwd"}, "its path leads out of the mirror: /etc/passwd"),
    "another host": ({"path": "https://evil/disk.img"}, "its path leads out of the mirror: https://evil/disk.img"),
    "no path": ({"path": 5}, "has no valid path"),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("changes", "reason"), WRONG.values(), ids=WRONG)
def test_what_is_not_as_the_index_says_is_not_kept_and_the_others_are(
    folder, ubuntu, root, mirror, sync, tmp_path, changes, reason
):
    spoil(root, **changes)

    code, lines, _ = sync(mirror[0], "--download", "kept")

    assert code == 1
    assert [line for line in lines if reason in line and line.split()[0] in ("failed", "refused")]
    # Where the newest version cannot be had at all, the one before is the newest.
    assert AMD64 not in records(folder)
    assert AMD64.replace("amd64", "arm64") in records(folder)
    kept = [path.name for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert not [name for name in kept if name.endswith(".part") or name == "passwd"]
    assert not (tmp_path / "etc").exists()


@pytest.mark.exhaustive
def test_an_image_that_leads_to_other_files_is_not_registered(folder, root, mirror, sync):
    product = ubuntu_product(root, {"20251113": qcow2(1, backing=512)})
    publish(root, UBUNTU, {"com.ubuntu.cloud:server:24.04:amd64": product})

    code, lines, _ = sync(mirror[0], "--download", "kept")

    assert code == 1
    assert "needs a backing file" in lines[0]
    assert folder.get("list") == ""


@pytest.mark.exhaustive
def test_a_mirror_that_breaks_off_leaves_nothing_half(folder, ubuntu, mirror, sync, tmp_path):
    code, _, summary = sync(f"{mirror[0]}/cut", "--download", "kept")

    assert (code, summary) == (1, "0 added, 0 updated, 0 unchanged, 2 failed")
    assert folder.get("list") == ""
    assert [path for path in (tmp_path / "kept").rglob("*") if path.is_file()] == []
    assert sync(mirror[0], "--download", "kept")[::2] == (0, "2 added, 0 updated, 0 unchanged")


@pytest.mark.exhaustive
def test_redirects_are_followed_but_not_for_ever(folder, ubuntu, mirror, sync):
    url, _ = mirror

    assert sync(f"{url}/moved", "--arch", "amd64", "--download", "kept")[::2] == (0, "1 added, 0 updated, 0 unchanged")
    assert sync(f"{url}/round")[0] == 1


DOCUMENTS = {
    "a page": (b"<html>", "is not JSON, but is an HTML or XML page"),
    "nothing": (b"", "is not JSON, but is empty"),
    "zeros": (bytes(9), "is not JSON, but 9 zero bytes"),
    "a packed one": (b"\x1f\x8b\x08packed", "is not JSON, but is packed with gzip"),
    "no list": (b'{"format":"index:1.0","index":{}}', "lists no documents with images to download"),
    "another format": (b'{"format": "index:2.0"}', "products:1.0, but has the format 'index:2.0'"),
    "a list": (b"[]", "products:1.0, but JSON of another kind"),
    "deep": (b"[" * 100_000, "is not JSON"),
    "a path up": (
        b'{"format":"index:1.0","index":{"x":{"datatype":"image-downloads","format":"products:1.0","path":"../x"}}}',
        "its path leads out of the mirror",
    ),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("content", "reason"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_an_index_that_is_none_is_told_in_one_line(root, mirror, sync, content, reason):
    (root / "streams/v1").mkdir(parents=True)
    (root / "streams/v1/index.json").write_bytes(content)

    code, lines, error = sync(mirror[0])

    assert (code, lines) == (1, [])
    assert error.startswith("Error: ")
    assert reason in error


ODD = [None, 5, "x", [], {}, {"a": None}, {"a": {"versions": 5}}, {"a": {"versions": {"v": {"items": []}}}}]


@pytest.mark.exhaustive
@pytest.mark.parametrize("products", ODD)
def test_odd_documents_of_products_break_nothing(root, sync, products):
    publish(root, UBUNTU, {})
    path = root / f"streams/v1/{UBUNTU}.json"
    path.write_text(json.dumps({"format": "products:1.0", "content_id": UBUNTU, "products": products}))

    code, _, summary = sync(root)

    is_list = isinstance(products, dict) and products != {}
    assert (code, summary.split(",")[0]) == (0 if is_list else 1, "0 added")


@pytest.mark.exhaustive
def test_an_index_without_end_is_not_read_to_its_end(mirror, root, sync):
    code, _, error = sync(f"{mirror[0]}/endless")
    (root / "streams/v1").mkdir(parents=True)
    with (root / "streams/v1/index.json").open("wb") as file:
        file.truncate(1 << 30)

    assert (code, "is larger than 128 MiB" in error) == (1, True)
    assert "is larger than 128 MiB" in sync(root)[2]


@pytest.mark.exhaustive
def test_a_large_index_is_read(folder, root, sync):
    product = ubuntu_product(root, {"20251113": qcow2(2)})
    disk = product["versions"]["20251113"]["items"]["disk1.img"]
    versions = {f"2024{number:04}": {"items": {"disk1.img": disk}, "pubname": f"n{number}"} for number in range(5000)}
    many = {f"p{number}": {**product, "versions": versions} for number in range(10)}
    path = publish(root, UBUNTU, many)

    assert path.stat().st_size > 10 * 1024 * 1024
    folder.run("import", "-", content="")  # a dry run makes no database
    assert sync(root, "--dry-run")[::2] == (0, "10 added, 0 updated, 0 unchanged")
    assert sync(root, "--dry-run", "--all-versions")[2] == "50000 added, 0 updated, 0 unchanged"


def test_https_never_becomes_http_on_the_way(certificate):
    import ssl

    import httpx2

    class Downgrade(BaseHTTPRequestHandler):
        def do_GET(self):
            is_first = self.path == "/a"
            self.send_response(302 if is_first else 200)
            self.send_header("Location", f"http://127.0.0.1:{plain.server_port}/b")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Downgrade) for _ in range(2)]
    secure, plain = servers
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    for server in servers:
        threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True).start()
    trusted = ssl.create_default_context(cafile=certificate[0])

    with httpx2.Client(verify=trusted, follow_redirects=True, trust_env=False) as http:
        mirror = Mirror(f"https://localhost:{secure.server_port}/", http)
        assert mirror.read_document("b") == {}
        with pytest.raises(FetchError, match="redirects from https to http"):
            mirror.read_document("a")
    for server in servers:
        server.shutdown()
        server.server_close()


def test_signed_documents_are_refused_since_signatures_are_not_verified(folder, sync):
    code, lines, error = sync("https://host/streams/v1/index.sjson")

    assert (code, lines) == (2, [])
    assert error == "Error: Signatures (.sjson) cannot be verified. Name the .json document beside it."
    assert "Signatures (.sjson) are NOT verified" in " ".join(folder.get("sync", "simplestreams", "--help").split())


def test_a_sync_over_http_says_that_nobody_vouches_for_it(folder, ubuntu, mirror):
    folder.run("import", "-", content="")  # a dry run makes no database
    assert (
        "http does not protect the index from forgery" in folder.run("sync", "simplestreams", mirror[0], "--dry-run")[2]
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("where", ["missing", "ftp://host/", "https://", "https://host/x?y=1"])
def test_a_source_that_is_none_is_told_in_one_line(sync, where):
    code, lines, error = sync(where)

    assert (code, lines) in ((1, []), (2, []))
    assert error.startswith("Error: ")


@pytest.mark.parametrize(
    ("url", "base", "path"),
    [
        ("https://host", "https://host/", "streams/v1/index.json"),
        ("https://host/releases/", "https://host/releases/", "streams/v1/index.json"),
        ("https://host/a/streams/v1/index.json", "https://host/a/", "streams/v1/index.json"),
        ("https://host/a/images.json", "https://host/a/", "images.json"),
    ],
)
def test_a_mirrors_root_is_known_from_any_of_its_urls(url, base, path):
    assert split_url(url) == (base, path)


PATHS = [
    "",
    ".",
    "a/../b",
    "..",
    "a//b",
    "a/",
    "./a",
    "a\\..\\b",
    "c:/x",
    "file:x",
    "a\nb",
    "a\0b",
    "x" * 3000,
    None,
    {},
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_could_lead_elsewhere_is_refused(path):
    with pytest.raises(StreamError):
        require_path(path)


@pytest.mark.exhaustive
def test_a_server_gets_the_records_too(folder, ubuntu, mirror, sync, start_server):
    server = start_server()

    assert sync(mirror[0], "--url", server.url)[::2] == (0, "2 added, 0 updated, 0 unchanged")
    assert sync(mirror[0], REGISTRY_URL=server.url)[::2] == (0, "0 added, 0 updated, 2 unchanged")
    assert len(server.request("GET", "/images")[2]["images"]) == 2
    assert os.listdir(folder.path)
