"""Payloads are cleared when they are due, of the tenants whose they are, and nothing else ever is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from metering.clock import DAY_MS, from_ms, parse_iso
from streams.retention import Retention, cutoffs
from tests.integration.records import Counted, Records

NOW = parse_iso("2026-11-23T12:00:00Z")
COLUMNS = "tenant, source, id, time, quantities, dimensions, partition, version"


def sent(id: str, days_ago: float, quantity: str = "1") -> tuple[Counted, int]:
    """An event, and when it was received, which is its time."""
    at = NOW - int(days_ago * DAY_MS)
    return Counted(id, at, quantity=Decimal(quantity), dimensions={"room": "7"}), at


async def receive(clickhouse: Any, tenant: str, *events: tuple[Counted, int]) -> None:
    records = Records(clickhouse)
    for offset, (event, at) in enumerate(events):
        await records.rows(tenant, [event], offset, at)


async def rows(clickhouse: Any, what: str = COLUMNS, where: str = "1") -> list[Any]:
    return list(
        (await clickhouse.query(f"SELECT {what} FROM usage_events FINAL WHERE {where} ORDER BY ALL")).result_rows
    )


async def payloads(clickhouse: Any) -> list[tuple[str, str]]:
    """(tenant, id) of the events whose payload stands."""
    return [(tenant, id) for tenant, id in await rows(clickhouse, "tenant, id", "event != ''")]


async def letter(clickhouse: Any, tenant: str, offset: int, days_ago: float) -> None:
    at = from_ms(NOW - int(days_ago * DAY_MS))
    row = [1, 0, offset, 0, tenant, "negative", "must not be", '{"id": "x"}', at, at]
    columns = ["epoch", "partition", "offset", "line", "tenant", "reason", "detail", "payload", "received", "clock"]
    await clickhouse.insert("dead_letters", [row], column_names=columns)


async def rewrites(clickhouse: Any) -> int:
    return int((await clickhouse.query("SELECT count() FROM system.mutations")).result_rows[0][0])


async def test_payloads_go_by_their_tenants_days_and_everything_else_stays(clickhouse: Any) -> None:
    ages = (0.1, 6.9, 8.6, 20, 100, 400)
    for tenant in ("short", "long", "usual"):
        await receive(clickhouse, tenant, *(sent(f"e{age}", age, f"{age}") for age in ages))
    before = await rows(clickhouse)
    assert len(before) == len(await payloads(clickhouse)) == 18

    assert await Retention(clickhouse).clear(cutoffs({"short": 1, "long": 90}, 7, NOW)) == 3  # months that hold some

    assert await payloads(clickhouse) == [
        *(("long", f"e{age}") for age in (0.1, 20, 6.9, 8.6)),
        ("short", "e0.1"),
        *(("usual", f"e{age}") for age in (0.1, 6.9)),
    ]
    assert await rows(clickhouse) == before


async def test_without_a_default_only_tenants_with_days_of_their_own_are_touched(clickhouse: Any) -> None:
    for tenant in ("short", "usual"):
        await receive(clickhouse, tenant, sent("old", 100), sent("older", 500))
    assert await Retention(clickhouse).clear(cutoffs({}, None, NOW)) == 0
    assert await Retention(clickhouse).clear(cutoffs({"short": 200}, None, NOW)) == 1
    assert await payloads(clickhouse) == [("short", "old"), ("usual", "old"), ("usual", "older")]


async def test_what_was_cleared_is_not_rewritten_again(clickhouse: Any) -> None:
    await receive(clickhouse, "usual", sent("old", 100), sent("new", 1))
    assert await Retention(clickhouse).clear(cutoffs({}, 7, NOW)) == 1
    done = await rewrites(clickhouse)
    assert await Retention(clickhouse).clear(cutoffs({}, 7, NOW)) == 0
    assert await rewrites(clickhouse) == done


async def test_an_event_of_long_ago_is_kept_from_when_it_was_received(clickhouse: Any) -> None:
    event, _ = sent("backfilled", 700)
    await receive(clickhouse, "usual", (event, NOW - DAY_MS))
    assert await Retention(clickhouse).clear(cutoffs({}, 7, NOW)) == 0
    assert await Retention(clickhouse).clear(cutoffs({}, 7, NOW + 8 * DAY_MS)) == 1
    assert await payloads(clickhouse) == []


async def test_a_row_that_is_written_again_brings_its_payload_back_until_the_next_look(clickhouse: Any) -> None:
    await receive(clickhouse, "usual", sent("old", 100))
    before = await rows(clickhouse)
    for _ in range(2):
        assert await Retention(clickhouse).clear(cutoffs({}, 7, NOW)) == 1
        assert await payloads(clickhouse) == []
        await receive(clickhouse, "usual", sent("old", 100))  # a writer that recovered
        assert await payloads(clickhouse) == [("usual", "old")]
        assert await rows(clickhouse) == before
    await Retention(clickhouse).clear(cutoffs({}, 7, NOW))
    await clickhouse.command("OPTIMIZE TABLE usage_events FINAL")
    assert (await rows(clickhouse), await payloads(clickhouse)) == (before, [])


async def test_payloads_of_dead_letters_go_too_and_their_reasons_stay(clickhouse: Any) -> None:
    for offset, (tenant, age) in enumerate([("short", 3), ("short", 0.5), ("usual", 3), ("usual", 30), ("", 30)]):
        await letter(clickhouse, tenant, offset, age)
    assert await Retention(clickhouse).clear(cutoffs({"short": 1}, 7, NOW)) == 1
    found = await clickhouse.query(
        "SELECT tenant, offset, reason, payload != '' FROM dead_letters FINAL ORDER BY offset"
    )
    assert [tuple(row) for row in found.result_rows] == [
        ("short", 0, "negative", 0),
        ("short", 1, "negative", 1),
        ("usual", 2, "negative", 1),
        ("usual", 3, "negative", 0),
        ("", 4, "negative", 0),
    ]


async def test_a_rewrite_that_is_under_way_is_not_joined_by_another(clickhouse: Any) -> None:
    await receive(clickhouse, "usual", sent("old", 100))
    await clickhouse.command("SYSTEM STOP MERGES usage_events")
    await clickhouse.command("ALTER TABLE usage_events UPDATE subject = 'x' WHERE 1", settings={"mutations_sync": 0})
    assert await Retention(clickhouse).clear(cutoffs({}, 7, NOW)) == 0
    assert await payloads(clickhouse) == [("usual", "old")]


async def test_told_to_stop_it_stops_between_two_months(clickhouse: Any) -> None:
    await receive(clickhouse, "usual", *(sent(f"e{age}", age) for age in (100, 200, 300)))
    stops = iter([False, True])
    assert await Retention(clickhouse).clear(cutoffs({}, 7, NOW), lambda: next(stops)) == 1
    assert len(await payloads(clickhouse)) == 2
