"""What a dashboard costs others: it is read by one at a time, and remembered."""

from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event

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
