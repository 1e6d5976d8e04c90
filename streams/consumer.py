"""A Kafka consumer that remembers what the broker said of the ends of its logs, and since when that is so."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.protocol.fetch import FetchRequest

_MOST = 64


class End(NamedTuple):
    """At instant `asked` (ms UTC) a log ended before offset `end`, or earlier."""

    asked: int
    end: int


class Ends:
    """What was said of one log, the oldest first; the longer its reader is behind, the further apart."""

    def __init__(self) -> None:
        self._said: deque[End] = deque()
        self._apart = 0
        """ms, at least."""

    def add(self, said: End) -> None:
        """The broker has answered."""
        if self._said and said.end < self._said[-1].end:
            self._said.clear()  # another log
        again = bool(self._said) and said.end == self._said[-1].end
        if again or (len(self._said) > 1 and said.asked - self._said[-2].asked < self._apart):
            self._said.pop()
        elif len(self._said) == _MOST:
            self._said = deque(list(self._said)[::2])
            self._apart = 2 * (said.asked - self._said[0].asked) // _MOST
        self._said.append(said)

    def caught_up(self, offset: int) -> int | None:
        """The last instant (ms UTC) known at which there was nothing behind `offset`; asked with ever greater ones."""
        while len(self._said) > 1 and self._said[1].end <= offset + 1:
            self._said.popleft()
        if len(self._said) == 1:
            self._apart = 0
        return self._said[0].asked if self._said and self._said[0].end <= offset + 1 else None


class LogConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """aiokafka tells when it looked at an answer. An answer can lie unread for long (a process that is stopped, a loop
    that is busy), and says nothing of that time: what counts is when the broker was asked.

    Leans on `_client.send`, which is not public: aiokafka is pinned, and
    tests/integration/streams/test_consumer.py fails where it is not called any more.
    """

    def __init__(self, *topics: str, **options: Any) -> None:
        super().__init__(*topics, **options)
        self._ends: dict[TopicPartition, Ends] = {}
        self._send = self._client.send
        self._client.send = self._send_and_note

    def caught_up(self, tp: TopicPartition, offset: int) -> int | None:
        """The last instant (ms UTC) known at which the log had nothing behind `offset`, which only grows."""
        ends = self._ends.get(tp)
        return None if ends is None else ends.caught_up(offset)

    async def _send_and_note(self, node: Any, request: Any, **options: Any) -> Any:
        asked = int(time.time() * 1000)
        response = await self._send(node, request, **options)
        if isinstance(request, FetchRequest):
            for topic, partitions in response.topics:
                for partition, error, end, *_ in partitions:
                    if error == 0:
                        self._ends.setdefault(TopicPartition(topic, partition), Ends()).add(End(asked, end))
        return response
