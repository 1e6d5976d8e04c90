"""What a foreign producer puts straight into Kafka: counted where it can be, else dead with reason and position."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaProducer

from metering import topics
from metering.partition import partition_of
from tests.chaos.conftest import Stage, both_brokers
from tests.support import eventually

TENANT = "hotel-0"


def event(identity: str, **changed: Any) -> dict[str, Any]:
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    body = {"specversion": "1.0", "id": identity, "source": "/pms", "type": "call", "time": time}
    return {**body, "data": {"n": 1, "l": "de"}, **changed}


class Foreign:
    """Sends records without our headers and remembers where they went."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._partitions = stage.engines.epoch.partitions
        self.home = partition_of(TENANT, self._partitions)
        self.other = (self.home + 1) % self._partitions

    async def send(self, value: bytes | None, key: bytes | None = TENANT.encode(), partition: int | None = None) -> int:
        producer = AIOKafkaProducer(bootstrap_servers=self._stage.engines.kafka, acks="all", max_request_size=4 << 20)
        await producer.start()
        try:
            topic = topics.events(self._stage.engines.epoch.epoch)
            where = self.home if partition is None else partition
            return int((await producer.send_and_wait(topic, value, key=key, partition=where)).offset)
        finally:
            await producer.stop()


async def dead_letters(stage: Stage) -> dict[tuple[int, int, int], str]:
    query = "SELECT toInt64(partition), toInt64(offset), toInt64(line), reason FROM dead_letters FINAL"
    rows = (await stage.clickhouse.query(query)).result_rows
    return {(partition, offset, line): reason for partition, offset, line, reason in rows}


async def counted(stage: Stage) -> int:
    query = "SELECT toInt64(count()) FROM usage_events FINAL WHERE tenant = {tenant:String}"
    return int((await stage.clickhouse.query(query, parameters={"tenant": TENANT})).result_rows[0][0])


@both_brokers
async def test_garbage_is_dead_with_reason_and_position_and_the_partition_goes_on(stage: Stage) -> None:
    worker = stage.engines.worker("worker")
    worker.start()
    foreign = Foreign(stage)
    good = json.dumps(event("good")).encode()
    want = {
        (foreign.home, await foreign.send(b"\x00\xff garbage"), 0): "invalid-utf8",
        (foreign.home, await foreign.send(b"not json"), 0): "invalid-json",
        (foreign.home, await foreign.send(b""), -1): "empty",
        (foreign.home, await foreign.send(None), -1): "empty",
        (foreign.home, await foreign.send(good, key=None), -1): "invalid-key",
        (foreign.home, await foreign.send(good, key=b"NOT A NAME"), -1): "invalid-key",
        (foreign.other, await foreign.send(good, partition=foreign.other), -1): "wrong-partition",
        (foreign.home, await foreign.send(json.dumps(event("x", tenant="other")).encode()), 0): "tenant-mismatch",
        (foreign.home, await foreign.send(json.dumps(event("y", type="tallygate.void")).encode()), 0): "reserved-type",
        (foreign.home, await foreign.send(json.dumps(event("z", data={"n": -1, "l": "de"})).encode()), 0): "negative",
        (foreign.home, await foreign.send(json.dumps(event("n", data={})).encode()), 0): "missing-value",
        (foreign.home, await foreign.send(json.dumps(event("t", time="2999-01-01T00:00:00Z")).encode()), 0): (
            "time-out-of-range"
        ),
    }
    await foreign.send(json.dumps(event("pretty"), indent=2).encode())
    await foreign.send(b"\n".join(json.dumps(event(f"line-{n}")).encode() for n in range(3)) + b"\n")

    async def all_there() -> bool:
        return await dead_letters(stage) == want and await counted(stage) == 4

    await eventually(all_there, timeout=30, what=f"expected {want}")
    await eventually(worker.ready, timeout=10)


@both_brokers
async def test_a_batch_that_touches_121_months_is_counted_whole(stage: Stage) -> None:
    now = time.gmtime()
    months = [(now.tm_year * 12 + now.tm_mon - 1 - back) for back in range(121)]
    lines = [
        json.dumps(event(f"m{month}", time=f"{month // 12}-{month % 12 + 1:02d}-01T00:00:00Z")).encode()
        for month in months
    ]
    foreign = Foreign(stage)
    await foreign.send(b"\n".join(lines))
    worker = stage.engines.worker("worker")
    worker.start()

    async def all_counted() -> bool:
        return await counted(stage) == 121

    await eventually(all_counted, timeout=30)
    assert await dead_letters(stage) == {}
    await foreign.send(b"\n".join(reversed(lines)))
    await foreign.send(json.dumps(event("after")).encode())

    async def duplicates() -> bool:
        rows = await stage.clickhouse.query("SELECT toInt64(sum(duplicates)), toInt64(sum(counted)) FROM usage_frames")
        return bool(rows.result_rows[0] == (121, 122))

    await eventually(duplicates, timeout=30)
