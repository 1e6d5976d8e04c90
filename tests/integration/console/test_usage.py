"""What was used: from the ledger, from the counters, and while one of them is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from metering import keys
from metering.clock import DAY_MS, SystemClock, from_ms, iso
from metering.partition import partition_of
from metering.period import LIFETIME, BillingTerm, period_of, terms_text
from metering.position import version_of
from tenancy.epochs import Epochs
from tests.integration.console.conftest import Api

EPOCH, PARTITIONS = 1, 4
NOON = SystemClock().now_ms() // DAY_MS * DAY_MS - 10 * DAY_MS
EVENTS = [
    *("tenant", "time", "source", "id", "type", "subject", "event", "received", "clock", "catalog_version"),
    *("quantities", "uniques", "dimensions", "voided", "partition", "version"),
]
FRAMES = ["epoch", "partition", "offset", "tenant", "events", "counted", "duplicates", "voided", "dead", "hours"]


class Counted:
    """Writes what the writer writes."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._offset = -1

    async def call(self, tenant: str, seconds: str, language: str, time: int) -> None:
        """One call in the ledger, in a frame with a duplicate and two dead letters."""
        self._offset += 1
        at = from_ms(time)
        quantities = {name: Decimal(seconds) for name in ("seconds", "longest")} | {"calls": Decimal(1)}
        row = [tenant, at, "/t", str(self._offset), "call", "", "{}", at, at, 1, quantities, {}, {"language": language}]
        row += [0, 0, version_of(EPOCH, self._offset, 0)]
        await self.api.clickhouse.insert("usage_events", [row], column_names=EVENTS)
        frame = [EPOCH, 0, self._offset, tenant, 4, 1, 1, 0, 2, [time // 3_600_000], 7, at, 0]
        names = [*FRAMES, "checksum", "clock", "closing"]
        await self.api.clickhouse.insert("usage_frames", [frame], column_names=names)

    async def counters(self, tenant: str, **fields: str) -> None:
        """`meter_kind="text"` of the period that is open now."""
        at = (EPOCH, partition_of(tenant, PARTITIONS))
        await self.api.redis.set(keys.EPOCH, f"{EPOCH}:{PARTITIONS}")
        await self.api.redis.hset(keys.applied(*at), mapping={"offset": 5, "checksum": 7, "clock": NOON})
        now = SystemClock().now_ms()
        for name, text in fields.items():
            meter, kind = name.split("_")
            field = keys.counter_field(meter, kind, period_of(kind, now).start)  # type: ignore[arg-type]
            await self.api.redis.hset(keys.counters(*at, tenant), field, text)


@pytest.fixture
async def counted(api: Api) -> AsyncIterator[Counted]:
    anchor = "2026-01-01T00:00:00Z"
    await api.must("POST", "/v1/tenants", {"name": "grand", "plan": "small", "anchor": anchor})
    await api.must("POST", "/v1/tenants", {"name": "plaza"})
    yield Counted(api)
    for table in ("usage_events", "usage_frames"):
        await api.clickhouse.command(f"TRUNCATE TABLE {table}")


async def test_the_ledger_tells_totals_groups_and_what_became_of_the_events(counted: Counted) -> None:
    await counted.call("grand", "0.100", "de", NOON)
    await counted.call("grand", "0.200", "de", NOON + 1)
    await counted.call("grand", "60", "", NOON + 2)
    await counted.call("plaza", "999", "fr", NOON)
    answer = await counted.api.must("GET", "/v1/usage?tenant=grand&group_by=language")
    assert answer == {
        "tenant": "grand",
        "source": "ledger",
        "events": 3,
        "duplicates": 3,
        "voided": 0,
        "dead": 6,
        "meters": {
            "seconds": {"total": "60.3", "groups": {"": "60", "de": "0.3"}},
            "calls": {"total": "3"},
            "longest": {"total": "60"},
            "tokens": {"total": "0"},
        },
    }


async def test_from_is_included_and_to_is_not(counted: Counted) -> None:
    for offset in (0, 1000, 2000):
        await counted.call("grand", "1", "de", NOON + offset)

    async def calls(**query: str) -> Any:
        text = "".join(f"&{name.rstrip('_')}={at}" for name, at in query.items())
        return (await counted.api.must("GET", f"/v1/usage?tenant=grand&meter=calls{text}"))["meters"]["calls"]["total"]

    assert await calls(from_=iso(NOON + 1000)) == "2"
    assert await calls(to=iso(NOON + 1000)) == "1"
    assert await calls(from_=iso(NOON), to=iso(NOON + 2000)) == "2"
    assert await calls(from_=iso(NOON + 2000), to=iso(NOON)) == "0"
    assert await calls(from_="0001-01-01T00:00:00Z", to="9999-12-31T23:59:59Z") == "3"


async def test_there_is_no_greatest_of_nothing(counted: Counted) -> None:
    answer = await counted.api.must("GET", "/v1/usage?tenant=grand")
    assert {name: meter["total"] for name, meter in answer["meters"].items()} == {
        "seconds": "0",
        "calls": "0",
        "longest": None,
        "tokens": "0",
    }
    await counted.counters("grand")
    answer = await counted.api.must("GET", "/v1/usage?tenant=grand&source=counters")
    assert {name: meter["total"] for name, meter in answer["meters"].items()} == {
        "seconds": "0",
        "calls": "0",
        "longest": None,
    }


async def test_counters_tell_the_longest_period_and_all_that_plans_use(counted: Counted) -> None:
    await counted.counters("grand", seconds_month="12.5", seconds_billing="99", calls_day="3", longest_month="7.25")
    answer = await counted.api.must("GET", "/v1/usage?tenant=grand&source=counters")
    meters = answer["meters"]
    assert {name: (meter["total"], meter["period"]) for name, meter in meters.items()} == {
        "seconds": ("99", "billing"),
        "calls": ("3", "day"),
        "longest": ("7.25", "month"),
    }
    assert {kind: entry["total"] for kind, entry in meters["seconds"]["periods"].items()} == {
        "month": "12.5",
        "billing": "99",
    }
    answer = await counted.api.must("GET", "/v1/usage?tenant=grand&source=counters&period=month")
    assert {name: meter["total"] for name, meter in answer["meters"].items()} == {"seconds": "12.5", "longest": "7.25"}


@pytest.mark.parametrize(
    "query",
    [
        "source=counters&from=2026-01-01T00:00:00Z",
        "source=counters&group_by=language",
        "source=counters&period=week",
        "source=counters&meter=tokens",
        "source=counters&meter=calls&period=month",
        "source=ledger&period=month",
        "meter=calls&group_by=language",
        "from=2026-01-01",
        "from=%00",
        "meter=%27%3B--",
        "tenants=grand",
    ],
)
async def test_a_question_that_would_be_answered_as_another_is_refused(counted: Counted, query: str) -> None:
    await counted.counters("grand", calls_day="3")
    status, problem = await counted.api.ask("GET", f"/v1/usage?tenant=grand&{query}")
    assert status == 422, problem


async def test_a_tenants_key_need_not_name_it_and_a_platform_key_must(counted: Counted) -> None:
    await counted.call("grand", "1", "de", NOON)
    key = await counted.api.key("grand", "read")
    assert (await counted.api.must("GET", "/v1/usage", None, key))["events"] == 1
    assert (await counted.api.ask("GET", "/v1/usage"))[0] == 422
    blind = await counted.api.key("grand", "ingest")
    assert (await counted.api.ask("GET", "/v1/usage", None, blind))[0] == 403


async def test_counters_that_are_being_rebuilt_are_not_told(counted: Counted) -> None:
    status, _ = await counted.api.ask("GET", "/v1/usage?tenant=grand&source=counters")
    assert status == 503
    await counted.counters("grand", calls_day="3")
    await counted.api.redis.delete(keys.applied(EPOCH, partition_of("grand", PARTITIONS)))
    status, problem = await counted.api.ask("GET", "/v1/usage?tenant=grand&source=counters")
    assert (status, problem["type"].rpartition("/")[2]) == (503, "unavailable")


async def test_an_approximate_count_of_values_says_so(counted: Counted) -> None:
    await counted.api.must(
        "PUT",
        "/v1/catalog",
        b"meters: {rooms: {event: call, aggregation: unique, value: $.room}}\n"
        b"features: {rooms: {meter: rooms}}\n"
        b"plans: {small: {entitlements: {rooms: {limit: 5, period: lifetime}}}}\n",
    )
    await counted.counters("grand", rooms_lifetime="1000000~")
    answer = await counted.api.must("GET", "/v1/usage?tenant=grand&source=counters")
    rooms = answer["meters"]["rooms"]
    assert (rooms["total"], rooms["approximate"], rooms["from"]) == ("1000000", True, iso(LIFETIME.start))


async def test_status_tells_how_far_ledger_and_counters_are_and_null_where_it_does_not_know(counted: Counted) -> None:
    epochs = Epochs(counted.api.database)
    await epochs.begin(2)
    await epochs.mark(1, "closed")
    await epochs.begin(2, EPOCH + 2)
    await counted.api.redis.hset(keys.applied(EPOCH + 2, 1), "offset", 41)
    frame = [EPOCH + 2, 1, 42, "grand", 1, 1, 0, 0, 0, [0], 7, from_ms(NOON), 0]
    names = [*FRAMES, "checksum", "clock", "closing"]
    await counted.api.clickhouse.insert("usage_frames", [frame], column_names=names)
    answer = await counted.api.must("GET", "/v1/status")
    assert (answer["catalog_version"], answer["tenants"]) == (1, 2)
    (epoch,) = answer["epochs"]
    head = epoch["partitions"]["1"]["ledger"]
    assert (epoch["epoch"], epoch["status"]) == (EPOCH + 2, "open")
    assert epoch["partitions"]["0"] == {"applied": None, "ledger": None}
    assert epoch["partitions"]["1"]["applied"] == 41
    assert (head["offset"], head["clock"]) == (42, iso(NOON))
    applied = await counted.api.must("GET", "/v1/applied")
    assert applied == {"epoch": EPOCH + 2, "count": 2, "partitions": {"1": 41}}


async def test_counters_of_other_billing_periods_are_not_told(counted: Counted) -> None:
    await counted.counters("grand", calls_day="3")
    at = (EPOCH, partition_of("grand", PARTITIONS))

    async def status() -> int:
        return (await counted.api.ask("GET", "/v1/usage?tenant=grand&source=counters"))[0]

    await counted.api.redis.hset(keys.counted_terms(*at), "grand", terms_text((BillingTerm(0, NOON + 1, "UTC"),)))
    assert await status() == 503
    await counted.api.redis.delete(keys.counters(*at, "grand"))
    assert await status() == 503, "those of a period that began long ago may be gone"
    await counted.api.redis.hdel(keys.counted_terms(*at), "grand")
    assert await status() == 200
    await counted.api.must("POST", "/v1/tenants", {"name": "newcomer", "plan": "small"})
    at = (EPOCH, partition_of("newcomer", PARTITIONS))
    await counted.api.redis.hset(keys.applied(*at), mapping={"offset": 5, "checksum": 7, "clock": NOON})
    status_now, _ = await counted.api.ask("GET", "/v1/usage?tenant=newcomer&source=counters")
    assert status_now == 200, "who has just come has used nothing"
