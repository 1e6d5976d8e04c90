"""The feed of the gates: whoever follows it, and reads Redis where it has gaps, knows what Redis knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from metering import keys
from metering.feed import FeedMessage, decode
from tests.chaos.conftest import Stage
from tests.chaos.workload import TENANTS, Workload
from tests.support import eventually

Counters = dict[str, dict[str, str]]


class WithoutVoids(Workload):
    """Of the counters in this catalog a void has some counted anew, and those are not told but repaired."""

    def _void(self, tenant: str, before_it: bool) -> bytes:
        return self._event(tenant, 0, 1000)


class Follower:
    """Follows one partition as a gate does, and counts what it was told and how often it had to read Redis."""

    def __init__(self, stage: Stage, partition: int) -> None:
        self._redis: Any = stage.redis
        self._at = (stage.engines.epoch.epoch, partition)
        self.counters: Counters = {}
        self.applied = -2
        self.sequence = ""
        self.beats = self.told = self.gaps = self.repairs = 0

    async def hear(self, message: FeedMessage) -> None:
        if message.sequence != self.sequence:
            self.repairs += 1
            await self._read()
        elif message.applied <= self.applied:  # known from reading Redis
            self.beats += message.prev == message.applied
        elif message.prev != self.applied:
            self.gaps += 1
            await self._read()
        else:
            self.applied = message.applied
            for tenant, told in message.counters.items():
                for field, text in zip(told[::2], told[1::2], strict=True):
                    self.told += 1
                    assert field is not None
                    if text is None:
                        self.counters[tenant].pop(field)
                    else:
                        self.counters.setdefault(tenant, {})[field] = text

    async def _read(self) -> None:
        self.applied, self.sequence, self.counters = await self.standing()

    async def standing(self) -> tuple[int, str, Counters]:
        """What stands in Redis, of one moment."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.hget(keys.applied(*self._at), "offset").get(keys.sequence(*self._at))
        for tenant in TENANTS:
            pipe.hgetall(keys.counters(*self._at, tenant))
        offset, sequence, *hashes = await pipe.execute()
        counters = {
            tenant: {field.decode(): text.decode() for field, text in found.items()}
            for tenant, found in zip(TENANTS, hashes, strict=True)
            if found
        }
        return int(offset or -2), (sequence or b"").decode(), counters


@asynccontextmanager
async def following(stage: Stage) -> AsyncIterator[list[Follower]]:
    """Followers of all partitions."""
    epoch = stage.engines.epoch
    followers = {keys.feed(epoch.epoch, n): Follower(stage, n) for n in range(epoch.partitions)}
    redis: Any = stage.redis
    subscription = redis.pubsub(ignore_subscribe_messages=True)
    await subscription.subscribe(*followers)

    async def hear() -> None:
        async for message in subscription.listen():
            await followers[message["channel"].decode()].hear(decode(message["data"]))

    task = asyncio.create_task(hear())
    try:
        yield list(followers.values())
        assert not task.done(), task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await subscription.aclose()


async def know_all(followers: list[Follower]) -> bool:
    """AssertionError unless every follower knows what stands in Redis."""
    for follower in followers:
        applied, sequence, counters = await follower.standing()
        assert (follower.applied, follower.sequence) == (applied, sequence)
        assert {tenant: own for tenant, own in follower.counters.items() if own} == counters
    return True


async def test_without_accidents_the_chain_has_no_gap_and_its_values_are_the_counters(stage: Stage) -> None:
    stage = stage._replace(workload=WithoutVoids(stage.engines, seed=5))
    async with following(stage) as followers:
        stage.engines.worker("worker", TALLYGATE_STREAMS_BATCH_RECORDS="2").start()
        for _ in range(4):
            await stage.workload.produce(frames=6)
            await stage.exact()
        await eventually(lambda: know_all(followers), timeout=10)
        assert [follower.gaps for follower in followers] == [0] * len(followers)
        assert [follower.repairs for follower in followers] == [1] * len(followers)  # the state began
        assert sum(follower.told for follower in followers) > 40
        beats = {follower: follower.beats for follower in followers}
        await eventually(lambda: all(beats[one] + 2 <= one.beats for one in followers), timeout=5, what="beats")


async def test_a_reader_that_looks_at_gaps_keeps_up_through_kills_and_flushes(stage: Stage) -> None:
    async with following(stage) as followers:
        for turn in range(3):
            worker = stage.engines.worker(f"worker-{turn}", TALLYGATE_STREAMS_BATCH_RECORDS="1")
            worker.start()
            await stage.workload.produce(frames=6)
            await stage.exact()
            await stage.workload.produce(frames=12)
            worker.kill()
        stage.engines.worker("last").start()
        await stage.exact()
        repairs = {one: one.repairs for one in followers}
        await stage.redis.flushall()
        await eventually(lambda: all(one.repairs > repairs[one] for one in followers), timeout=20, what="repairs")
        await stage.workload.produce(frames=3)
        await stage.exact()
        await eventually(lambda: know_all(followers), timeout=10)
