"""Counts what the gate decides, minute by minute, and tells it to Kafka now and then. No check ever waits for that."""

from __future__ import annotations

import asyncio
import secrets

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from enforcement import metrics
from metering import topics
from metering.clock import MINUTE_MS
from metering.decided import Decided, Slot, encode
from metering.decision import Decision

_log = structlog.get_logger(__name__)
_MOST = 50_000
"""Slots that wait to be told: while Kafka is away there is a limit to what is remembered."""
_AT_ONCE = 1_000
"""Slots in one message, a quarter of a megabyte where names are as long as they may be: Kafka takes one. No check is
answered while one is put together, some tenths of a millisecond."""
_SECONDS, _GOODBYE_SECONDS = 5.0, 1.0
"""The longer it counts, the fewer rows; who kills a gate loses what it has not told."""
_PAUSE_SECONDS = 0.05
"""Between messages: told in one go they keep gate and broker busy, and checks wait (docs/performance.md)."""
_NOBODYS = ("unknown-tenant", "unavailable")


class Tally:
    """Counts of one gate; `most` slots."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._counts: dict[Slot, int] = {}

    def add(self, tenant: str, decision: Decision, now: int, known: bool = True) -> None:
        """Count a decision made at `now` (ms UTC); `known`: the catalog has such a feature."""
        reason = decision.reason
        slot = Slot(
            now // MINUTE_MS,
            "" if decision.standing is None and reason in _NOBODYS else tenant,
            decision.feature if known else "",
            reason,
            decision.source,
            decision.allowed,
            decision.shadowed,
        )
        count = self._counts.get(slot)
        if count is not None:
            self._counts[slot] = count + 1
        elif len(self._counts) < self._most:
            self._counts[slot] = 1
        else:
            metrics.DECISIONS_LOST.inc()

    def take(self) -> dict[Slot, int]:
        """All that was counted since the last time."""
        counts, self._counts = self._counts, {}
        return counts


class Teller:
    """Sends what a tally has counted; what Kafka does not take is tried again as it is."""

    def __init__(self, tally: Tally, kafka: str) -> None:
        self._tally = tally
        self._kafka = kafka
        self._sender = secrets.token_hex(8)
        self._number = 0
        self._counts: dict[Slot, int] = {}
        self._message: Decided | None = None
        """What Kafka has not taken yet."""

    async def run(self) -> None:
        """Until cancelled; then what is left is told, if Kafka takes it at once."""
        producer: AIOKafkaProducer | None = None
        try:
            while True:
                await asyncio.sleep(_SECONDS)
                self.take()
                try:
                    if producer is None and self.next() is not None:
                        producer = await self._connected()
                    if producer is not None:
                        await self._send(producer, _PAUSE_SECONDS)
                except (KafkaError, OSError) as error:
                    _log.warning("decisions wait", reason=repr(error))
        finally:
            if producer is not None:
                await self._goodbye(producer)

    async def _connected(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(bootstrap_servers=self._kafka, acks="all", request_timeout_ms=5_000)
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def _goodbye(self, producer: AIOKafkaProducer) -> None:
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._send(producer)
                self.take()
                await self._send(producer)
        except (KafkaError, OSError, TimeoutError) as error:
            _log.warning("the last decisions were not told", reason=repr(error))
        finally:
            await producer.stop()

    async def _send(self, producer: AIOKafkaProducer, pause: float = 0) -> None:
        while (message := self.next()) is not None:
            await producer.send_and_wait(topics.DECISIONS, encode(message), key=self._sender.encode())
            self.told()
            await asyncio.sleep(pause)

    def take(self) -> None:
        """Let what was counted until now be told, if all is that was counted before."""
        if not self._counts:
            self._counts = self._tally.take()

    def next(self) -> Decided | None:
        """The message that Kafka has not taken yet, or the next one of what was taken; None: all is told.

        It is put together when the one before is gone, and what is in it is forgotten bit by bit: checks go first.
        """
        if self._message is None and self._counts:
            counts = tuple(self._counts.popitem() for _ in range(min(_AT_ONCE, len(self._counts))))
            self._number += 1
            self._message = Decided(self._sender, self._number, counts)
        return self._message

    def told(self) -> None:
        """Kafka has that message."""
        self._message = None
