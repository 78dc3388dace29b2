"""What a dashboard costs others: it is read by one at a time, and remembered."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event

from conftest import ROOT

from locating import location_of
from ui import totals


def test_who_comes_while_totals_are_read_is_told_so_and_holds_no_thread(client):
    """On a million images they take seconds, and a worker has few threads: the API would wait too."""
    with ThreadPoolExecutor(1) as pool:
        with totals.reading_lock:
            asked = pool.submit(client.get, "/ui/dashboard")
            wait([asked], timeout=10)
        refused = asked.result()

    assert refused.status_code == 503
    assert "Retry-After" in refused.headers
    assert "Try again" in refused.text
    assert client.get("/ui/dashboard").status_code == 200


def test_what_took_long_to_read_is_remembered_however_many_readers_there_are(client):
    readings = []

    def read():
        readings.append(1)
        Event().wait(0.3)  # it costs this, and counts for a hundred times as long

    totals.remember(("dear",), read)
    for number in range(2 * totals.MOST_REMEMBERED):
        totals.remember(("cheap", number), lambda: None)
    totals.remember(("dear",), read)

    assert readings == [1]
    assert len(totals.remembered) <= totals.MOST_REMEMBERED


SCRIPT = "import sys; from ui.totals import is_lost; print(*[is_lost(url) for url in sys.argv[1:]])"


def test_a_file_is_lost_where_its_folder_can_be_looked_into_and_it_is_not_there(tmp_path):
    """Of what systemd or a container keeps from a service the service knows nothing."""
    seen, closed = tmp_path / "seen", tmp_path / "closed"
    for folder in (seen, closed):
        folder.mkdir()
        (folder / "there.img").touch()
    paths = [folder / name for folder in (seen, closed, tmp_path / "none") for name in ("there.img", "gone.img")]
    command = [sys.executable, "-c", SCRIPT, *map(location_of, paths)]
    closed.chmod(0)
    # Root may look into every folder, unless it gives that up.
    as_others = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if os.geteuid() == 0 else []

    try:
        done = subprocess.run([*as_others, *command], check=True, cwd=ROOT, capture_output=True, text=True, timeout=60)
    finally:
        closed.chmod(0o700)

    assert done.stdout.split() == ["False", "True", "False", "False", "False", "False"]
