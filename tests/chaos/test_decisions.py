"""What gates decide is in ClickHouse, each check once, also when messages come again and Kafka or workers go away."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from enforcement.decided import Tally, Teller
from metering.clock import MINUTE_MS
from metering.decision import Decision
from tests.chaos.conftest import Stage
from tests.support import eventually

NOW = 1_795_428_000_000
TENANTS = ("grand", "bolt")


@asynccontextmanager
async def telling(stage: Stage, tally: Tally) -> AsyncIterator[None]:
    task = asyncio.create_task(Teller(tally, stage.engines.kafka).run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def decide(tally: Tally, times: int) -> None:
    for number in range(times):
        allowed = number % 3 != 0
        reason = "within-limit" if allowed else "limit-reached"
        tally.add(TENANTS[number % 2], Decision(allowed, reason, "voice", "memory", NOW), NOW + number * MINUTE_MS // 7)  # type: ignore[arg-type]


async def counted(stage: Stage) -> dict[tuple[str, int], int]:
    rows = await stage.clickhouse.query(
        "SELECT tenant, allowed, sum(checks) FROM gate_decisions FINAL GROUP BY tenant, allowed"
    )
    return {(tenant, allowed): checks for tenant, allowed, checks in rows.result_rows}


async def test_each_check_is_counted_once_through_kills_and_a_broker_that_is_away(stage: Stage) -> None:
    tally = Tally()
    worker = stage.engines.worker("worker-0")
    worker.start()
    async with telling(stage, tally):
        for turn in range(3):
            decide(tally, 300)
            await eventually(partial(_all, stage, turn * 600 + 300), timeout=60)
            decide(tally, 300)
            worker.kill()
            worker = stage.engines.worker(f"worker-{turn + 1}")
            worker.start()
        await eventually(partial(_all, stage, 1800), timeout=60)
    expected = {(tenant, allowed): 300 + 300 * allowed for tenant in TENANTS for allowed in (0, 1)}
    assert await counted(stage) == expected


@pytest.mark.parametrize("stage", ["embedded"], indirect=True)
async def test_while_kafka_is_away_decisions_wait(stage: Stage) -> None:
    tally = Tally()
    broker = stage.engines.broker
    assert broker is not None
    stage.engines.worker("worker").start()
    async with telling(stage, tally):
        decide(tally, 30)
        await eventually(lambda: _all(stage, 30), timeout=60)
        broker.send(signal.SIGSTOP)
        decide(tally, 60)
        await asyncio.sleep(0)
        decide(tally, 30)
        broker.send(signal.SIGCONT)
        await eventually(lambda: _all(stage, 120), timeout=60)


async def _all(stage: Stage, total: int) -> bool:
    found = sum((await counted(stage)).values())
    assert found == total
    return True
