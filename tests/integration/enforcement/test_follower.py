"""The follower ends when it is cancelled, whatever it is waiting for at that moment."""

from __future__ import annotations

import asyncio

from enforcement.follower import Follower
from enforcement.mirror import Mirror
from enforcement.redis_reads import connect
from metering.clock import SystemClock
from tests.integration.enforcement.conftest import State, Valkey


async def test_a_cancellation_ends_it_at_every_step_of_its_way(server: Valkey, state: State) -> None:
    lost = []
    for steps in range(150):
        redis = connect(server.url, 4, 1.0)
        following = asyncio.create_task(Follower(redis, Mirror(10), SystemClock(), 1.0).run())
        for _ in range(steps):
            await asyncio.sleep(0)
        following.cancel()
        _, going_on = await asyncio.wait([following], timeout=1.0)
        for task in going_on:
            lost.append(steps)
            task.cancel()
            await asyncio.wait([task])
        await redis.aclose()
    assert not lost
