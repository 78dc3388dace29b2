"""Other files that a disk image needs: backing files, data files and parents of differencing disks."""

import ntpath
import os
import re

TO_QCOW2, TO_VMDK = "qemu-img convert -O qcow2 IN OUT", "qemu-img convert -O vmdk IN OUT"
LONGEST_NAME = 200
PROTOCOL = re.compile(r"[A-Za-z][\w+.-]+:")


def readable(name):
    """Return a name from a header in printable characters, not too many."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name)
    return text[:LONGEST_NAME] + ("…" if len(text) > LONGEST_NAME else "")


def describe_need(what, name, folder, command):
    """Return a reason that names the other file, and the command that merges both.

    The command is left out if the other file is missing, because it would need it.
    """
    file = f"{what} {name}" if name else what.replace("the ", "a ", 1)
    present = is_present(name, folder)
    if present is False:
        return f"needs {file}, which does not exist; restore that file, or get a whole image instead"
    condition = "" if present else "where that file is, "
    return f"needs {file}; {condition}flatten it with: {command}"


def is_present(name, folder):
    """Return whether a file named in a header exists; None if that cannot be told."""
    if not name or folder is None or (PROTOCOL.match(name) and not re.match(r"[A-Za-z]:\\", name)):
        return None
    names = {name, ntpath.basename(name)} if "\\" in name else {name}
    return any(os.path.exists(os.path.join(folder, each)) for each in names)
