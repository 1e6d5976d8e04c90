"""Frames to the log of the current epoch. What it returns a position for, the broker has acknowledged with acks=all.

A producer is good until it fails in a way that a retry cannot mend (a lost sequence, a fenced id); then a new one takes
its place. While the broker is away, or the epoch's topic is gone, publishing is refused at once.

Side effects, and what a crash after each leaves behind:
1. frames handed to the producer: nothing acknowledged; what reached the log counts, a resend counts once;
2. the broker acknowledged some of them: the same;
3. all acknowledged: the sender may not know it, resends, and the resend counts once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from metering import frame, topics
from metering.errors import Unavailable
from metering.partition import partition_of
from tenancy.epochs import Epoch

_log = structlog.get_logger(__name__)
_PROBE_SECONDS = 1.0
_PROBE_TIMEOUT = 3.0
_PATIENCE = 5  # probes without an answer, after which a new producer finds the broker by its bootstrap address
_START_TIMEOUT = 15.0
_BATCH_BYTES = 1_000_000
_MAX_REQUEST_BYTES = 1_048_576
_REQUEST_TIMEOUT_MS = 20_000

Positions = list[tuple[int, int]]


class Publisher:
    """One producer of one process. Run `run()` beside it: it connects, watches the broker and replaces the producer."""

    def __init__(
        self, bootstrap: str, idempotent: bool, epoch: Callable[[], Epoch | None], timeout_seconds: float
    ) -> None:
        self._bootstrap = bootstrap
        self._idempotent = idempotent
        self._epoch = epoch
        self._timeout = timeout_seconds
        self._producer: AIOKafkaProducer | None = None
        self._problem: str | None = "not connected to the broker yet"
        self._spoiled = asyncio.Event()

    def problem(self) -> str | None:
        """What keeps it from publishing; None when all is well."""
        return self._problem

    async def publish(
        self, batches: Mapping[str, Sequence[bytes]], catalog_version: int, received: int
    ) -> tuple[int, Positions]:
        """Append compact events per tenant; (epoch, [(partition, offset) of each frame]) once all are acknowledged.

        Raises Unavailable when that is not known within the time: nothing may then be called accepted.
        """
        epoch, producer = await self._ready()
        topic = topics.events(epoch.epoch)
        pending: list[asyncio.Future[RecordMetadata]] = []
        try:
            async with asyncio.timeout(self._timeout):
                for tenant, events in batches.items():
                    partition = partition_of(tenant, epoch.partitions)
                    key = tenant.encode()
                    for value, count in frame.frames(events):
                        headers = frame.headers(count, catalog_version, received)
                        pending.append(await producer.send(topic, value, key, partition, headers=headers))
                records = [await pending[0]] if len(pending) == 1 else await asyncio.gather(*pending)
        except TimeoutError as error:
            raise Unavailable("the broker did not acknowledge in time") from error
        except KafkaError as error:
            if not error.retriable:
                self._spoil(producer, error)
            raise Unavailable(f"the broker did not acknowledge: {type(error).__name__}") from error
        finally:
            for future in pending:
                future.cancel()  # of those not done nobody waits for the answer any more
        return epoch.epoch, [(record.partition, record.offset) for record in records]

    async def _ready(self) -> tuple[Epoch, AIOKafkaProducer]:
        epoch, producer = self._epoch(), self._producer
        if self._problem is not None or epoch is None or producer is None:
            raise Unavailable(self._problem or "there is no epoch")
        problem = _topic_problem(epoch, producer)
        if problem is not None and await self._probe():
            problem = _topic_problem(epoch, producer)  # an epoch that began since the broker was last asked
        if problem is not None:
            raise Unavailable(problem)
        return epoch, producer

    def _spoil(self, producer: AIOKafkaProducer, error: KafkaError) -> None:
        if producer is self._producer:
            _log.warning("the producer is replaced", error=repr(error))
            self._problem = "the connection to the broker is being renewed"
            self._spoiled.set()

    async def run(self) -> None:
        """Connect, watch, replace; until cancelled."""
        while True:
            try:
                await self._connect()
                await self._watch()
                self._set_problem("the connection to the broker is being renewed")
            except Exception:
                _log.exception("the watch over the broker failed")
                self._set_problem("the connection to the broker failed in an unexpected way")
                await asyncio.sleep(_PROBE_SECONDS)
            finally:
                await self._disconnect()

    async def _connect(self) -> None:
        while True:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                acks="all",
                enable_idempotence=self._idempotent,
                linger_ms=5,  # frames that come together share a request: the broker's CPU per event halves
                compression_type="zstd",  # aiokafka runs lz4 at level 9: twice the time for frames half as large again
                max_batch_size=_BATCH_BYTES,
                max_request_size=_MAX_REQUEST_BYTES,
                request_timeout_ms=_REQUEST_TIMEOUT_MS,
            )
            try:
                await asyncio.wait_for(producer.start(), _START_TIMEOUT)
            except (KafkaError, OSError, TimeoutError) as error:
                self._set_problem(f"the broker cannot be reached: {type(error).__name__}")
                await _stop(producer)
                await asyncio.sleep(_PROBE_SECONDS)
            else:
                self._spoiled.clear()
                self._producer = producer
                return

    async def _watch(self) -> None:
        """Returns when the producer has to be replaced."""
        silent = 0
        while not self._spoiled.is_set() and silent < _PATIENCE:
            answered = await self._probe()
            silent = 0 if answered else silent + 1
            self._set_problem(self._state() if answered else "the broker does not answer")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._spoiled.wait(), _PROBE_SECONDS)

    async def _probe(self) -> bool:
        """Ask the broker what it has; whether it answered.

        It is always asked for all topics, never by name: asking a broker that creates topics on demand for one that
        is gone would begin a log anew under an old name.
        """
        if self._producer is None:
            return False
        try:
            return bool(await asyncio.wait_for(self._producer.client.force_metadata_update(), _PROBE_TIMEOUT))
        except (KafkaError, OSError, TimeoutError):
            return False

    def _state(self) -> str | None:
        epoch = self._epoch()
        if epoch is None:
            return "there is no epoch: run `tallygate migrate`"
        return _topic_problem(epoch, self._producer)

    def _set_problem(self, problem: str | None) -> None:
        if problem != self._problem:
            self._problem = problem
            if problem is None:
                _log.info("publishing")
            else:
                _log.warning("cannot publish", problem=problem)

    async def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)


def _topic_problem(epoch: Epoch, producer: AIOKafkaProducer) -> str | None:
    if epoch.status != "open":
        return f"epoch {epoch.epoch} is {epoch.status}; the next one has not begun"
    partitions = producer.client.cluster.partitions_for_topic(topics.events(epoch.epoch))
    if not partitions:
        return f"the topic {topics.events(epoch.epoch)} is not there: `tallygate migrate` begins a new epoch"
    if len(partitions) != epoch.partitions:
        return f"{topics.events(epoch.epoch)} has {len(partitions)} partitions, its epoch {epoch.partitions}"
    return None


async def _stop(producer: AIOKafkaProducer) -> None:
    """Flush and close. What a broker that is away has not taken by then was never acknowledged and is given up."""
    try:
        await asyncio.wait_for(producer.stop(), _PROBE_TIMEOUT)
    except (KafkaError, OSError, TimeoutError):
        sender = producer._sender.sender_task  # stop() leaves it running, to retry for ever
        if sender is not None:
            sender.cancel()
        with suppress(KafkaError, OSError):
            await producer.client.close()
