"""Epochs: a topic each. A new one begins when the partition count changes or a broker lost its log; never in place.

The old epoch's partitions end with a closing frame each, accounted like any record; what a stale gateway appends behind
one is produced again to the new topic, where its identity keeps it from counting twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from redis.asyncio import Redis
from redis.exceptions import RedisError

from metering import keys, topics
from metering.errors import Unavailable
from metering.frame import CLOSING_HEADERS, checksum, read_headers
from metering.partition import partition_of
from streams.frame import Frame, Record
from streams.holds import begin_holds
from streams.ledger import PartitionLedger
from tenancy.epochs import Epoch, Epochs

_log = structlog.get_logger(__name__)

DEFAULT_PARTITIONS = 8


class EpochTurn:
    """Whether an epoch's turn has come, and how what was left behind in it goes on to the newest.

    `exists`: whether the broker has an epoch's topic, as far as this process has seen.
    """

    def __init__(
        self,
        epoch: int,
        epochs: Epochs,
        ledger: PartitionLedger,
        redis: Redis,
        producer: Any,
        exists: Callable[[int], bool],
    ) -> None:
        self._epoch = epoch
        self._epochs = epochs
        self._ledger = ledger
        self._redis = redis
        self._producer = producer
        self._exists = exists

    async def begun(self) -> bool:
        """True once every epoch before this one is closed: the ledger says so, or nothing is left of its log. Raises
        Unavailable.

        A ledger that came back older than a closing frame opens that epoch again: it is read again first.
        """
        for before in await self._epochs.all():
            closed = before.status == "closed"
            if before.epoch >= self._epoch or (closed and not self._exists(before.epoch)):
                continue
            all_closed = await self._ledger.closed_partitions(before.epoch) >= before.partitions
            if all_closed != closed:
                await self._epochs.mark(before.epoch, "closed" if all_closed else "closing")
            if not all_closed:
                return False
        return True

    async def given_up(self) -> bool:
        """Whether the operator has begun a new epoch after this one. Raises Unavailable."""
        return any(one.epoch == self._epoch and one.status != "open" for one in await self._epochs.all())

    async def announce(self) -> None:
        """Tell readers of Redis where the state stands now. Raises Unavailable."""
        newest = await self._epochs.current()
        if newest is None or newest.epoch != self._epoch:
            return
        try:
            await self._redis.set(keys.EPOCH, f"{newest.epoch}:{newest.partitions}")
        except (RedisError, OSError) as error:
            raise Unavailable("Redis does not answer") from error

    async def move_on(self, record: Record, clock: int) -> Frame:
        """Produce a record that came behind the closing frame again, to the newest epoch. Raises Unavailable.

        Its frame here has no events: they are accounted where they went.
        """
        newest = await self._epochs.current()
        frame = left_behind(record, clock)
        if newest is None or newest.epoch == self._epoch or _is_closing(record):
            return frame
        tenant = (record.key or b"").decode("utf-8", "replace")
        try:
            await self._producer.send_and_wait(
                topics.events(newest.epoch),
                record.value,
                key=record.key,
                partition=partition_of(tenant, newest.partitions),
                headers=list(record.headers),
            )
        except (KafkaError, OSError) as error:
            raise Unavailable(f"Kafka: {error!r}") from error
        return frame


def left_behind(record: Record, clock: int) -> Frame:
    """The frame of a record behind the closing one: without events."""
    check = checksum(record.key, record.value, record.timestamp)
    return Frame(record.offset, "", max(clock, record.timestamp), record.timestamp, check)


def _is_closing(record: Record) -> bool:
    try:
        return read_headers(record.headers).closing
    except ValueError:
        return False


def kept_by(held: Set[tuple[int, int]], epochs: Sequence[Epoch]) -> list[tuple[Epoch, int]]:
    """The (epoch, partition) that a process looks after which holds these, oldest first.

    The owner of a partition of the newest epoch also looks after those of earlier ones.
    """
    if not epochs:
        return []
    newest = epochs[-1]
    return [
        (epoch, partition)
        for epoch in epochs
        for partition in range(epoch.partitions)
        if (newest.epoch, partition % newest.partitions) in held
    ]


async def ensure_epoch(
    kafka: str, epochs: Epochs, partitions: int | None = None, new: bool = False, redis: Redis | None = None
) -> Epoch:
    """The epoch that gateways write to, begun if there is none, if its topic is gone, or if a change is asked for.
    The topics of crossings and decisions are made beside it.

    `partitions` None keeps what is there; `redis`: where usage is reserved. Safe to repeat after a crash at any point.
    Raises Unavailable.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    try:
        await admin.start()
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka at {kafka}: {error!r}") from error
    try:
        current = await epochs.current()
        existing = set(await admin.list_topics())
        for name in (topics.CROSSINGS, topics.DECISIONS):
            if name not in existing:
                await _create(admin, name, DEFAULT_PARTITIONS, {})
        if current is None:
            # Topics that this control plane has not made are another system's: left alone, never written to.
            others = [number for name in existing if (number := topics.epoch_of(name)) is not None]
            if others:
                _log.warning("the broker has epochs that are not ours", epochs=sorted(others))
            return await _begin(
                admin, epochs, None, redis, max(others, default=0) + 1, partitions or DEFAULT_PARTITIONS
            )
        if topics.events(current.epoch) not in existing:
            # The log is gone with its broker. Epochs before it can't be read on either.
            _log.warning("the topic of the current epoch is gone; a new epoch begins", epoch=current.epoch)
            for epoch in await epochs.all():
                if topics.events(epoch.epoch) not in existing:
                    await epochs.mark(epoch.epoch, "closed")
            return await _begin(admin, epochs, current, redis, current.epoch + 1, partitions or current.partitions)
        if new or (partitions is not None and partitions != current.partitions):
            begun = await _begin(admin, epochs, current, redis, current.epoch + 1, partitions or current.partitions)
            await epochs.mark(current.epoch, "closing")
            current = begun
        for epoch in await epochs.all():
            if epoch.status == "closing" and topics.events(epoch.epoch) in existing:
                await _close(kafka, epoch)
        return current
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka at {kafka}: {error!r}") from error
    finally:
        await admin.close()


async def _begin(
    admin: Any, epochs: Epochs, older: Epoch | None, redis: Redis | None, number: int, partitions: int
) -> Epoch:
    # The topic first: gateways follow the table, and must find the topic there.
    log = {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete"}
    await _create(admin, topics.events(number), partitions, log)
    if redis is not None:
        await begin_holds(redis, older, number, partitions)
    return await epochs.begin(partitions, number)


async def _create(admin: Any, name: str, partitions: int, configs: dict[str, str]) -> None:
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, topic_configs=configs)
    answer = await admin.create_topics([topic])
    for _, code, *_ in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error(f"creating {name}")


async def _close(kafka: str, epoch: Epoch) -> None:
    """Append a closing frame to each partition. Repeating it is harmless: a second one is only accounted."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    try:
        for partition in range(epoch.partitions):
            await producer.send_and_wait(
                topics.events(epoch.epoch), value=b"", partition=partition, headers=CLOSING_HEADERS
            )
    finally:
        await producer.stop()
