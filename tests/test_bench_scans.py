"""The benchmark of ``scan`` runs, and says what it should."""

import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, clean_environment


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("sha512sum") is None, reason="there is no sha512sum to compare with")
def test_a_scan_is_held_against_the_programs_that_take_the_same_sums(tmp_path):
    options = ["--sparse", "8", "--dense", "0", "--rounds", "1", "--folder", str(tmp_path)]

    done = subprocess.run(
        [sys.executable, "-m", "bench.scans", *options],
        check=False,
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert (done.returncode, done.stderr) == (0, "")
    rows = re.findall(r"^\| (scan .*?) +\| (\d+\.\d+)", done.stdout, re.MULTILINE)
    assert [name for name, _ in rows] == [
        "scan ÷ md5sum and sha512sum at once",
        "scan ÷ md5sum, then sha512sum",
        "scan ÷ md5sum and sha512sum: CPU",
        "scan again, nothing changed",
    ]
    assert list(tmp_path.iterdir()) == []
