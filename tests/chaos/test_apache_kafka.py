"""Apache Kafka frozen, and killed and started again, in mid-stream: nothing acknowledged is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from streams.ledger import connect
from tests.chaos.conftest import Stage
from tests.chaos.workload import CATALOG, Workload
from tests.engines import APACHE, Engines
from tests.support import eventually

pytestmark = pytest.mark.skipif(APACHE is None, reason="Apache Kafka can't be had here: see the line at the start")
AWAY_SECONDS = 20


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Stage]:
    engines = Engines(tmp_path, "apache")
    try:
        await engines.start(CATALOG, partitions=3)
        clickhouse = await connect(engines.environment["TALLYGATE_CLICKHOUSE"])
        redis: Redis = Redis(port=engines.redis_port, protocol=3)
        yield Stage(engines, Workload(engines, seed=11), clickhouse, redis)
        await clickhouse.close()
        await redis.aclose()
    finally:
        await engines.stop()


async def test_a_broker_killed_and_started_again_loses_nothing_and_the_worker_goes_on(own: Stage) -> None:
    worker = own.engines.worker("worker")
    worker.start()
    await own.workload.produce(frames=8)
    await own.exact()
    await own.workload.produce(frames=8)
    broker = own.engines.broker
    assert broker is not None
    broker.kill()
    await eventually(worker.unready, timeout=20, what="the broker is gone and readiness does not say so")
    broker.start()
    await eventually(lambda: own.workload.produce(frames=4), timeout=60)
    await own.exact(timeout=60)
    await eventually(worker.ready, timeout=30)


async def test_a_broker_frozen_for_twenty_seconds_loses_nothing_and_readiness_says_so(own: Stage) -> None:
    worker = own.engines.worker("worker")
    worker.start()
    await own.workload.produce(frames=8)
    await own.exact()
    broker = own.engines.broker
    assert broker is not None
    broker.send(signal.SIGSTOP)
    gone = time.monotonic()
    await eventually(worker.unready, timeout=20, what="the broker is frozen and readiness does not say so")
    await eventually(lambda: time.monotonic() - gone > AWAY_SECONDS, timeout=AWAY_SECONDS + 1)
    broker.send(signal.SIGCONT)
    await own.workload.produce(frames=4)
    await own.exact(timeout=60)
    await eventually(worker.ready, timeout=30)
