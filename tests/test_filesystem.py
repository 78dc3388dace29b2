"""Network file systems are told from local ones by the table of mounts."""

import pytest

from migrations import warn_of_network
from storage.filesystem import network_file_system

TABLE = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /srv rw,relatime shared:2 - nfs4 server:/export rw,vers=4.2
31 30 8:2 / /srv/local rw,relatime - xfs /dev/sdb1 rw
32 22 0:40 / /mnt/with\\040space rw - cifs //server/share rw
33 22 0:41 / /data rw - nfs server:/data rw
34 22 8:3 / /data rw - ext4 /dev/sdc1 rw
35 22 0:50 / /home/me/far rw,nosuid shared:3 master:1 - fuse.sshfs me@far:/ rw
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "mountinfo"
    path.write_text(TABLE)
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/registry.db", None),
        ("/srv/registry.db", "nfs4"),
        ("/srvother/registry.db", None),
        ("/srv/local/registry.db", None),
        ("/mnt/with space/registry.db", "cifs"),
        ("/data/registry.db", None),
        ("/home/me/far/a/registry.db", "fuse.sshfs"),
    ],
)
def test_a_network_file_system_is_known_by_its_mount(table, path, kind):
    assert network_file_system(path, table) == kind


def test_where_there_is_no_table_nothing_is_said(tmp_path):
    assert network_file_system("/srv/registry.db", tmp_path / "missing") is None


def test_a_start_warns_of_one_in_one_line(table, capsys):
    warn_of_network("/srv/registry.db", table)
    warn_of_network("/data/registry.db", table)

    warning = capsys.readouterr().err
    assert warning.startswith("registry: warning: /srv/registry.db is on a network file system (nfs4)")
    assert warning.count("\n") == 1
