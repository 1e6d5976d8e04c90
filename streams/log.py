"""The log of one partition, read at the offsets the writer asks for. Committed offsets decide nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from metering.errors import Halt, Unavailable
from streams.consumer import LogConsumer
from streams.frame import Record

_LOOK_MS = 5_000


class PartitionLog:
    """Reads `partition` of `topic` through a consumer to which it is assigned; the consumer resets no offsets."""

    def __init__(self, consumer: LogConsumer, topic: str, partition: int) -> None:
        self._consumer = consumer
        self._tp = TopicPartition(topic, partition)
        self._next = 0

    async def start(self) -> int:
        """The oldest offset that the broker still has. Raises Unavailable."""
        try:
            return int((await self._consumer.beginning_offsets([self._tp]))[self._tp])
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"Kafka: {error!r}") from error

    def seek(self, offset: int) -> None:
        """Go on reading at `offset`. Raises Unavailable when the partition was taken away meanwhile."""
        try:
            self._consumer.seek(self._tp, offset)
            self._consumer.resume(self._tp)
        except KafkaError as error:
            raise Unavailable(f"Kafka: {error!r}") from error
        self._next = offset

    async def read(self, limit: int, wait_ms: int) -> list[Record]:
        """Up to `limit` records, none after `wait_ms`. Raises Unavailable, or Halt where the log jumps.

        Only a partition that waits for records is fetched: aiokafka would fetch its next ones at once, keep them until
        they are old and few, and fetch for no other partition of the broker meanwhile.
        """
        try:
            self._consumer.resume(self._tp)
            answer = await self._consumer.getmany(self._tp, timeout_ms=wait_ms, max_records=limit)
            self._consumer.pause(self._tp)
        except OffsetOutOfRangeError as error:
            raise Halt(
                f"{self._tp.topic} partition {self._tp.partition}: offset {self._next} is out of the log's range; the "
                "broker trimmed or replaced what was not yet counted. Look for it in the emitters' spools, then begin "
                "a new epoch with `tallygate migrate --new-epoch`."
            ) from error
        except (KafkaError, OSError) as error:
            raise Unavailable(f"Kafka: {error!r}") from error
        records = [_record(message) for message in _messages(answer)]
        for record in records:
            if record.offset != self._next:
                raise Halt(
                    f"{self._tp.topic} partition {self._tp.partition}: the log goes from offset {self._next} to "
                    f"{record.offset}. Compacted topics and transactional producers leave such gaps; Tallygate's "
                    "topics take neither. Nothing was skipped; begin a new epoch with `tallygate migrate --new-epoch`."
                )
            self._next += 1
        return records

    async def record_at(self, offset: int) -> Record | None:
        """The record at `offset`, None where the log has none there. Raises Unavailable when that can't be told."""
        self.seek(offset)
        try:
            answer = await self._consumer.getmany(self._tp, timeout_ms=_LOOK_MS, max_records=1)
        except OffsetOutOfRangeError:
            return None
        except (KafkaError, OSError) as error:
            raise Unavailable(f"Kafka: {error!r}") from error
        for message in _messages(answer):
            return _record(message) if message.offset == offset else None
        end = self._consumer.highwater(self._tp)
        if end is not None and end <= offset:
            return None
        raise Unavailable(f"Kafka: no answer for offset {offset} of {self._tp.topic} partition {self._tp.partition}")

    def caught_up(self, offset: int) -> int | None:
        """The last instant (ms UTC) known at which there was nothing behind `offset`, by the broker's answer to a
        question asked then; None: there was more."""
        return self._consumer.caught_up(self._tp, offset)

    def lag(self) -> int | None:
        """Records not yet read, as far as the last fetch knows (right on every broker, unlike end_offsets)."""
        end = self._consumer.highwater(self._tp)
        return None if end is None else max(0, int(end) - self._next)


def _messages(answer: dict[TopicPartition, list[Any]]) -> Iterable[Any]:
    for messages in answer.values():
        yield from messages


def _record(message: Any) -> Record:
    return Record(message.offset, message.timestamp, message.key, message.value, message.headers)
