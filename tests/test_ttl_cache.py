"""The bounded TTL cache."""

from storage.ttl_cache import TTLCache


def test_an_entry_is_fresh_until_its_time_to_live_has_passed():
    cache = TTLCache(max_entries=4)

    cache.put("fresh", 1, ttl=3600)
    cache.put("expired", 2, ttl=0)

    fresh, expired = cache.get("fresh"), cache.get("expired")
    assert (fresh.value, fresh.is_fresh) == (1, True)
    assert (expired.value, expired.is_fresh) == (2, False)
    assert 0 <= fresh.age < 3600
    assert cache.get("unknown") is None


def test_a_full_cache_drops_the_entries_that_expire_first():
    cache = TTLCache(max_entries=4)
    cache.put("long", 0, ttl=3600)

    for number in range(100):
        cache.put(number, number, ttl=number)
        assert len(cache.entries) <= 4

    assert cache.get("long").value == 0
    assert cache.get(99).value == 99


def test_storing_a_known_key_again_drops_nothing():
    cache = TTLCache(max_entries=2)
    cache.put("a", 1, ttl=10)
    cache.put("b", 2, ttl=10)

    cache.put("a", 3, ttl=10)

    assert (cache.get("a").value, cache.get("b").value) == (3, 2)


def test_clear_drops_all_entries():
    cache = TTLCache(max_entries=2)
    cache.put("a", 1, ttl=10)

    cache.clear()

    assert cache.get("a") is None
