"""The gate keeps answering: with all others killed, and frozen, as fast as before, and says how old that is."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
        for program in gate.others():
            if how == signal.SIGSTOP:
                program.send(signal.SIGCONT)
            else:
                program.kill()
                if program is not house.engines.broker:  # its log was in memory
                    program.start()
        redis: Redis = Redis(port=house.engines.redis_port, protocol=3, socket_timeout=1)
        await eventually(redis.ping, timeout=30)
        await eventually(gate.is_fresh, timeout=FRESH_MS / 1000, what="fresh again")
        await redis.aclose()


async def test_a_feed_that_breaks_off_is_made_up_for(house: House) -> None:
    async with asked(house) as gate:
        redis: Any = Redis(port=house.engines.redis_port, protocol=3)
        for _ in range(3):
            await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.sleep(0)
            await eventually(gate.is_fresh, timeout=FRESH_MS / 1000)
        await redis.aclose()
