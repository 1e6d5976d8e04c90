"""On Apache Kafka: an idempotent producer through a SIGKILL of the broker, and a deleted topic that stays deleted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientError

from tests.contract.ingest.sender import Sender, event
from tests.integration.ingest.gateway import ApacheKafka, Broker, Gateway, run
from tests.integration.ingest.test_ingest_broker_away import later, not_ready, ready
from tests.support import eventually, free_port, own_kafka

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(not own_kafka(), reason="TALLYGATE_TEST_KAFKA names no Apache Kafka to be had"),
]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A node of its own: these tests kill it."""
    broker = ApacheKafka(free_port(), tmp_path / "kafka")
    try:
        broker.start()
        run(broker.create_topic(1))
        yield broker
    finally:
        broker.stop()


async def test_a_killed_broker_comes_back_with_all_that_was_acknowledged_and_nothing_twice(
    gateway: Gateway, broker: Broker, sender: Sender
) -> None:
    gateway.start(publish_seconds="3")
    await ready(gateway)
    acknowledged: list[str] = []
    stop = asyncio.Event()

    async def emit() -> None:
        while not stop.is_set():
            sent = event()
            try:
                answer = await sender.post([sent])
            except ClientError:
                continue
            if answer.status == 202:
                acknowledged.append(sent["id"])
            else:
                assert later(answer)
                await asyncio.sleep(0.05)

    emitters = [asyncio.create_task(emit()) for _ in range(8)]
    for end in (signal.SIGSTOP, signal.SIGKILL, signal.SIGKILL):
        enough = len(acknowledged) + 50
        await eventually(lambda: len(acknowledged) > enough, timeout=40)  # noqa: B023 (awaited in this turn)
        broker.signal(end)
        await not_ready(gateway, "broker", "does not answer")
        if end is signal.SIGKILL:
            broker.stop()
            await asyncio.to_thread(broker.start)
        else:
            broker.signal(signal.SIGCONT)
        await eventually(lambda: gateway.ready()[0], timeout=60, what="the gateway is ready again")
    stop.set()
    await asyncio.gather(*emitters)
    logged = await sender.logged()
    assert [id for id in acknowledged if id not in logged] == []
    assert [id for id, times in logged.items() if times > 1] == []


async def test_a_deleted_topic_is_not_begun_anew_by_a_broker_that_would(
    gateway: Gateway, broker: Broker, sender: Sender
) -> None:
    gateway.start(publish_seconds="2")
    await ready(gateway)
    assert (await sender.post([event()])).status == 202
    await broker.delete_topic(1)
    assert later(await sender.post([event()]))
    await not_ready(gateway, "broker", "usage.events.1 is not there")
    assert later(await sender.post([event()]))
    assert "usage.events.1" not in await broker.topics()
