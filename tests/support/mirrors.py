"""Small mirror with the documents of cloud-images.ubuntu.com and images.linuxcontainers.org."""

import hashlib
import json
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

UBUNTU, INCUS = "com.ubuntu.cloud:released:download", "images"


def item_of(root, ftype, path, content):
    """Return an item, after writing its file."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)
    return {"ftype": ftype, "path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def ubuntu_product(root, disks, *, release="noble", version="24.04", arch="amd64"):
    """Return a product like those of Ubuntu; ``disks`` is {version: content}."""
    versions = {}
    for name, content in disks.items():
        folder = f"server/releases/{release}/release-{name}"
        stem = f"{folder}/ubuntu-{version}-server-cloudimg-{arch}"
        disk = item_of(root, "disk1.img", f"{stem}.img", content)
        items = {
            "disk1.img": disk | {"md5": hashlib.md5(content).hexdigest()},
            "manifest": item_of(root, "manifest", f"{stem}.manifest", b"adduser 3.137\n"),
            "root.tar.xz": item_of(root, "root.tar.xz", f"{stem}-root.tar.xz", b"packed"),
            "squashfs": item_of(root, "squashfs", f"{stem}.squashfs", b"hsqs"),
        }
        pubname = f"ubuntu-{release}-{version}-{arch}-server-{name}"
        versions[name] = {"items": items, "label": "release", "pubname": pubname}
    return {
        "aliases": f"{version},n,{release},lts,default",
        "arch": arch,
        "os": "ubuntu",
        "release": release,
        "release_codename": "Noble Numbat",
        "release_title": f"{version} LTS",
        "support_eol": "2029-05-31",
        "supported": True,
        "version": version,
        "versions": versions,
    }


def incus_product(root, disks, *, arch="amd64"):
    """Return a product like those of Incus; ``disks`` is {version: content}."""
    versions = {}
    for name, content in disks.items():
        folder = f"images/debian/trixie/{arch}/default/{name}"
        disk = item_of(root, "disk-kvm.img", f"{folder}/disk.qcow2", content)
        meta = item_of(root, "incus.tar.xz", f"{folder}/incus.tar.xz", b"meta")
        combined = {f"combined_{part}_sha256": "0" * 64 for part in ("disk-kvm-img", "rootxz", "squashfs")}
        rootfs = item_of(root, "squashfs", f"{folder}/rootfs.squashfs", b"hsqs")
        versions[name] = {"items": {"disk.qcow2": disk, "incus.tar.xz": meta | combined, "root.squashfs": rootfs}}
    return {
        "aliases": "debian/trixie/default,debian/trixie,debian/13/default,debian/13",
        "arch": arch,
        "lxd_requirements": {},
        "os": "Debian",
        "release": "trixie",
        "release_title": "trixie",
        "requirements": {"secureboot": "false"},
        "variant": "default",
        "versions": versions,
    }


def publish(root, stream, products, **extra):
    """Write a document of products and an index, which also names one without downloads."""
    path = "streams/v1/images.json" if stream == INCUS else f"streams/v1/{stream}.json"
    (root / "streams/v1").mkdir(parents=True, exist_ok=True)
    document = {"content_id": stream, "datatype": "image-downloads", "format": "products:1.0", "products": products}
    (root / path).write_text(json.dumps(document | extra))
    entry = {"datatype": "image-downloads", "format": "products:1.0", "path": path, "products": list(products)}
    others = {"datatype": "image-ids", "format": "products:1.0", "path": "streams/v1/aws.json", "products": ["x"]}
    index = {"format": "index:1.0", "index": {stream: entry, "com.ubuntu.cloud:released:aws": others}}
    (root / "streams/v1/index.json").write_text(json.dumps(index))
    return root / path


class Handler(SimpleHTTPRequestHandler):
    """Server of a folder: /cut/ truncates, /moved/ redirects, /endless/ never stops."""

    asked = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.asked.append(self.path)
        _, first, rest = self.path.split("/", 2) if self.path.count("/") > 1 else ("", "", "")
        if first == "moved":
            self.send_response(302)
            self.send_header("Location", f"/{rest}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif first == "round":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif first == "cut" and not rest.endswith(".json"):
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"half")
        elif first == "endless":
            self.send_response(200)
            self.end_headers()
            block = b" " * 1024 * 1024
            for _ in range(1024):
                self.wfile.write(block)
        else:
            self.path = f"/{rest}" if first == "cut" else self.path
            super().do_GET()


@contextmanager
def serving(root):
    """Yield (URL, list of requested paths) of a mirror on a free port."""
    handler = type("Handling", (Handler,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=root)) as server:
        server.handle_error = lambda *_: None  # clients that break off
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler.asked
        finally:
            server.shutdown()
            thread.join()


__all__ = ["INCUS", "UBUNTU", "incus_product", "publish", "serving", "ubuntu_product"]
