"""What a consumer says of the end of a log was so when it asked, however late it looked at the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.fetch import FetchRequest

from local import tansu
from local.ports import HOST
from streams.consumer import End, Ends, LogConsumer
from tests.engines import APACHE, Program
from tests.support import eventually, free_port

_TOPIC = f"ends-{time.time_ns()}"
_AT = TopicPartition(_TOPIC, 0)


class Log(NamedTuple):
    """A topic of one partition, who reads it and who writes to it."""

    consumer: Any
    producer: Any

    async def append(self) -> int:
        """One more record; its offset."""
        return int((await self.producer.send_and_wait(_TOPIC, b"x", partition=0)).offset)

    async def read_on(self) -> None:
        """Look what has come."""
        await self.consumer.getmany(_AT, timeout_ms=50)


@pytest_asyncio.fixture
async def log(tmp_path: Path) -> AsyncIterator[Log]:
    port = free_port()
    broker, address = None, APACHE
    if address is None:
        address = f"{HOST}:{port}"
        broker = Program("kafka", tansu.command(port, tmp_path), tmp_path / "kafka.log")
        broker.start()
        await eventually(partial(tansu.ready, port), 30)
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic(_TOPIC, 1, 1)])
    await admin.close()
    consumer: Any = LogConsumer(bootstrap_servers=address, auto_offset_reset="none", fetch_max_wait_ms=30)
    async with AIOKafkaProducer(bootstrap_servers=address, acks="all") as producer:
        await consumer.start()
        consumer.assign([_AT])
        consumer.seek(_AT, 0)
        yield Log(consumer, producer)
        await consumer.stop()
    if broker is not None:
        broker.kill()


async def test_an_answer_that_lies_unread_says_nothing_of_what_came_meanwhile(log: Log) -> None:
    last = await log.append()

    async def caught_up() -> Any:
        await log.read_on()
        return log.consumer.caught_up(_AT, last)

    await eventually(caught_up, what="the end of the log")
    assert log.consumer.caught_up(_AT, last - 1) is None
    answered, look = asyncio.Event(), asyncio.Event()
    send = log.consumer._send

    async def unread(node: Any, request: Any, **options: Any) -> Any:
        response = await send(node, request, **options)
        if isinstance(request, FetchRequest):
            answered.set()
            await look.wait()
        return response

    log.consumer._send = unread
    await asyncio.wait_for(answered.wait(), 10)
    before = time.time() * 1000
    newest = await log.append()
    look.set()
    log.consumer._send = send
    assert await eventually(caught_up) <= before, "it was asked before that came"
    last = newest
    assert await eventually(caught_up) > before


def test_a_reader_that_is_behind_still_knows_when_it_was_not() -> None:
    ends = Ends()
    for second in range(1000):
        ends.add(End(second, second * 10))
    assert ends.caught_up(0) == 0
    behind = ends.caught_up(5_000)
    assert behind is not None and 400 < behind <= 500
    assert ends.caught_up(9_989) == 999


def test_of_a_log_that_does_not_grow_the_last_answer_counts() -> None:
    ends = Ends()
    for second in range(5):
        ends.add(End(second, 7))
    assert (ends.caught_up(5), ends.caught_up(6)) == (None, 4)


def test_a_log_that_begins_anew_is_another_one() -> None:
    ends = Ends()
    ends.add(End(1, 7))
    ends.add(End(2, 1))
    assert ends.caught_up(0) == 2
