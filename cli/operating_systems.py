"""What operating systems and architectures are called, as Glance and libosinfo have it."""

# As Glance's metadata definitions have them: the kernel's names.
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
KNOWN = ("x86_64", "aarch64", "armv7l", "i686", "ppc64le", "s390x", "riscv64", "loongarch64")
# What others call them.
DISTROS = {"alma": "almalinux", "alpine": "alpinelinux", "archlinux": "arch", "rockylinux": "rocky"}


def architecture_of(word):
    """As Glance has it, or None for a word that is none."""
    found = ARCHITECTURES.get((word or "").lower(), (word or "").lower())
    return found if found in KNOWN else None


def distro_of(word):
    """os_distro of what a stream calls an operating system."""
    found = "".join(word.lower().split())
    return DISTROS.get(found, found)
