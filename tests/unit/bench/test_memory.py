from __future__ import annotations

from bench.memory import growth

FLAT = [(float(at), 100.0 + at % 20 / 10) for at in range(0, 600, 10)]
LEAK = [(float(at), 100.0 + at / 10) for at in range(0, 600, 10)]


def test_a_process_that_stays_as_it_is_holds() -> None:
    found = growth("ingest-0", FLAT, 1_000_000, broker_on_disk=True)
    assert found.held and abs(found.slope) < 0.1


def test_a_process_that_leaks_does_not_and_its_slope_says_how_fast() -> None:
    found = growth("ingest-0", LEAK, 1_000_000, broker_on_disk=True)
    assert not found.held
    assert round(found.slope, 3) == 6.0


def test_redis_may_grow_by_the_identities_of_what_came_and_by_no_more() -> None:
    assert growth("redis", LEAK, 1_000_000, broker_on_disk=True).held
    assert not growth("redis", LEAK, 10_000, broker_on_disk=True).held


def test_only_a_broker_that_keeps_its_log_in_memory_may_grow_with_it() -> None:
    log = [(at, size * 10) for at, size in LEAK]
    assert growth("kafka", log, 1_000_000, broker_on_disk=False).held
    assert not growth("kafka", log, 1_000_000, broker_on_disk=True).held
