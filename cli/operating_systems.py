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


def normalize_architecture(word):
    """Return Glance's name of an architecture, None if the word names none."""
    found = ARCHITECTURES.get((word or "").lower(), (word or "").lower())
    return found if found in KNOWN_ARCHITECTURES else None


def normalize_distro(word):
    """Return the os_distro of an operating system's name."""
    found = "".join(word.lower().split())
    return DISTROS.get(found, found)
