"""What is left of grants over the turns of periods, from a real ledger to what gates are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from console.burns import Burns
from console.clickhouse import ClickHouse
from metering import entitlement, keys
from metering.clock import DAY_MS, HOUR_MS, SECOND_MS, SystemClock
from metering.errors import Unavailable
from streams.ledger import connect, migrate
from tenancy import grants, migrations, subscriptions, tenants
from tenancy.catalogs import Catalogs
from tenancy.database import Database
from tenancy.epochs import Epochs
from tenancy.grants import GrantRow, Wanted
from tenancy.snapshots import Publisher
from tests.integration.console.conftest import Servers
from tests.integration.records import Counted, Records
from tests.support import SetClock, eventually, free_port
from usage.windows import WindowReader

CATALOG = """
meters:
  calls: {event: call, aggregation: count}
  seats: {event: seats, aggregation: latest, value: $.seats}
features: {calls: {meter: calls}, seats: {meter: seats}}
plans:
  small: {entitlements: {calls: {limit: 5, period: day}, seats: {limit: 3, period: day}}}
  large: {entitlements: {calls: {limit: 100, period: day}}}
  hidden: {entitlements: {}}
"""
FIRST = SystemClock().now_ms() // DAY_MS * DAY_MS - 5 * DAY_MS
SECOND = FIRST + DAY_MS
THIRD = SECOND + DAY_MS


class House:
    """A tenant on a plan of five calls a day, its ledger, and what gates are told; time stands where it is set."""

    def __init__(self, database: Database, redis: Any, clickhouse: Any, clock: SetClock) -> None:
        self.database, self.redis, self.clock = database, redis, clock
        self.windows = WindowReader(clickhouse)
        self.burns = Burns(database, self.windows, clock)
        self._publisher = Publisher(database, redis, clock)
        self._records = Records(clickhouse)
        self._calls = 0

    async def call(self, times: int, at: int, meter: str = "calls") -> None:
        """So many calls at an instant; the partition clock is that of the test."""
        first, self._calls = self._calls, self._calls + times
        events = [Counted(str(n), at, [meter], Decimal(1)) for n in range(first, self._calls)]
        await self._records.write("grand", events, max(self.clock.at, at))

    async def grant(self, id: str, amount: str, since: int = FIRST, feature: str = "calls", **more: Any) -> None:
        await grants.create(self.database, "grand", Wanted(feature, amount, since=since, id=id, **more), "test")

    async def told(self, feature: str = "calls") -> dict[str, tuple[str, int]]:
        """id → (amount, until) of the grants that gates are told of now."""
        await self._publisher.publish_changed()
        snapshot = entitlement.decode(await self.redis.get(keys.snapshot("grand")))
        right = snapshot.entitlements.get(feature)
        return {grant.id: (grant.amount, grant.until) for grant in right.grants} if right else {}

    async def row(self, id: str) -> GrantRow:
        return next(row for row in (await grants.of(self.database, "grand"))["grand"] if row.id == id)


@pytest.fixture
async def house(servers: Servers, tmp_path: Path) -> AsyncIterator[House]:
    sql = f"sqlite+aiosqlite:///{tmp_path}/control.db"
    await asyncio.to_thread(migrations.upgrade, sql)
    database = Database(sql)
    await database.open()
    await Catalogs(database).apply(CATALOG, FIRST - DAY_MS)
    await Epochs(database).begin(1)
    await tenants.create(database, "grand", "test", subscriptions.Assignment("small", since=FIRST - DAY_MS))
    redis: Redis = Redis(port=servers.redis, protocol=3)
    await eventually(redis.ping, what="Valkey answers")
    await redis.flushall()

    async def connected() -> Any:
        client = await connect(f"http://127.0.0.1:{servers.clickhouse}")
        await migrate(client)
        return client

    clickhouse = await eventually(connected, timeout=60, what="ClickHouse answers")
    yield House(database, redis, clickhouse, SetClock(FIRST + HOUR_MS))
    for table in ("usage_events", "usage_frames", "usage_voids"):
        await clickhouse.command(f"TRUNCATE TABLE {table}")
    await clickhouse.close()
    await redis.aclose()
    await database.close()


async def test_what_a_day_burnt_is_missing_on_the_next(house: House) -> None:
    await house.grant("a", "4", rollover=None)
    await house.grant("b", "10", priority=200, rollover="2")
    await house.grant("c", "1", priority=300, rollover="0")
    await house.call(7, FIRST + HOUR_MS)
    await house.burns.look()
    assert await house.told() == {"a": ("4", SECOND), "b": ("10", SECOND), "c": ("1", SECOND)}
    house.clock.at = SECOND + 3 * SECOND_MS
    await house.burns.look()
    assert await house.told() == {"a": ("2", THIRD), "b": ("2", THIRD)}
    assert ((await house.row("a")).burnt, (await house.row("a")).left_at) == ("2", SECOND)
    await house.call(8, SECOND + HOUR_MS)
    house.clock.at = THIRD + 3 * SECOND_MS
    await house.burns.look()
    assert await house.told() == {"b": ("1", THIRD + DAY_MS)}


async def test_a_late_event_is_burnt_when_it_came(house: House) -> None:
    await house.grant("a", "4")
    await house.call(6, FIRST + HOUR_MS)
    house.clock.at = SECOND + 3 * SECOND_MS
    await house.burns.look()
    assert await house.told() == {"a": ("3", THIRD)}
    await house.burns.look()  # because of the change it made itself
    await house.call(2, FIRST + HOUR_MS)
    await house.burns.look()
    assert await house.told() == {"a": ("3", THIRD)}, "it is not asked again at once"
    house.clock.advance(5 * SECOND_MS)
    await house.burns.look()
    assert await house.told() == {"a": ("1", THIRD)}


async def test_a_rest_that_is_not_known_yet_is_not_told(house: House) -> None:
    await house.grant("a", "4")
    assert await house.told() == {"a": ("4", SECOND)}
    house.clock.at = SECOND + HOUR_MS
    await house.grant("b", "1", since=SECOND + 1)
    away = Burns(house.database, WindowReader(ClickHouse(f"http://127.0.0.1:{free_port()}")), house.clock)
    running = asyncio.create_task(away.run())
    await eventually(lambda: away.trouble)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await house.told() == {"b": ("1", THIRD)}, "what needs no ledger is"
    await away.look()  # somebody else's turn, had there been anybody
    house.clock.advance(5 * SECOND_MS)
    with pytest.raises(Unavailable):
        await away.look()
    await house.burns.look()
    assert await house.told() == {"a": ("4", THIRD), "b": ("1", THIRD)}


async def test_the_limit_of_a_day_is_that_of_the_plan_at_its_end(house: House) -> None:
    await house.grant("a", "4")
    await house.call(8, FIRST + HOUR_MS)
    await subscriptions.assign(house.database, "grand", "large", "test", since=FIRST + 2 * HOUR_MS)
    house.clock.at = SECOND + 3 * SECOND_MS
    await house.burns.look()
    assert await house.told() == {"a": ("4", THIRD)}
    await subscriptions.assign(house.database, "grand", "hidden", "test", since=SECOND + 1)
    await house.burns.look()
    assert await house.told() == {}, "where there is no right a grant stands and gives nothing"


async def test_of_what_is_no_consumption_nothing_burns(house: House) -> None:
    await house.grant("more", "2", feature="seats")
    await house.call(9, FIRST + HOUR_MS, "seats")
    house.clock.at = SECOND + 3 * SECOND_MS
    await house.burns.look()
    assert await house.told("seats") == {"more": ("2", THIRD)}


async def test_nothing_is_published_again_when_nothing_changed(house: House) -> None:
    await house.grant("a", "4")
    house.clock.at = SECOND + 3 * SECOND_MS
    await house.burns.look()
    await house.told()
    number = await house.redis.get(keys.SNAPSHOTS)
    for _ in range(3):
        house.clock.advance(HOUR_MS)
        await house.burns.look()
        assert await house.told() == {"a": ("4", THIRD)}
    assert await house.redis.get(keys.SNAPSHOTS) == number
