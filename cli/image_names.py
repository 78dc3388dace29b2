"""Parser for file names of well-known cloud images: display name, os_distro, os_version, architecture."""

import re
from pathlib import PurePath
from typing import NamedTuple

from cli.operating_systems import CODENAMES, normalize_architecture, version_of_codename

# Build number → version of Windows Server.
WINDOWS_VERSIONS = {"14393": "2016", "17763": "2019", "20348": "2022", "26100": "2025"}
# os_distro → display name.
TITLES = {
    "almalinux": "AlmaLinux",
    "alpinelinux": "Alpine Linux",
    "arch": "Arch Linux",
    "centos": "CentOS",
    "cirros": "CirrOS",
    "debian": "Debian",
    "fedora": "Fedora",
    "freebsd": "FreeBSD",
    "opensuse": "openSUSE",
    "rhel": "Red Hat Enterprise Linux",
    "rocky": "Rocky Linux",
    "ubuntu": "Ubuntu",
    "windows": "Windows",
}


class Row(NamedTuple):
    """Pattern of file names, in lower case and without ending.

    Its optional groups are version, variant, build and arch.

    ``versions`` translates the version, ``title`` replaces the distro's display name, ``arch`` is for names without.
    """

    os_distro: str
    pattern: re.Pattern
    versions: dict[str, str] = {}
    title: str | None = None
    arch: str | None = None


TABLE = (
    Row(
        "ubuntu",
        re.compile(
            r"ubuntu-(?P<version>\d\d\.\d\d)-(?P<variant>\w+)-cloudimg-(?P<arch>[a-z0-9]+)(-(disk-kvm|disk1|uefi1|root))?"
        ),
    ),
    Row(
        "ubuntu",
        re.compile(r"(?P<version>[a-z]+)-(?P<variant>\w+)-cloudimg-(?P<arch>[a-z0-9]+)(-(disk-kvm|disk1|uefi1|root))?"),
        CODENAMES["ubuntu"],
    ),
    Row("ubuntu", re.compile(r"ubuntu-(?P<version>\d\d\.\d\d(\.\d)?)-(?P<variant>[a-z-]+?)-(?P<arch>[a-z0-9_]+)")),
    Row("debian", re.compile(r"debian-(?P<version>\d+)-(?P<variant>[a-z]+)-(?P<arch>[a-z0-9]+)(-(?P<build>[\w-]+))?")),
    Row(
        "debian",
        re.compile(
            r"debian-(?P<version>sid|forky|trixie)-(?P<variant>[a-z]+)-(?P<arch>[a-z0-9]+)(-(?P<build>[\w-]+))?"
        ),
    ),
    Row("debian", re.compile(r"debian-(?P<version>\d+\.\d+\.\d+)-(?P<arch>[a-z0-9]+)-(?P<variant>[\w-]+)")),
    Row("debian", re.compile(r"debian-live-(?P<version>\d+\.\d+\.\d+)-(?P<arch>[a-z0-9]+)-(?P<variant>[\w-]+)")),
    Row(
        "fedora",
        re.compile(r"fedora-(?P<variant>[a-z-]+)-(?P<version>\d+)-(?P<build>[\w.]+?)\.(?P<arch>[a-z][a-z0-9_]+)"),
    ),
    Row(
        "fedora",
        re.compile(r"fedora-(?P<variant>[a-z-]+)[.-](?P<arch>[a-z][a-z0-9_]+)-(?P<version>\d+)-(?P<build>[\w.]+)"),
    ),
    Row(
        "fedora",
        re.compile(r"fedora-(?P<variant>coreos)-(?P<version>\d+)\.(?P<build>[\d.]+)-[a-z]+\.(?P<arch>[a-z0-9_]+)"),
    ),
    Row(
        "centos",
        re.compile(
            r"centos-stream-(?P<variant>[a-z]+(-base)?)(-\w+?)?-(?P<version>\d+)-(?P<build>[\w.]+?)\.(?P<arch>\w+)"
        ),
        title="CentOS Stream",
    ),
    Row(
        "centos",
        re.compile(r"centos-stream-(?P<version>\d+)-(?P<build>\w+)-(?P<arch>\w+)-\w+"),
        title="CentOS Stream",
    ),
    Row(
        "centos",
        re.compile(r"centos-(?P<version>\d+)-(?P<arch>x86_64|aarch64)-(?P<variant>[a-z]+)(-(?P<build>[\w.]+))?"),
    ),
    Row(
        "rocky",
        re.compile(
            r"rocky-\d+-(?P<variant>[a-z-]+?)-(?P<version>\d+\.\d+)-(?P<build>[\d.]+)\.(?P<arch>[a-z][a-z0-9_]+)"
        ),
    ),
    Row("rocky", re.compile(r"rocky-(?P<version>\d+)-(?P<variant>[a-z-]+)\.(?P<build>latest)\.(?P<arch>[a-z0-9_]+)")),
    Row("rocky", re.compile(r"rocky-(?P<version>[\d.]+)-(?P<arch>x86_64|aarch64|ppc64le|s390x)-(?P<variant>\w+)")),
    Row(
        "almalinux",
        re.compile(
            r"almalinux-\d+-(?P<variant>[a-z-]+?)-(?P<version>\d+\.\d+)-(?P<build>[\d.]+)\.(?P<arch>[a-z][a-z0-9_]+)"
        ),
    ),
    Row(
        "almalinux",
        re.compile(r"almalinux-(?P<version>\d+)-(?P<variant>[a-z-]+)-(?P<build>latest)\.(?P<arch>[a-z0-9_]+)"),
    ),
    Row(
        "almalinux",
        re.compile(r"almalinux-(?P<version>[\d.]+)-(?P<arch>x86_64|aarch64|ppc64le|s390x)-(?P<variant>\w+)"),
    ),
    Row(
        "opensuse",
        re.compile(
            r"(opensuse-)?leap-(?P<version>\d+\.\d+)(-(?P<variant>minimal-vm))?\.(?P<arch>[a-z0-9_]+)(-(?P<build>[\w.-]+))?"
        ),
        title="openSUSE Leap",
    ),
    Row(
        "opensuse",
        re.compile(
            r"opensuse-(?P<version>tumbleweed)-(?P<variant>minimal-vm)\.(?P<arch>[a-z0-9_]+)(-(?P<build>[\w.-]+))?"
        ),
    ),
    Row(
        "opensuse",
        re.compile(r"opensuse-leap-(?P<version>\d+\.\d+)-(?P<variant>\w+)-(?P<arch>\w+?)(-(?P<build>[\w.]+))?"),
        title="openSUSE Leap",
    ),
    Row(
        "alpinelinux",
        re.compile(
            r"(?P<variant>nocloud|generic|aws|gcp|azure|oci)_alpine-(?P<version>\d+\.\d+\.\d+)-(?P<arch>\w+)-(?P<build>[\w-]+)"
        ),
    ),
    Row("alpinelinux", re.compile(r"alpine-(?P<variant>[a-z]+)-(?P<version>\d+\.\d+\.\d+)-(?P<arch>\w+)")),
    Row("arch", re.compile(r"arch-linux-(?P<arch>\w+)-(?P<variant>[a-z]+)(-(?P<build>[\d.]+))?")),
    Row("arch", re.compile(r"archlinux-(?P<build>\d{4}\.\d\d\.\d\d)-(?P<arch>\w+)")),
    Row("arch", re.compile(r"archlinux-(?P<arch>x86_64|aarch64)")),
    Row(
        "freebsd",
        re.compile(
            r"freebsd-(?P<version>\d+\.\d+)-(?P<build>[a-z0-9]+)-(?P<arch>arm64-aarch64|riscv-riscv64|powerpc-powerpc64le|[a-z0-9]+)"
            r"(-(?P<variant>[a-z0-9-]+))?"
        ),
    ),
    Row("cirros", re.compile(r"cirros-(?P<version>d?[\d.]+)-(?P<arch>\w+)-(disk|uec|rootfs)")),
    Row(
        "rhel",
        re.compile(r"rhel-(?P<version>\d+\.\d+)(-update-\d+)?-(?P<arch>x86_64|aarch64|ppc64le|s390x)-(?P<variant>\w+)"),
    ),
    Row(
        "rhel",
        re.compile(
            r"rhel-(?P<variant>guest-image)-(?P<version>\d+\.\d+)-(?P<build>[\w.-]+?)\.(?P<arch>[a-z][a-z0-9_]+)"
        ),
    ),
    Row(
        "windows",
        re.compile(r"win(?P<version>1[01])(_(?P<build>\d\dh\d))?_[a-z_]+?_(?P<arch>x64|arm64|x32)(v\d)?"),
    ),
    Row(
        "windows",
        re.compile(r"windows_server_(?P<version>\d{4}(_r2)?)_(?P<variant>[a-z_]+)_(?P<build>\d+)"),
        title="Windows Server",
        arch="x64",
    ),
    Row(
        "windows",
        re.compile(r"[a-z]{2}-[a-z]{2}_windows_server_(?P<version>\d{4})[a-z0-9_]*?_(?P<arch>x64|arm64)_dvd_\w+"),
        title="Windows Server",
    ),
    Row(
        "windows",
        re.compile(r"(?P<version>\d{5})\.[\d.]+-\d+\.[a-z0-9_]+?_server_eval_(?P<arch>x64fre)_[a-z]{2}-[a-z]{2}"),
        WINDOWS_VERSIONS,
        title="Windows Server",
    ),
)


class ParsedName(NamedTuple):
    """Display name of an image, and the properties known from its file name."""

    name: str
    properties: dict[str, str]


def parse_image_name(file_name):
    """Return the ParsedName of a file name without its folder.

    An unknown one is its own display name.
    """
    stem = PurePath(file_name).stem
    for row in TABLE:
        match = row.pattern.fullmatch(stem.lower())
        if match and (found := read_row(row, match.groupdict(), find_extra_words(stem, match))):
            return found
    return ParsedName(stem, {})


def find_extra_words(stem, match):
    """Return variant and build in the letter case of the file name: GenericCloud."""
    if len(stem) != len(match.string):  # lower-casing changed the length, so offsets differ
        return []
    spans = [match.span(group) for group in ("variant", "build") if group in match.re.groupindex]
    return [stem[slice(*span)].strip(".").replace("_", " ") for span in spans if span[0] >= 0]


def read_row(row, groups, words):
    """Return the ParsedName, or None if version or architecture is unknown."""
    version, arch = groups.get("version"), row.arch or groups.get("arch")
    if row.versions:
        version = row.versions.get(version)
    architecture = normalize_architecture(arch)
    if (row.versions and version is None) or (arch and architecture is None):
        return None
    version = version_of_codename(row.os_distro, version) or (version.replace("_", " ") if version else None)
    words = [row.title or TITLES[row.os_distro], version, *words, architecture]
    found = {"os_distro": row.os_distro, "os_version": version, "architecture": architecture}
    properties = {name: value for name, value in found.items() if value}
    return ParsedName(" ".join(word for word in words if word), properties)
