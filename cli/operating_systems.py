"""Canonical names of operating systems and CPU architectures, as in Glance's metadata definitions and libosinfo."""

# Other spellings → the Linux kernel's names, which Glance uses.
ARCHITECTURES = {
    "amd64": "x86_64",
    "x64": "x86_64",
    "x64fre": "x86_64",
    "x86_64_v2": "x86_64",
    "arm64": "aarch64",
    "arm64-aarch64": "aarch64",
    "armhf": "armv7l",
    "armv7hl": "armv7l",
    "i386": "i686",
    "x32": "i686",
    "ppc64el": "ppc64le",
    "powerpc-powerpc64le": "ppc64le",
    "riscv-riscv64": "riscv64",
}
KNOWN_ARCHITECTURES = ("x86_64", "aarch64", "armv7l", "i686", "ppc64le", "s390x", "riscv64", "loongarch64")
# Other spellings → os_distro.
DISTROS = {"alma": "almalinux", "alpine": "alpinelinux", "archlinux": "arch", "rockylinux": "rocky"}

# os_distro → codename → version.
CODENAMES = {
    "ubuntu": {
        "trusty": "14.04",
        "xenial": "16.04",
        "bionic": "18.04",
        "focal": "20.04",
        "jammy": "22.04",
        "noble": "24.04",
        "oracular": "24.10",
        "plucky": "25.04",
        "questing": "25.10",
        "resolute": "26.04",
    },
    "debian": {
        "stretch": "9",
        "buster": "10",
        "bullseye": "11",
        "bookworm": "12",
        "trixie": "13",
        "forky": "14",
    },
}


def normalize_architecture(word):
    """Return Glance's name of an architecture, None if the word names none."""
    found = ARCHITECTURES.get((word or "").lower(), (word or "").lower())
    return found if found in KNOWN_ARCHITECTURES else None


def normalize_distro(word):
    """Return the os_distro of an operating system's name."""
    found = "".join(word.lower().split())
    return DISTROS.get(found, found)


def version_of_codename(os_distro, codename):
    """Return the version that a release's codename stands for, None if unknown."""
    return CODENAMES.get(os_distro, {}).get((codename or "").lower())
