"""What can become of a log on Apache Kafka: few and many partitions, foreign offsets, trimmed, made anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.records_to_delete import RecordsToDelete
from redis.asyncio import Redis

from metering import topics
from streams.epochs import ensure_epoch
from streams.ledger import connect
from streams.worker import GROUP
from tenancy.epochs import Epochs
from tests.chaos.conftest import Stage
from tests.chaos.workload import CATALOG, Workload
from tests.engines import APACHE, Engines, Worker
from tests.support import eventually

pytestmark = pytest.mark.skipif(APACHE is None, reason="Apache Kafka can't be had here: see the line at the start")


@asynccontextmanager
async def staged(folder: Path, partitions: int) -> AsyncIterator[Stage]:
    """A stage on the shared Apache Kafka, with an epoch of its own."""
    engines = Engines(folder, APACHE)
    try:
        await engines.start(CATALOG, partitions)
        clickhouse = await connect(engines.environment["TALLYGATE_CLICKHOUSE"])
        redis: Redis = Redis(port=engines.redis_port, protocol=3)
        yield Stage(engines, Workload(engines, seed=partitions), clickhouse, redis)
        await clickhouse.close()
        await redis.aclose()
    finally:
        await engines.stop()


@pytest.mark.parametrize("partitions", [1, 64])
async def test_totals_are_exact_on_one_and_on_many_partitions_while_workers_come_and_go(
    tmp_path: Path, partitions: int
) -> None:
    async with staged(tmp_path, partitions) as stage:
        workers = [stage.engines.worker(f"worker-{number}") for number in range(3)]
        for worker in workers:
            worker.start()
            await stage.workload.produce(frames=10)
        await stage.exact(timeout=90)
        for worker in workers[:2]:
            worker.kill()
            await stage.workload.produce(frames=10)
        await stage.exact(timeout=90)


@pytest.mark.parametrize("offset", [0, 1_000_000])
async def test_offsets_that_somebody_committed_decide_nothing(tmp_path: Path, offset: int) -> None:
    async with staged(tmp_path, 2) as stage:
        await stage.workload.produce(frames=10)
        topic = topics.events(stage.engines.epoch.epoch)
        offsets = {TopicPartition(topic, partition): offset for partition in range(2)}

        async def committed() -> bool:
            """The group takes no foreign commits before it has forgotten the workers of tests before."""
            consumer = AIOKafkaConsumer(bootstrap_servers=stage.engines.kafka, group_id=GROUP, enable_auto_commit=False)
            await consumer.start()
            try:
                consumer.assign(list(offsets))
                await consumer.commit(offsets)
            finally:
                await consumer.stop()
            return True

        await eventually(committed, timeout=30)
        stage.engines.worker("worker").start()
        await stage.exact()


async def _trim(stage: Stage, admin: AIOKafkaAdminClient) -> None:
    """As if retention had taken everything."""
    topic = topics.events(stage.engines.epoch.epoch)
    await admin.delete_records(
        {TopicPartition(topic, partition): RecordsToDelete(before_offset=-1) for partition in range(2)}
    )


async def _make_anew(stage: Stage, admin: AIOKafkaAdminClient) -> None:
    """As if an operator had deleted the topic and made it again."""
    name = topics.events(stage.engines.epoch.epoch)
    config = {"message.timestamp.type": "LogAppendTime"}
    await admin.delete_topics([name])

    async def gone() -> bool:
        return name not in await admin.list_topics()

    await eventually(gone, timeout=20)
    answer = await admin.create_topics([NewTopic(name, 2, 1, topic_configs=config)])
    assert all(code == 0 for _, code, *_ in answer.topic_errors), answer


Misfortune = Callable[[Stage, AIOKafkaAdminClient], Awaitable[None]]


@pytest.mark.parametrize(
    ("misfortune", "says"),
    [(_trim, "the log begins at offset"), (_make_anew, "under its old name")],
    ids=["trimmed", "made anew"],
)
@pytest.mark.parametrize("flushed", [False, True], ids=["", "and Redis flushed"])
async def test_a_log_that_lost_what_was_not_counted_stops_with_what_to_do_and_nothing_is_skipped(
    tmp_path: Path, misfortune: Misfortune, says: str, flushed: bool
) -> None:
    async with staged(tmp_path, 2) as stage:
        first = stage.engines.worker("first")
        first.start()
        await stage.workload.produce(frames=12)
        await stage.exact()
        first.kill()
        counted = (await stage.clickhouse.query("SELECT count() FROM usage_events FINAL")).result_rows
        await stage.workload.produce(frames=12)
        admin = AIOKafkaAdminClient(bootstrap_servers=stage.engines.kafka)
        await admin.start()
        await misfortune(stage, admin)
        await admin.close()
        await stage.workload.produce(frames=40)
        if flushed:
            await stage.redis.flushall()
        worker = stage.engines.worker("worker")
        worker.start()

        await eventually(lambda: _halted(worker, says), timeout=60, what=f"it says: {says}")
        assert (await stage.clickhouse.query("SELECT count() FROM usage_events FINAL")).result_rows == counted
        stage.engines.epoch = await ensure_epoch(stage.engines.kafka, Epochs(stage.engines.database), new=True)
        await eventually(worker.ready, timeout=60, what="the new epoch is the way out")


async def _halted(worker: Worker, says: str) -> bool:
    failure = (await worker.failures()).get("writer", "")
    if "halted" in failure and says in failure and "migrate --new-epoch" in failure:
        return True
    raise AssertionError(failure)
