"""A running set of engines, a seeded workload, and clients to look with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from clickhouse_connect.driver.asyncclient import AsyncClient
from redis.asyncio import Redis

from streams.ledger import connect
from tests.chaos.house import House, furnished
from tests.chaos.workload import CATALOG, Workload
from tests.engines import APACHE, Engines
from tests.support import eventually


class Stage(NamedTuple):
    """All that a chaos test plays with."""

    engines: Engines
    workload: Workload
    clickhouse: AsyncClient
    redis: Redis

    async def exact(self, timeout: float = 60) -> None:  # noqa: ASYNC109 (it bounds the repetition)
        """Wait until all totals agree with the account; AssertionError says what differs."""

        async def agrees() -> bool:
            wrong = await self.workload.differences(self.clickhouse, self.redis)
            if wrong:
                raise AssertionError("; ".join(wrong))
            return True

        await eventually(agrees, timeout=timeout, interval=0.2)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with furnished(tmp_path) as made:
        yield made


BROKERS = ["embedded", *(["apache"] if APACHE else [])]
both_brokers = pytest.mark.parametrize("stage", BROKERS, indirect=True)
"""For what a broker's ways can make a difference to; other tests run on Apache Kafka where it can be had."""


@pytest.fixture
async def stage(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    broker = getattr(request, "param", BROKERS[-1])
    engines = Engines(tmp_path, APACHE if broker == "apache" else None)
    try:
        await engines.start(CATALOG, partitions=3)
        clickhouse = await connect(engines.environment["TALLYGATE_CLICKHOUSE"])
        redis: Redis = Redis(port=engines.redis_port, protocol=3)
        yield Stage(engines, Workload(engines, seed=7), clickhouse, redis)
        await clickhouse.close()
        await redis.aclose()
    finally:
        await engines.stop()
