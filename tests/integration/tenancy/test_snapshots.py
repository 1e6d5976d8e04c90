"""Compiled plans in Redis: what changed, everything after a flush, and nothing old by another publisher."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from metering import entitlement, keys
from metering.clock import SystemClock
from metering.errors import Unavailable
from tenancy import snapshots, subscriptions, tenants
from tenancy.catalogs import Catalogs
from tenancy.database import Database
from tenancy.snapshots import Publisher
from tenancy.subscriptions import Assignment
from tests.support import SetClock, eventually, free_port

CATALOG = """
meters: {calls: {event: call, aggregation: count}}
features: {calls: {meter: calls}}
plans:
  small: {entitlements: {calls: {limit: 5, period: month}}}
  large: {entitlements: {calls: {limit: 500, period: month}}}
"""


class Plans:
    """What gates read."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis

    async def of(self, tenant: str) -> str | None:
        """The plan published for a tenant."""
        text = await self.redis.get(keys.snapshot(tenant))
        return None if text is None else entitlement.decode(text).plan


@pytest.fixture
def plans(redis: Redis) -> Plans:
    return Plans(redis)


@pytest.fixture
async def two_tenants(database: Database) -> None:
    await Catalogs(database).apply(CATALOG, SystemClock().now_ms())
    for name in ("grand", "plaza"):
        await tenants.create(database, name, "test", Assignment("small"))


@pytest.mark.usefixtures("two_tenants")
async def test_first_all_then_what_changed_is_published(database: Database, redis: Redis, plans: Plans) -> None:
    publisher = Publisher(database, redis)
    assert await publisher.publish_changed() == 2
    assert await publisher.publish_changed() == 0
    await subscriptions.assign(database, "grand", "large", "test")
    assert await publisher.publish_changed() == 1
    assert (await plans.of("grand"), await plans.of("plaza")) == ("large", "small")
    await Catalogs(database).apply(CATALOG.replace("limit: 5,", "limit: 6,"), SystemClock().now_ms())
    assert await publisher.publish_changed() == 2
    text = await plans.redis.get(keys.snapshot("plaza"))
    assert entitlement.decode(text).entitlements["calls"].limit == "6"


@pytest.mark.usefixtures("two_tenants")
async def test_a_suspended_tenant_is_published_as_such(database: Database, redis: Redis, plans: Plans) -> None:
    publisher = Publisher(database, redis)
    await publisher.publish_changed()
    await tenants.set_status(database, "grand", "suspended", "test")
    assert await publisher.publish_changed() == 1
    assert entitlement.decode(await plans.redis.get(keys.snapshot("grand"))).status == "suspended"


@pytest.mark.usefixtures("two_tenants")
async def test_after_a_flush_all_is_published_again(database: Database, redis: Redis, plans: Plans) -> None:
    publisher = Publisher(database, redis)
    await publisher.publish_changed()
    await redis.flushall()
    assert await publisher.publish_changed() == 2
    assert await plans.of("grand") == "small"


@pytest.mark.usefixtures("two_tenants")
async def test_a_redis_put_back_to_a_backup_gets_what_it_lacks(database: Database, redis: Redis, plans: Plans) -> None:
    publisher = Publisher(database, redis)
    await publisher.publish_changed()
    number, snapshot = await redis.get(keys.SNAPSHOTS), await redis.get(keys.snapshot("grand"))
    assert number is not None
    assert snapshot is not None
    await subscriptions.assign(database, "grand", "large", "test")
    await publisher.publish_changed()
    await redis.set(keys.SNAPSHOTS, number)
    await redis.set(keys.snapshot("grand"), snapshot)
    assert await publisher.publish_changed() == 1
    assert await plans.of("grand") == "large"


@pytest.mark.usefixtures("two_tenants")
async def test_a_control_plane_put_back_to_a_backup_is_published_whole(database: Database, redis: Redis) -> None:
    publisher = Publisher(database, redis)
    await publisher.publish_changed()
    await redis.set(keys.SNAPSHOTS, 10_000)
    assert await publisher.publish_changed() == 2


@pytest.mark.usefixtures("two_tenants")
async def test_a_plan_that_begins_later_is_published_when_it_begins(
    database: Database, redis: Redis, plans: Plans
) -> None:
    clock = SetClock(SystemClock().now_ms())
    publisher = Publisher(database, redis, clock)
    await publisher.publish_changed()
    await subscriptions.assign(database, "grand", "large", "test", since=clock.at + 60_000)
    await publisher.publish_changed()
    assert await plans.of("grand") == "small"
    clock.advance(59_999)
    assert await publisher.publish_changed() == 0
    clock.advance(1)
    assert await publisher.publish_changed() == 2
    assert await plans.of("grand") == "large"
    assert await publisher.publish_changed() == 0


class Interrupted(Publisher):
    """Stands still between writing the snapshots and saying so."""

    def __init__(self, database: Database, redis: Redis) -> None:
        super().__init__(database, _Held(self, redis))  # type: ignore[arg-type]
        self.written, self.go_on = asyncio.Event(), asyncio.Event()


class _Held:
    def __init__(self, owner: Interrupted, redis: Any) -> None:
        self._owner, self._redis = owner, redis

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)

    async def eval(self, *arguments: Any) -> Any:
        self._owner.written.set()
        await self._owner.go_on.wait()
        return await self._redis.eval(*arguments)


@pytest.mark.usefixtures("two_tenants")
async def test_a_flush_after_the_snapshots_and_before_their_number_is_noticed(
    database: Database, redis: Redis, plans: Plans
) -> None:
    publisher = Interrupted(database, redis)
    publishing = asyncio.create_task(publisher.publish_changed())
    await publisher.written.wait()
    await redis.flushall()
    publisher.go_on.set()
    await publishing
    assert await redis.get(keys.SNAPSHOTS) is None, "gates must not take a missing plan for a missing tenant"
    await publisher.publish_changed()
    assert await plans.of("grand") == "small"


@pytest.mark.usefixtures("two_tenants")
async def test_a_publisher_that_slept_past_its_turn_does_not_leave_an_older_plan(
    database: Database, redis: Redis, plans: Plans
) -> None:
    sleeper, other = Interrupted(database, redis), Publisher(database, redis)
    await other.publish_changed()
    await subscriptions.assign(database, "grand", "large", "test")
    publishing = asyncio.create_task(sleeper.publish_changed())
    await sleeper.written.wait()
    assert await other.publish_changed() == 0, "it is the sleeper's turn"
    await redis.delete(keys.PUBLISHING)  # its lease runs out
    await subscriptions.assign(database, "grand", "small", "test")
    await other.publish_changed()
    text = await plans.redis.get(keys.snapshot("grand"))
    await redis.set(keys.snapshot("grand"), text.replace(b"small", b"large"))  # what the sleeper writes on waking
    sleeper.go_on.set()
    await publishing
    await sleeper.publish_changed()
    assert await plans.of("grand") == "small"


@pytest.mark.usefixtures("two_tenants")
async def test_a_publisher_that_died_holds_nobody_up_for_long(
    database: Database, redis: Redis, plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "_LEASE_MS", 200)
    dead = Interrupted(database, redis)
    publishing = asyncio.create_task(dead.publish_changed())
    await dead.written.wait()
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    other = Publisher(database, redis)
    await eventually(other.publish_changed, timeout=5)
    assert await plans.of("grand") == "small"


@pytest.mark.usefixtures("two_tenants")
async def test_the_loop_says_what_is_wrong_and_goes_on(
    database: Database, redis: Redis, plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "_POLL_SECONDS", 0.01)
    publisher = Publisher(database, redis)
    assert publisher.trouble is not None
    running = asyncio.create_task(publisher.run())
    await eventually(lambda: publisher.trouble is None)
    await redis.set(keys.SNAPSHOTS, "not a number")
    await eventually(lambda: publisher.trouble is not None)
    assert not running.done()
    await redis.flushall()
    await eventually(lambda: publisher.trouble is None)
    assert await plans.of("plaza") == "small"
    running.cancel()
    # Cancelled once more amid its way out of a transaction, aiosqlite would wait for a thread that has ended.
    await asyncio.gather(running, return_exceptions=True)


async def test_without_redis_publishing_is_unavailable(database: Database) -> None:
    away: Redis = Redis(port=free_port(), protocol=3)
    with pytest.raises(Unavailable):
        await Publisher(database, away).publish_changed()
    await away.aclose()
