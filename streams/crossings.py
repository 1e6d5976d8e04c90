"""Crossings of one partition: found where counters are computed, and told to Kafka through the outbox in Redis.

Step 4 puts them into the outbox together with the counters, so neither is there without the other. A message leaves it
only after the broker has acknowledged it: what dies in between is told again, under the same id. After a recovery, and
when limits have changed, all counters concerned are looked at: what a batch did not move over its threshold, and what a
flush took out of the outbox, is told by that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka.errors import KafkaError

from metering import counter, crossing, topics
from metering.counter import level
from metering.crossing import Crossing, passed
from metering.errors import Unavailable
from metering.keys import split_counter_field
from metering.period import Period, period_of
from streams import metrics
from streams.control import ControlPlane
from streams.state import PartitionState
from streams.tally import CounterKey, Counting

_PATIENCE_SECONDS = 3
"""For Kafka, while the partition's batches wait; then they go on, and the outbox is looked at again later."""


class Watch:
    """Compares counters, however they are counted, with thresholds, all at one partition clock."""

    def __init__(self, control: ControlPlane, counting: Counting, clock: int) -> None:
        self._control = control
        self._counting = counting
        self._clock = clock

    def crossed(self, tenant: str, key: CounterKey, before: Any, now: Any) -> list[Crossing]:
        """What a counter passes on its way from state `before` (None: it was not there) to state `now`."""
        thresholds = self._control.thresholds(tenant).get((key.meter, key.kind))
        if not thresholds:
            return []
        aggregation = self._counting.meters.aggregation(key.meter)
        stands = level(aggregation, now)
        return [
            crossing.crossing(tenant, key.meter, key.kind, Period(key.start, key.end), threshold, stands, self._clock)
            for threshold in passed(thresholds, None if before is None else level(aggregation, before), stands)
        ]

    def standing(self, tenant: str, counters: Mapping[bytes, bytes]) -> list[Crossing]:
        """What the counters of a tenant have passed of the periods that are not over, whenever that was.

        `counters`: field → text as in Redis.
        """
        found: list[Crossing] = []
        for field, text in counters.items():
            meter, kind, start = split_counter_field(field.decode())
            if (meter, kind) in self._control.thresholds(tenant):
                period = period_of(kind, start, self._counting.terms_of(tenant))
                if self._clock < period.end:
                    value = counter.decode(self._counting.meters.aggregation(meter), text.decode())
                    found += self.crossed(tenant, CounterKey(meter, kind, *period), None, value)
        return found


class Outbox:
    """The crossings that Kafka may not have yet. Two workers that empty it at once only tell some twice."""

    def __init__(self, state: PartitionState, producer: Any) -> None:
        self._state = state
        self._producer = producer

    async def send(self) -> list[bytes]:
        """Tell Kafka all that is there; returns the ids of what it acknowledged. Raises Unavailable."""
        waiting = await self._state.outbox()
        if not waiting:
            return []
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                told = [await self._producer.send(topics.CROSSINGS, message, key=id) for id, message in waiting.items()]
                await asyncio.gather(*told)
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"Kafka: {error!r}") from error
        metrics.CROSSINGS.inc(len(waiting))
        return list(waiting)

    async def remove(self, told: list[bytes]) -> None:
        """Forget what was acknowledged, by id: what came meanwhile stays. Raises Unavailable."""
        if told:
            await self._state.remove_from_outbox(told)
