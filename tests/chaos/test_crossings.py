"""Crossings of workers that are killed: each in the table of alerts, once, whatever died and whatever was flushed."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from sqlalchemy import func, select

from metering import frame, keys, topics
from metering.partition import partition_of
from tenancy import alerts, subscriptions, tenants
from tenancy.catalogs import Catalogs
from tenancy.tables import alert_outbox
from tests.chaos.conftest import Stage
from tests.chaos.test_apache_kafka import own as own
from tests.chaos.test_writer_crashes import AWAY_SECONDS, paused_at
from tests.chaos.workload import CATALOG
from tests.engines import APACHE
from tests.support import eventually

WATCHED = CATALOG.replace(
    "c: {limit: 1000000, period: lifetime}", "c: {limit: 50, period: month, alert_at: [0.2, 0.5, 1.0, 1.2]}"
).replace("l: {period: lifetime}", "l: {limit: 2, period: lifetime, alert_at: [1.0]}")
WATCHED += "  wide:\n    entitlements:\n      c: {limit: 1000, period: month, alert_at: [0.8]}\n"
EVERY_CALL = {("c", "0.2"), ("c", "0.5"), ("c", "1")}
LANGUAGES = {("l", "1")}
EFFECTS = ("2", "3a", "3b", "3c", "3d", "4", "5a", "5", "6", "6a")


class Calls:
    """55 calls for each tenant, 1.2 of the limit never reached, a third of them sent twice."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.tenants: list[str] = []

    async def of_new_tenants(self, number: int, plan: str = "p") -> bool:
        """Tenants on a plan, and all their calls in the log: then True."""
        database = self._stage.engines.database
        new = [f"inn-{uuid4().hex[:12]}" for _ in range(number)]
        for tenant in new:
            await tenants.create(database, tenant, "test", subscriptions.Assignment(plan))
        epoch = self._stage.engines.epoch
        producer = AIOKafkaProducer(bootstrap_servers=self._stage.engines.kafka, acks="all")
        await producer.start()
        try:
            for first in (0, 5, 15, 35):
                for tenant in new:
                    lines = [self._call(number) for number in (*range(first, first + 20), first, first + 3)]
                    await producer.send_and_wait(
                        topics.events(epoch.epoch),
                        b"\n".join(lines),
                        key=tenant.encode(),
                        partition=partition_of(tenant, epoch.partitions),
                        headers=frame.headers(len(lines), 2, int(time.time() * 1000)),
                    )
            self.tenants += new
            return True
        finally:
            await producer.stop()

    def _call(self, number: int) -> bytes:
        body = {"specversion": "1.0", "id": f"c{number}", "source": "/pms", "type": "call"}
        return json.dumps(
            {**body, "data": {"n": 1, "l": "de" if number < 30 else "en"}}, separators=(",", ":")
        ).encode()

    async def are_told(self) -> bool:
        """AssertionError unless every tenant has each of its alerts once, and no other."""
        for tenant in self.tenants:
            found = await alerts.of(self._stage.engines.database, tenant, 100)
            told = Counter((one.feature, one.threshold) for one in found)
            assert told == Counter(EVERY_CALL | LANGUAGES), (tenant, told)
            assert all(float(one.used) >= float(one.threshold) * float(one.limit) for one in found)
        return True

    async def counter(self, tenant: str) -> int:
        """What the counter of calls says."""
        epoch = self._stage.engines.epoch
        redis: Any = self._stage.redis
        found = await redis.hgetall(keys.counters(epoch.epoch, partition_of(tenant, epoch.partitions), tenant))
        return sum(int(text) for field, text in found.items() if field.startswith(b"calls:month:"))

    async def waiting(self) -> int:
        """Crossings in the outboxes of all partitions."""
        epoch = self._stage.engines.epoch
        sizes = [await self._stage.redis.hlen(keys.outbox(epoch.epoch, n)) for n in range(epoch.partitions)]
        return sum(sizes)


async def watched(stage: Stage) -> Calls:
    await Catalogs(stage.engines.database).apply(WATCHED, 0)
    return Calls(stage)


async def test_a_worker_killed_at_each_effect_tells_each_crossing_once(stage: Stage, tmp_path: Path) -> None:
    calls = await watched(stage)
    for number, effect in enumerate(EFFECTS):
        await calls.of_new_tenants(2)
        marker = tmp_path / f"at-{effect}"
        doomed = paused_at(stage, effect, marker, TALLYGATE_STREAMS_BATCH_RECORDS=str(1 + number % 4))
        doomed.start()
        await eventually(marker.exists, timeout=40, what=f"effect {effect}: {doomed.output()[-2000:]}")
        doomed.kill()
        successor = stage.engines.worker(f"after-{effect}", TALLYGATE_STREAMS_BATCH_RECORDS="3")
        successor.start()
        await eventually(calls.are_told, timeout=40, interval=0.2, what=effect)
        await eventually(lambda: _none(calls), timeout=10, what="the outboxes are empty")
        successor.kill()


async def test_a_flush_between_counting_and_telling_loses_no_crossing_and_tells_none_twice(
    stage: Stage, tmp_path: Path
) -> None:
    calls = await watched(stage)
    await calls.of_new_tenants(3)
    marker = tmp_path / "flush"
    worker = paused_at(stage, "4", marker, TALLYGATE_STREAMS_BATCH_RECORDS="100")
    worker.start()
    await eventually(marker.exists, timeout=40, what=worker.output()[-2000:])
    await stage.redis.flushall()
    marker.unlink()
    await eventually(calls.are_told, timeout=40, interval=0.2)
    rows = await _rows(stage)
    await stage.redis.flushall()
    await calls.of_new_tenants(1)
    await eventually(calls.are_told, timeout=40, interval=0.2)
    assert await _rows(stage) == rows + len(EVERY_CALL | LANGUAGES)


async def test_a_limit_that_falls_below_what_is_used_is_told_without_another_event(stage: Stage) -> None:
    calls = await watched(stage)
    worker = stage.engines.worker("worker")
    worker.start()
    await calls.of_new_tenants(2, plan="wide")
    await eventually(lambda: _counted(calls, 55), timeout=30)
    assert await _rows(stage) == 0
    for tenant in calls.tenants:
        await subscriptions.assign(stage.engines.database, tenant, "p", "test")
    await eventually(calls.are_told, timeout=20, interval=0.2)


@pytest.mark.parametrize("stage", ["embedded"], indirect=True)
async def test_a_broker_that_was_away_while_an_alert_was_written_holds_up_none_and_ends_no_worker(stage: Stage) -> None:
    broker = stage.engines.broker
    assert broker is not None
    calls = await watched(stage)
    worker = stage.engines.worker("worker")
    worker.start()
    await calls.of_new_tenants(2)
    await eventually(calls.are_told, timeout=40, interval=0.05)
    broker.send(signal.SIGSTOP)  # before Faust has committed what it read
    gone = time.monotonic()
    await eventually(lambda: time.monotonic() - gone > AWAY_SECONDS, timeout=AWAY_SECONDS + 1)
    broker.send(signal.SIGCONT)
    await calls.of_new_tenants(2)
    await eventually(calls.are_told, timeout=60, interval=0.2, what=worker.output()[-3000:])
    assert not worker.ended()
    await eventually(worker.ready, timeout=20)


@pytest.mark.skipif(APACHE is None, reason="Apache Kafka can't be had here: see the line at the start")
async def test_a_broker_that_is_killed_and_started_again_loses_no_crossing(own: Stage) -> None:
    broker = own.engines.broker
    assert broker is not None
    calls = await watched(own)
    worker = own.engines.worker("worker")
    worker.start()
    await calls.of_new_tenants(2)
    await eventually(calls.are_told, timeout=40, interval=0.05)
    await calls.of_new_tenants(4)
    broker.kill()
    broker.start()
    await eventually(calls.are_told, timeout=60, interval=0.2, what=worker.output()[-3000:])
    await eventually(lambda: calls.of_new_tenants(1), timeout=60)
    await eventually(calls.are_told, timeout=60, interval=0.2, what=worker.output()[-3000:])
    assert not worker.ended()
    await eventually(worker.ready, timeout=30)


async def _counted(calls: Calls, events: int) -> bool:
    return all([await calls.counter(tenant) == events for tenant in calls.tenants])


async def _none(calls: Calls) -> bool:
    return await calls.waiting() == 0


async def _rows(stage: Stage) -> int:
    async with stage.engines.database.transaction() as connection:
        return int((await connection.execute(select(func.count()).select_from(alert_outbox))).scalar() or 0)
