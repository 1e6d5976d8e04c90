"""The agents of a worker, without its writer: what comes in `usage.crossings` is written once, whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiokafka import AIOKafkaProducer
from structlog.testing import capture_logs

from metering import settings as settings_reader
from metering import topics
from metering.crossing import Threshold, crossing, encode
from metering.period import LIFETIME
from metering.quantity import ONE
from service.health import Health
from streams.derived import DerivedStreams
from streams.settings import PREFIX, Settings
from tenancy import alerts
from tests.engines import Engines
from tests.support import eventually

COMMIT_SECONDS = 2.8
"""How often Faust commits what was acknowledged."""


def message(number: int) -> bytes:
    threshold = Threshold(number * ONE, "voice", "1", str(number))
    return encode(crossing("grand", "seconds", "lifetime", LIFETIME, threshold, number * ONE, number))


class Scene:
    """Running agents, and a hand that tells them crossings."""

    def __init__(self, engines: Engines) -> None:
        self.engines = engines
        environment = {**engines.environment, "TALLYGATE_STREAMS_SESSION_MS": "2000"}
        self.held_since = 0.0
        self.derived = DerivedStreams(settings_reader.load(Settings, PREFIX, environment), Health(), self._probe)
        self.hold = False

    async def _probe(self, effect: str) -> None:
        """With `hold`: the next crossing that comes is never done with."""
        if effect == "6" and self.hold:
            self.hold, self.held_since = False, time.monotonic()
            await asyncio.Event().wait()

    async def crash(self) -> None:
        """Crash the agents, and wait until they have begun anew."""
        app: Any = self.derived.app
        asyncio.run_coroutine_threadsafe(app.crash(RuntimeError("a commit failed")), app.loop)
        await eventually(lambda: self.derived.app is not app, timeout=20)

    async def tell(self, *messages: bytes) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.engines.kafka, acks="all")
        await producer.start()
        for each in messages:
            await producer.send_and_wait(topics.CROSSINGS, each, key=b"one partition for all")
        await producer.stop()

    async def written(self) -> list[str]:
        """The limits of the alerts that stand there."""
        return sorted([one.limit for one in await alerts.of(self.engines.database, "grand", 100)], key=int)

    async def has(self, *limits: int) -> None:
        """Wait until these are written, and no other."""

        async def has() -> bool:
            assert await self.written() == [str(limit) for limit in limits]
            return True

        await eventually(has, timeout=30, interval=0.1)


@pytest_asyncio.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    engines = Engines(tmp_path, None)
    try:
        await engines.start("meters: {}", partitions=1)
        made = Scene(engines)
        await made.derived.start()
        yield made
        await made.derived.stop()
    finally:
        await engines.stop()


async def test_a_crossing_that_is_told_again_is_written_once(scene: Scene) -> None:
    await scene.tell(message(1), message(2), message(1))
    await scene.has(1, 2)
    await scene.tell(message(2), message(3))
    await scene.has(1, 2, 3)


async def test_what_is_no_crossing_holds_up_none(scene: Scene) -> None:
    await scene.tell(b"", b"garbage", b'{"id": 7}', message(1))
    await scene.has(1)


async def test_while_sql_takes_nothing_crossings_wait(scene: Scene) -> None:
    await scene.tell(message(1))
    await scene.has(1)
    with capture_logs() as logs:
        async with scene.engines.database.writing():
            await scene.tell(message(2), message(3))
            await eventually(lambda: "alerts wait" in [log["event"] for log in logs], timeout=20)
    await scene.has(1, 2, 3)


async def test_what_was_not_written_is_not_acknowledged_however_long_that_takes(scene: Scene) -> None:
    await scene.tell(message(1))
    await scene.has(1)
    scene.hold = True
    await scene.tell(message(2))

    def had_time_to_commit_twice() -> bool:
        return 0 < scene.held_since < time.monotonic() - 2 * COMMIT_SECONDS

    await eventually(had_time_to_commit_twice, timeout=30)
    await scene.crash()
    await scene.has(1, 2)


async def test_agents_that_crashed_are_begun_anew_and_go_on_where_they_were(scene: Scene) -> None:
    await scene.tell(message(1))
    await scene.has(1)
    for number in (2, 3):
        await scene.crash()
        await scene.tell(message(number))
        await scene.has(*range(1, number + 1))
    assert not scene.derived.crashed
