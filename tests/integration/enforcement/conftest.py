"""A gate on a real Valkey and SQLite, with a stand-in for what the writer and tenancy put into Redis."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from enforcement.app import build
from enforcement.settings import Settings
from local import valkey
from metering import keys
from metering.catalog import parse_catalog
from metering.clock import parse_iso
from metering.entitlement import TenantSnapshot, TenantStatus, compile_snapshot, encode
from metering.errors import Refused
from metering.feed import FeedMessage
from metering.feed import encode as encode_message
from metering.partition import partition_of
from metering.period import BillingTerm, period_of, terms_text
from tenancy import migrations, tenants
from tenancy.database import Database
from tenancy.keys import create_key
from tests.support import SetClock, eventually, free_port

CATALOG = parse_catalog("""
meters:
  seconds: {event: call, aggregation: sum, value: $.seconds, scale: 3}
  languages: {event: call, aggregation: unique, value: $.language}
  peak: {event: call, aggregation: max, value: $.concurrent}
  wait: {event: call, aggregation: avg, value: $.wait, scale: 1}
  seats: {event: seats, aggregation: latest, value: $.seats}
  calls: {event: call, aggregation: count}
  all_seconds: &all {event: call, aggregation: sum, value: $.seconds, scale: 3, group_by: {language: $.language}}
  far_seconds: {<<: *all, filter: {$.language: [ja, zh]}}
features:
  voice: {meter: seconds, reservable: true}
  languages: {meter: languages}
  peak: {meter: peak}
  wait: {meter: wait}
  seats: {meter: seats}
  calls: {meter: calls}
  cloning: {}
  white-label: {}
  upload: {static: true}
  speak: {}
  tried: {shadow: true}
  far: {meter: all_seconds}
plans:
  starter:
    entitlements:
      voice: {limit: 36000, period: billing, on_exceed: block, on_unknown: closed}
      languages: {limit: 2, period: month, on_exceed: warn, on_unknown: open}
      peak: {limit: 10, period: month}
      wait: {limit: 2.5, period: day}
      seats: {limit: 5, period: lifetime}
      calls: {period: hour}
      cloning: true
      upload: {value: 20}
  tight:
    entitlements:
      voice: {limit: 10, period: billing, limits: [{limit: 4.5, period: hour}]}
      calls: {limit: 10, period: hour}
  quick:
    entitlements:
      cloning: {rates: [{limit: 2, period: hour}]}
      calls: {limit: 10, period: hour, rates: [{limit: 1, period: second, by: subject}]}
      tried: {rates: [{limit: 1, period: hour}]}
      speak: {groups: {language: [en, ja]}}
      far: {limit: 3600, period: hour, limits: [{limit: 60, period: hour, meter: far_seconds}]}
  generous:
    entitlements:
      voice: {limit: 10, period: billing, on_exceed: allow}
""")
TERMS = (BillingTerm(0, parse_iso("2026-01-31T00:00:00Z"), "Europe/Berlin"),)
NOW = parse_iso("2026-11-23T10:00:00Z")
EPOCH, PARTITIONS = 3, 4


class Valkey:
    """A server that a test may freeze, kill and flush."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._argv = valkey.command(self.port, folder)
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        self._process = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """It goes on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    running = Valkey(tmp_path_factory.mktemp("valkey"))
    yield running
    running.kill()


@pytest.fixture
async def redis(server: Valkey) -> AsyncIterator[Redis]:
    client = Redis.from_url(server.url, protocol=3)
    await eventually(client.ping, what="Valkey")
    await client.flushall()
    yield client
    await client.aclose()


NEVER_BEHIND = 1 << 53
"""What a writer vouches for that has counted everything at any instant."""


class State:
    """Writes what the writer and tenancy write."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def whole(self, sequence: str = "") -> None:
        """An epoch, every partition applied, tenant `grand` on the plan; `sequence`: of the rebuild that made it so."""
        await self._redis.set(keys.EPOCH, f"{EPOCH}:{PARTITIONS}")
        for partition in range(PARTITIONS):
            await self.applied(partition, sequence)
        await self.tenant("grand")
        await self._redis.set(keys.SNAPSHOTS, "1")

    async def applied(self, partition: int, sequence: str = "") -> None:
        """The partition's state is complete."""
        await self._redis.set(keys.sequence(EPOCH, partition), sequence)
        values = ["offset", "7", "checksum", "1", "clock", str(NOW)]
        await self._redis.hset(keys.applied(EPOCH, partition), items=values)
        await self._redis.set(keys.vouched(EPOCH, partition), NEVER_BEHIND)
        kinds = [keys.counted_kind(meter, kind) for meter in CATALOG.meters for kind in CATALOG.periods_of(meter)]
        await self._redis.set(keys.config(EPOCH, partition), " ".join(["c", *kinds, ""]))

    async def count_by(self, tenant: str, terms: tuple[BillingTerm, ...], counters: dict[str, str]) -> None:
        """The writer has heard of a tenant's billing terms and counted it anew."""
        partition = partition_of(tenant, PARTITIONS)
        await self._redis.hset(keys.counted_terms(EPOCH, partition), tenant, terms_text(terms))
        await self._redis.delete(keys.counters(EPOCH, partition, tenant))
        await self._redis.hset(keys.counters(EPOCH, partition, tenant), mapping=dict[Any, Any](counters))
        await self._redis.set(keys.sequence(EPOCH, partition), f"counted by {terms}")
        await self.beat(tenant)

    async def rebuilding(self, tenant: str) -> None:
        """The tenant's partition is being rebuilt."""
        await self._redis.delete(keys.applied(EPOCH, partition_of(tenant, PARTITIONS)))

    async def tenant(self, name: str, plan: str | None = "starter", status: TenantStatus = "active") -> TenantSnapshot:
        """A published tenant, of whose billing terms the writer knows."""
        await self._redis.hset(keys.counted_terms(EPOCH, partition_of(name, PARTITIONS)), name, terms_text(TERMS))
        return await self.plan(name, plan, status)

    async def plan(
        self,
        name: str,
        plan: str | None = "starter",
        status: TenantStatus = "active",
        terms: tuple[BillingTerm, ...] = TERMS,
    ) -> TenantSnapshot:
        """What is published of a tenant."""
        snapshot = compile_snapshot(name, status, plan, terms, CATALOG, 1)
        await self._redis.set(keys.snapshot(name), encode(snapshot))
        number = await self._redis.incr(keys.SNAPSHOT_CHANGES)
        await self._redis.zadd(keys.CHANGED_SNAPSHOTS, {name: number})
        return snapshot

    async def counter(
        self, tenant: str, feature: str, text: str, at: int = NOW, told: bool = True, meter: str | None = None
    ) -> None:
        """A counter's text, in the period of `at`; `told`: the feed says so; `meter`: of another than the feature's."""
        right = next(plan.entitlements[feature] for plan in CATALOG.plans.values() if feature in plan.entitlements)
        meter = meter or CATALOG.features[feature].meter
        assert right.period is not None and meter is not None
        field = keys.counter_field(meter, right.period, period_of(right.period, at, TERMS).start)
        partition = partition_of(tenant, PARTITIONS)
        await self._redis.hset(keys.counters(EPOCH, partition, tenant), field, text)
        applied = await self._redis.hincrby(keys.applied(EPOCH, partition), "offset", 1)
        if told:
            sequence = await self._sequence(partition)
            await self._publish(
                partition, FeedMessage(applied - 1, applied, NOW, NOW, sequence, {tenant: [field, text]})
            )

    async def counts(self, tenant: str, id: str, text: str, at: int) -> None:
        """A counter of `voice` in the hour of `at`, from an event that names a reservation."""
        field = keys.counter_field("seconds", "hour", period_of("hour", at).start)
        partition = partition_of(tenant, PARTITIONS)
        await self._redis.hset(keys.counters(EPOCH, partition, tenant), field, text)
        await self._redis.hdel(keys.holds(EPOCH, partition, tenant), f"voice:{id}")
        await self._redis.hset(keys.counted(EPOCH, partition, tenant), f"voice:{id}", "")
        applied = await self._redis.hincrby(keys.applied(EPOCH, partition), "offset", 1)
        message = FeedMessage(applied - 1, applied, at, at, "", {tenant: [field, text]}, {tenant: [f"voice:{id}"]})
        await self._publish(partition, message)

    async def beat(self, tenant: str) -> None:
        """The tenant's partition says where it stands."""
        partition = partition_of(tenant, PARTITIONS)
        applied = int(await self._redis.hget(keys.applied(EPOCH, partition), "offset") or 0)
        await self._publish(partition, FeedMessage(applied, applied, NOW, NOW, await self._sequence(partition)))

    async def _sequence(self, partition: int) -> str:
        text: Any = await self._redis.get(keys.sequence(EPOCH, partition)) or b""
        return str(text.decode())

    async def _publish(self, partition: int, message: FeedMessage) -> None:
        await self._redis.publish(keys.feed(EPOCH, partition), encode_message(message))


@pytest.fixture
async def state(redis: Redis) -> State:
    made = State(redis)
    await made.whole()
    return made


@pytest.fixture(scope="session")
def sql(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('sql')}/control.db"
    migrations.upgrade(url)
    return url


class GateClient:
    """A gate's HTTP API with a platform key, and keys of other kinds."""

    def __init__(self, client: TestClient[Any, Any], database: Database, platform: str) -> None:
        self.client = client
        self._database = database
        self.platform = platform

    async def key(self, tenant: str, *scopes: str) -> str:
        """A tenant's key; the tenant is created if it is not there."""
        with suppress(Refused):
            await tenants.create(self._database, tenant, "test")
        text, _ = await create_key(self._database, tenant, frozenset(scopes or ("check",)))
        return text

    async def send(
        self, method: str, path: str, json: Any = None, key: str | None = None, **more: Any
    ) -> ClientResponse:
        """Any request."""
        headers = {"Authorization": f"Bearer {key or self.platform}", **more.pop("headers", {})}
        return await self.client.request(method, path, json=json, headers=headers, **more)

    async def check(self, feature: str, tenant: str = "grand", amount: Any = 1, key: str | None = None) -> Any:
        """`POST /v1/check`, which must be answered with 200."""
        question = {"tenant": tenant, "feature": feature, "amount": amount}
        response = await self.send("POST", "/v1/check", question, key)
        assert response.status == 200, await response.text()
        return await response.json()

    async def says(self, feature: str, tenant: str = "grand", **wanted: Any) -> bool:
        """Whether a check is answered with these members; AssertionError says with which instead."""
        answer = await self.check(feature, tenant)
        assert {name: answer[name] for name in wanted} == wanted
        return True

    async def failures(self) -> Any:
        """What readiness complains of."""
        return (await (await self.client.get("/readyz")).json())["failures"]


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOW)


@pytest.fixture
async def gate(server: Valkey, state: State, sql: str, clock: SetClock) -> AsyncIterator[GateClient]:
    # Long enough for a busy machine; how long a check waits has tests of its own.
    app = build(Settings(redis=server.url, sql=sql, redis_seconds=2.0), clock)
    database = Database(sql)
    await database.open()
    platform, _ = await create_key(database, None, frozenset({"platform"}))
    async with TestClient(TestServer(app)) as client:
        made = GateClient(client, database, platform)

        async def ready() -> bool:
            return not await made.failures()

        await eventually(ready, what="readiness")
        yield made
    await database.close()
