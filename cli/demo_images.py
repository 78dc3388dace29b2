"""Sample images of the demo: public, private, failed and deleted ones."""

import hashlib
import uuid
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

NAMESPACE = uuid.UUID("1a0c7d3e-5b0f-5d0a-9f35-d3a5c0ffee00")
MIB, GIB = 1024**2, 1024**3
SITE = "https://images.example.com"


class Sample(NamedTuple):
    """Sample image: size in ``megabytes``, virtual size in ``gigabytes``, age in days."""

    name: str
    distro: str
    version: str
    architecture: str
    disk_format: str
    megabytes: float
    gigabytes: float
    age: float
    more: dict = {}
    members: dict = {}
    is_deleted: bool = False


PRIVATE = {"is_public": False, "owner": "acme"}
SAMPLES = (
    Sample("cirros-0.6.3", "cirros", "0.6.3", "x86_64", "qcow2", 20.7, 0.11, 0.02, {"min_ram": 64}),
    Sample("debian-13", "debian", "13", "x86_64", "qcow2", 336.4, 3, 2, {"min_disk": 3, "min_ram": 512}),
    Sample("debian-13-arm64", "debian", "13", "aarch64", "qcow2", 329.1, 3, 2, {"min_disk": 3, "min_ram": 512}),
    Sample("debian-13-netinst", "debian", "13", "x86_64", "iso", 783.0, 0, 4),
    Sample("debian-12", "debian", "12", "x86_64", "qcow2", 422.6, 2, 61, {"min_disk": 2, "min_ram": 512}),
    Sample("ubuntu-24.04", "ubuntu", "24.04", "x86_64", "qcow2", 596.8, 3.5, 6, {"min_disk": 4, "min_ram": 1024}),
    Sample("ubuntu-24.04-arm64", "ubuntu", "24.04", "aarch64", "qcow2", 589.3, 3.5, 6, {"min_disk": 4}),
    Sample("ubuntu-22.04", "ubuntu", "22.04", "x86_64", "qcow2", 658.1, 2.2, 33, {"min_disk": 3, "min_ram": 1024}),
    Sample("ubuntu-24.04-desktop", "ubuntu", "24.04", "x86_64", "iso", 6057.9, 0, 90),
    Sample("fedora-43", "fedora", "43", "x86_64", "qcow2", 556.3, 5, 12, {"min_disk": 5, "min_ram": 1024}),
    Sample("fedora-coreos-stable", "fedora", "43", "x86_64", "qcow2", 1744.0, 10, 9, {"min_disk": 10}),
    Sample("centos-stream-10", "centos", "10", "x86_64", "qcow2", 911.2, 10, 17, {"min_disk": 10}),
    Sample("rocky-10", "rocky", "10", "x86_64", "qcow2", 531.6, 10, 40, {"min_disk": 10, "min_ram": 2048}),
    Sample("almalinux-10", "almalinux", "10", "x86_64", "qcow2", 462.9, 10, 44, {"min_disk": 10, "min_ram": 2048}),
    Sample("almalinux-9", "almalinux", "9", "x86_64", "qcow2", 569.4, 10, 120, {"min_disk": 10}),
    Sample("opensuse-leap-15.6", "opensuse", "15.6", "x86_64", "qcow2", 643.5, 10, 75, {"min_disk": 10}),
    Sample("opensuse-tumbleweed", "opensuse", "20261118", "x86_64", "qcow2", 312.0, 1.2, 5),
    Sample("alpine-3.22", "alpine", "3.22", "x86_64", "qcow2", 167.3, 0.2, 25, {"min_ram": 128}),
    Sample("arch-linux", "arch", "20261115", "x86_64", "qcow2", 528.7, 40, 8, {"min_disk": 40}),
    Sample("freebsd-14.3", "freebsd", "14.3", "x86_64", "qcow2", 650.2, 6, 150, {"min_disk": 6}),
    Sample("windows-server-2025-eval", "windows", "2025", "x86_64", "vhd", 10854.4, 40, 210, {"min_ram": 4096}),
    Sample("photon-5-vsphere", "photon", "5.0", "x86_64", "vmdk", 341.0, 16, 190),
    # Private images of a team.
    Sample(
        "golden-base", "debian", "13", "x86_64", "raw", 2048, 2, 1, {**PRIVATE, "protected": True}, {"research": True}
    ),
    Sample("golden-gpu", "ubuntu", "24.04", "x86_64", "raw", 14336, 14, 3, PRIVATE, {"research": False, "lab": False}),
    Sample("web-frontend-2026.11", "alpine", "3.22", "x86_64", "qcow2", 241.9, 4, 0.4, PRIVATE),
    # Failed and deleted images.
    Sample("nightly-build", "debian", "13", "x86_64", "qcow2", 0, 0, 1.5, {**PRIVATE, "status": "queued"}),
    Sample("broken-upload", "fedora", "43", "x86_64", "qcow2", 112.5, 0, 7, {**PRIVATE, "status": "killed"}),
    Sample("centos-7", "centos", "7", "x86_64", "qcow2", 858.2, 8, 880, is_deleted=True),
    Sample("ubuntu-18.04", "ubuntu", "18.04", "x86_64", "qcow2", 387.5, 2.2, 1020, is_deleted=True),
    Sample("golden-base-old", "debian", "12", "x86_64", "raw", 2048, 2, 300, PRIVATE, is_deleted=True),
)


def make_id(sample):
    """Return the sample's id, the same on every machine."""
    return str(uuid.uuid5(NAMESPACE, sample.name))


def make_body(sample, now=None):
    """Return the body of POST /images for a sample.

    Its checksum is derived from its name.
    """
    created = (now or datetime.now(UTC)) - timedelta(days=sample.age)
    moment = created.replace(tzinfo=None).isoformat(timespec="microseconds")
    seed = hashlib.sha256(sample.name.encode()).digest()
    odd_bytes = 0 if sample.disk_format == "raw" else seed[0] * 16
    values = {
        "id": make_id(sample),
        "name": sample.name,
        "status": "active",
        "is_public": True,
        "disk_format": sample.disk_format,
        "container_format": "bare",
        "properties": {"os_distro": sample.distro, "os_version": sample.version, "architecture": sample.architecture},
        "created_at": moment,
        "updated_at": moment,
    } | sample.more
    if sample.megabytes:
        size = int(sample.megabytes * MIB) // 4096 * 4096 + odd_bytes
        virtual = int(sample.gigabytes * GIB) if sample.gigabytes else None
        values |= {"size": size, "virtual_size": virtual, "checksum": seed.hex()[:32]}
        values |= {"location": f"{SITE}/{sample.distro}/{sample.name}.{sample.disk_format}"}
    return values
