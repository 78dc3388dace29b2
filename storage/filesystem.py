"""File systems: syncs to disk, a full disk, and network file systems, on which a write-ahead log is not safe."""

import os
import re

MOUNTS = "/proc/self/mountinfo"
NETWORK = {
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "gfs2",
    "glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "smb2",
    "smb3",
    "smbfs",
    "virtiofs",
    "fuse.glusterfs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
}


def sync(path):
    """Sync a file to disk."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path):
    """Sync the folder of a path to disk, and with it new and renamed files."""
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_full(path):
    """Return whether the disk of a path has no room left for other users than root."""
    status = os.statvfs(os.path.dirname(os.path.abspath(path)))
    return status.f_bavail == 0 < status.f_blocks


def network_file_system(path, mounts=MOUNTS):
    """Return the type of a path's network file system, such as nfs4, or None."""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError:  # not Linux
        return None
    path = os.path.realpath(path)
    kind, longest = None, -1
    for line in lines:
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split(" ")[4])
        # A later mount on the same point hides the earlier one.
        if len(point) >= longest and os.path.commonpath([path, point]) == point:
            kind, longest = after.split(" ")[0], len(point)
    return kind if kind in NETWORK else None
