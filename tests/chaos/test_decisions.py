"""What gates decide is in ClickHouse, each check once, also when messages come again and Kafka or workers go away."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from enforcement.decided import Tally, Teller
from metering.clock import MINUTE_MS
from metering.decision import Decision
from tests.chaos.conftest import Stage
from tests.support import eventually

NOW = 1_795_428_000_000


@pytest.fixture
def tenants() -> tuple[str, str]:
    """Nobody else's: tests share a broker, and its topic of decisions may still hold what another's gate has told."""
    return f"grand-{uuid4().hex}", f"bolt-{uuid4().hex}"


@asynccontextmanager
async def telling(stage: Stage, tally: Tally) -> AsyncIterator[None]:
    task = asyncio.create_task(Teller(tally, stage.engines.kafka).run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def decide(tally: Tally, tenants: tuple[str, str], times: int) -> None:
    for number in range(times):
        allowed = number % 3 != 0
        reason = "within-limit" if allowed else "limit-reached"
        decision = Decision(allowed, reason, "voice", "memory", NOW)  # type: ignore[arg-type]
        tally.add(tenants[number % 2], decision, NOW + number * MINUTE_MS // 7)


async def counted(stage: Stage, tenants: tuple[str, str]) -> dict[tuple[str, int], int]:
    rows = await stage.clickhouse.query(
        "SELECT tenant, allowed, sum(checks) FROM gate_decisions FINAL"
        " WHERE tenant IN {tenants:Array(String)} GROUP BY tenant, allowed",
        {"tenants": list(tenants)},
    )
    return {(tenant, allowed): checks for tenant, allowed, checks in rows.result_rows}


async def test_each_check_is_counted_once_through_kills_and_a_broker_that_is_away(
    stage: Stage, tenants: tuple[str, str]
) -> None:
    tally = Tally()
    worker = stage.engines.worker("worker-0")
    worker.start()
    async with telling(stage, tally):
        for turn in range(3):
            decide(tally, tenants, 300)
            await eventually(partial(_all, stage, tenants, turn * 600 + 300), timeout=60)
            decide(tally, tenants, 300)
            worker.kill()
            worker = stage.engines.worker(f"worker-{turn + 1}")
            worker.start()
        await eventually(partial(_all, stage, tenants, 1800), timeout=60)
    expected = {(tenant, allowed): 300 + 300 * allowed for tenant in tenants for allowed in (0, 1)}
    assert await counted(stage, tenants) == expected


@pytest.mark.parametrize("stage", ["embedded"], indirect=True)
async def test_while_kafka_is_away_decisions_wait(stage: Stage, tenants: tuple[str, str]) -> None:
    tally = Tally()
    broker = stage.engines.broker
    assert broker is not None
    stage.engines.worker("worker").start()
    async with telling(stage, tally):
        decide(tally, tenants, 30)
        await eventually(lambda: _all(stage, tenants, 30), timeout=60)
        broker.send(signal.SIGSTOP)
        decide(tally, tenants, 60)
        with capture_logs() as logs:
            await eventually(lambda: any(line["event"] == "decisions wait" for line in logs), timeout=60)
        decide(tally, tenants, 30)
        broker.send(signal.SIGCONT)
        await eventually(lambda: _all(stage, tenants, 120), timeout=60)


async def _all(stage: Stage, tenants: tuple[str, str], total: int) -> bool:
    found = sum((await counted(stage, tenants)).values())
    assert found == total
    return True
