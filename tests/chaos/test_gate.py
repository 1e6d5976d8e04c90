"""The gate keeps answering: with all others killed, and frozen, as fast as before, and says how old that is."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import aiohttp
import pytest
from redis.asyncio import Redis

from metering.clock import parse_iso
from tenancy import subscriptions, tenants
from tenancy.catalogs import Catalogs
from tenancy.keys import create_key
from tests.chaos.house import House
from tests.engines import Program
from tests.support import eventually

CATALOG = """
meters: {calls: {event: call, aggregation: count}}
features: {calls: {meter: calls}, strict: {meter: calls}, open: {meter: calls}}
plans:
  p:
    entitlements:
      calls: {limit: 1000, period: lifetime}
      strict: {limit: 1000, period: lifetime, max_staleness: 2}
      open: {limit: 1000, period: lifetime, max_staleness: 2, on_unknown: open}
"""
FRESH_MS = 2_000
ROUND, ROUNDS = 1500, 4
SLOWER = 1.2


class Asked(NamedTuple):
    """A gate, and somebody who asks it over one connection."""

    house: House
    session: aiohttp.ClientSession
    url: str

    async def check(self, feature: str = "calls") -> dict[str, Any]:
        async with self.session.post(f"{self.url}/v1/check", json={"tenant": "grand", "feature": feature}) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def use(self, id: str = "one") -> None:
        """One call, accepted."""
        port = self.house.services["ingest"].environment["TALLYGATE_INGEST_PORT"]
        event = {"specversion": "1.0", "id": id, "source": "/pms", "type": "call", "tenant": "grand", "data": {}}

        async def accepted() -> bool:  # by the catalog of this test, as soon as the gateway knows it
            async with self.session.post(f"http://127.0.0.1:{port}/v1/events", json=event) as answer:
                assert answer.status == 202, await answer.text()
                return True

        await eventually(accepted)

    async def age(self) -> float:
        """Milliseconds."""
        return time.time() * 1000 - parse_iso((await self.check())["as_of"])

    async def is_fresh(self) -> bool:
        answer = await self.check()
        return answer["source"] == "memory" and await self.age() < FRESH_MS

    async def p99(self) -> float:
        """Of one round, in ms."""
        took = []
        for _ in range(ROUND):
            began = time.perf_counter()
            answer = await self.check()
            took.append(time.perf_counter() - began)
            assert answer["allowed"] and answer["source"] == "memory"
        return sorted(took)[ROUND * 99 // 100] * 1000

    def others(self) -> list[Program]:
        """All but the gate and its SQL."""
        engines, services = self.house.engines, self.house.services
        assert engines.broker is not None
        return [engines.redis, engines.clickhouse, engines.broker, services["console"], services["streams"]]


@asynccontextmanager
async def asked(house: House) -> AsyncIterator[Asked]:
    await house.all_ready()
    database = house.engines.database
    await Catalogs(database).apply(CATALOG, 0)
    await tenants.create(database, "grand", "test")
    await subscriptions.assign(database, "grand", "p", "test")
    key, _ = await create_key(database, None, frozenset({"platform"}))
    gate = house.services["gate"]
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        made = Asked(house, session, f"http://127.0.0.1:{gate.environment['TALLYGATE_GATE_PORT']}")

        async def known() -> bool:
            return (await made.check())["allowed"] and await made.is_fresh()

        await eventually(known, timeout=20)
        yield made


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_with_all_others_away_answers_are_as_fast_and_say_their_age(house: House, how: signal.Signals) -> None:
    async with asked(house) as gate:
        healthy = [await gate.p99() for _ in range(ROUNDS)]
        for program in gate.others():
            program.send(how)
        gone = time.monotonic()
        alone: list[float] = []

        async def as_fast() -> bool:
            alone.append(await gate.p99())
            return min(alone) <= SLOWER * min(healthy)

        # A busy machine makes rounds slow; a gate that waits for somebody makes all of them slow.
        await eventually(as_fast, timeout=60, what=f"p99 {alone} ms without the others, {healthy} ms with them")
        await eventually(lambda: time.monotonic() - gone > 2 * FRESH_MS / 1000, timeout=10)
        assert await gate.age() > FRESH_MS
        assert (await gate.check())["allowed"]
        for feature, allowed in (("strict", False), ("open", True)):
            answer = await gate.check(feature)
            assert (answer["allowed"], answer["reason"], answer["source"]) == (allowed, "stale", "fallback")
        if how == signal.SIGSTOP:
            for program in gate.others():
                program.send(signal.SIGCONT)
            await _redis_answers(house)
            await eventually(gate.is_fresh, timeout=FRESH_MS / 1000, what="fresh again")


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_answers_are_fresh_two_seconds_after_redis_is_back(house: House, how: signal.Signals) -> None:
    async with asked(house) as gate:
        redis = house.engines.redis
        redis.send(how)
        await eventually(lambda: _older_than(gate, FRESH_MS), timeout=10, what="an age")
        if how == signal.SIGSTOP:
            redis.send(signal.SIGCONT)
        else:
            redis.kill()
            redis.start()
        await _redis_answers(house)
        await eventually(gate.is_fresh, timeout=FRESH_MS / 1000, what="fresh again")


async def _has_used(redis: Redis, number: int) -> bool:
    [counters] = [key async for key in redis.scan_iter("tg:*c:grand")]
    return number in [int(text) for text in (await redis.hgetall(counters)).values()]


async def _says_used(gate: Asked, number: int) -> bool:
    return (await gate.check())["used"] == str(number) and await gate.is_fresh()


async def _redis_answers(house: House) -> None:
    redis: Redis = Redis(port=house.engines.redis_port, protocol=3, socket_timeout=1)
    await eventually(redis.ping, timeout=30)
    await redis.aclose()


@pytest.mark.parametrize("name", ["streams", "clickhouse"])
async def test_while_usage_cannot_be_counted_answers_say_their_age(house: House, name: str) -> None:
    async with asked(house) as gate:
        frozen: Program = house.engines.clickhouse if name == "clickhouse" else house.services[name]
        frozen.send(signal.SIGSTOP)
        await gate.use()
        await eventually(lambda: _older_than(gate, FRESH_MS), timeout=10, what="an age")
        strict = await gate.check("strict")
        assert (strict["allowed"], strict["reason"]) == (False, "stale")
        frozen.send(signal.SIGCONT)

        async def counted() -> bool:
            answer = await gate.check()
            return answer["used"] == "1" and await gate.is_fresh()

        await eventually(counted, timeout=30, what="what was not counted")


async def _older_than(gate: Asked, age: float) -> bool:
    return await gate.age() > age


async def test_a_feed_that_breaks_off_is_made_up_for(house: House) -> None:
    async with asked(house) as gate:
        redis: Any = Redis(port=house.engines.redis_port, protocol=3)
        for number in range(1, 4):
            await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await gate.use(str(number))
            await eventually(partial(_has_used, redis, number), timeout=20, what="the counter in Redis")
            await eventually(partial(_says_used, gate, number), timeout=FRESH_MS / 1000, what="the gate's knowledge")
        await redis.aclose()
