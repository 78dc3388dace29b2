"""Cost of the dashboard: one thread at a time computes it, and the result is cached."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from html import unescape
from threading import Event

from conftest import ROOT
from support.ui_pages import visit
from test_ui_list import rows as listed

from formatting import file_url
from listing import aggregates
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

    totals.read_cached(("dear",), read)
    for number in range(2 * totals.MOST_CACHED):
        totals.read_cached(("cheap", number), lambda: None)
    totals.read_cached(("dear",), read)

    assert readings == [1]
    assert len(totals.totals_cache.entries) <= totals.MOST_CACHED


def test_each_figure_is_as_many_as_the_list_that_it_links_to_has(client, make_image):
    for number in range(3):
        make_image(owner="acme", size=1, status="killed" if number else "active")
        make_image(owner="zeta", size=1 << 30, disk_format="iso", container_format="bare")
    page = visit(client, "/ui/dashboard")
    text = client.get("/ui/dashboard").text

    bar = r'(?:<bdi[^>]*>\w+</bdi></a></th>.*?class="number">)?'
    rows = re.findall(rf'<a href="(/ui/images[^"]*)">{bar}([\d,]+)<', text, re.DOTALL)

    assert len(rows) == 9
    for link, count in rows:
        assert len(listed(visit(client, unescape(link)))) == int(count), link
    assert page.text.index("zeta") < page.text.index("acme")


def test_bars_are_in_the_order_of_their_length(client, make_image):
    make_image(owner="large", size=1 << 40)
    for _ in range(3):
        make_image(owner="many", size=1)

    text = visit(client, "/ui/dashboard").text

    assert text.index("large") < text.index("many")


def test_what_is_wrong_is_counted_and_more_than_is_named_has_a_command(client, make_image, monkeypatch):
    for number in range(7):
        make_image(name=f"lost {number}")
        make_image(name="same", checksum=f"{number // 2}")

    text = visit(client, "/ui/dashboard").text
    monkeypatch.setattr(aggregates, "CANDIDATES", 10)
    totals.totals_cache.clear()
    fewer = visit(client, "/ui/dashboard").text

    assert "no location 14 images active" in text
    assert "select(.location == null)" in text
    assert "duplicate 3 checksums shared by" in text
    assert "uniq -d" not in text
    assert "no location at least 14 images" in fewer


def test_months_have_what_was_added_in_them_and_is_seen(client_as, make_image):
    now = datetime.now(UTC)
    this, before = f"{now:%Y-%m}", f"{now.replace(day=1) - timedelta(days=1):%Y-%m}"
    for month, fields in ((this, {"is_public": True}), (before, {"owner": "owner"}), ("2001-01", {"is_public": True})):
        make_image(created_at=f"{month}-01T00:00:00.000000", **fields)
    make_image(created_at=f"{before}-28T23:59:59.999999", owner="stranger", members={"owner": False})

    def months(caller):
        text = visit(client_as(caller), "/ui/dashboard").text.partition("Show as a table")[2]
        return dict(re.findall(r"(\d{4}-\d\d) (\d+)", text))

    assert months("admin") == months("owner") == {this: "1", before: "2"}
    assert months("anonymous") == {this: "1"}


SCRIPT = "import sys; from ui.totals import is_lost; print(*[is_lost(url) for url in sys.argv[1:]])"


def test_a_file_is_lost_where_its_folder_can_be_looked_into_and_it_is_not_there(tmp_path):
    """Of what systemd or a container keeps from a service the service knows nothing."""
    seen, closed = tmp_path / "seen", tmp_path / "closed"
    for folder in (seen, closed):
        folder.mkdir()
        (folder / "there.img").touch()
    paths = [folder / name for folder in (seen, closed, tmp_path / "none") for name in ("there.img", "gone.img")]
    command = [sys.executable, "-c", SCRIPT, *map(file_url, paths)]
    closed.chmod(0)
    # Root may look into every folder, unless it gives that up.
    as_others = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if os.geteuid() == 0 else []

    try:
        done = subprocess.run([*as_others, *command], check=True, cwd=ROOT, capture_output=True, text=True, timeout=60)
    finally:
        closed.chmod(0o700)

    assert done.stdout.split() == ["False", "True", "False", "False", "False", "False"]
