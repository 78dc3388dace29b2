"""Which file system a path is on: a write-ahead log is safe only where one machine alone maps the file."""

import os
import re

MOUNTS = "/proc/self/mountinfo"
NETWORK = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2"),
    *("smb2", "smb3", "smbfs", "virtiofs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
}


def is_full(path):
    """Whether nobody but root can put anything into the path's folder."""
    status = os.statvfs(os.path.dirname(os.path.abspath(path)))
    return status.f_bavail == 0 < status.f_blocks


def network_file_system(path, mounts=MOUNTS):
    """Its name, such as nfs4, or None where it is a local one or cannot be told."""
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
        # Of two on the same point the later one hides the earlier.
        if len(point) >= longest and os.path.commonpath([path, point]) == point:
            kind, longest = after.split(" ")[0], len(point)
    return kind if kind in NETWORK else None
