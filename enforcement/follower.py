"""Keeps the mirror like Redis: follows the feeds, looks for signs, and reads again what was missed.

Three loops that never wait for each other: feeds are heard as they come; signs (epoch, plans) are looked at four times
a second; partitions whose feed has a gap or was silent are read again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from enforcement import metrics, redis_reads
from enforcement.mirror import Epoch, Mirror
from metering import keys
from metering.clock import SECOND_MS, Clock
from metering.feed import decode
from metering.partition import partition_of

_log = structlog.get_logger(__name__)
_LOOK_SECONDS = 0.25
_SILENT_MS = 1_500
"""Writers beat once a second: a partition that was not heard for longer is looked at."""
_SLICE_SECONDS = 0.0002
_GONE_SECONDS = 5.0
_AT_ONCE = 100
"""Tenants that are read at once: what comes of them is taken without a pause."""
_ATTEMPTS = 5
_AWAY = (RedisError, OSError, TimeoutError)


class Follower:
    """Of one process. Only `load` is waited for, and no longer than `seconds`."""

    def __init__(self, redis: Redis, mirror: Mirror, clock: Clock, seconds: float) -> None:
        self._redis = redis
        self._mirror = mirror
        self._clock = clock
        self._seconds = seconds
        self._number = -1
        self._heeding = 0
        """Counts how often changed plans were looked at: who began to read before that may know an older one."""
        self._trouble: str | None = "Redis has not answered yet"
        self._moved = asyncio.Event()

    def trouble(self) -> str | None:
        """What keeps the gate from knowing more, for readiness."""
        if self._trouble is None and self._mirror.epoch is None:
            return "no writer has said yet where the counters are"
        return self._trouble

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    for loop in (self._watch, self._listen, self._mend):
                        group.create_task(loop())
            except ExceptionGroup as mistakes:  # in the program: memory stays, and knowing nothing new is no better
                task = asyncio.current_task()
                if task is not None and task.cancelling():  # a group that fails as it is cancelled does not say so
                    raise asyncio.CancelledError from mistakes
                _log.exception("the gate begins to follow anew", reason=repr(mistakes.exceptions))
                self._trouble = f"the gate has stopped following: {mistakes.exceptions[0]!r}"
                await asyncio.sleep(_LOOK_SECONDS)

    # Signs

    async def _watch(self) -> None:
        while True:
            trouble, began = None, self._clock.now_ms()
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    signs = await redis_reads.signs(self._redis, self._number)
                await self._heed(signs, began)
            except _AWAY as error:
                trouble = f"Redis does not answer: {str(error) or type(error).__name__}"
            if trouble != self._trouble:
                _log.warning("Redis", trouble=trouble) if trouble else _log.info("Redis answers")
            self._trouble = trouble
            metrics.REDIS_UP.set(trouble is None)
            metrics.TENANTS.set(len(self._mirror.tenants))
            metrics.STALENESS.set(
                (self._clock.now_ms() - self._mirror.fresh) / SECOND_MS if self._mirror.tenants else 0
            )
            await asyncio.sleep(_LOOK_SECONDS)

    async def _heed(self, signs: redis_reads.Signs, began: int) -> None:
        """`began`: when they were asked for."""
        if signs.epoch is not None and signs.epoch != self._mirror.epoch:
            self._mirror.move(signs.epoch)
            self._moved.set()
        if signs.number < self._number:
            self._number = -1  # Redis was put back to a backup: all plans are looked at
            return
        if not signs.published:
            return  # plans come back; until then memory is as good as it was
        if signs.changed:
            self._heeding += 1
        known = [name for name in signs.changed if name in self._mirror.tenants]
        for first in range(0, len(known), _AT_ONCE):
            async with asyncio.timeout(1.0):
                found = await redis_reads.plans(self._redis, known[first : first + _AT_ONCE])
            for name, text in found.items():
                if name in self._mirror.tenants:  # or it made room for another meanwhile
                    self._mirror.plan(name, text)
        self._number = signs.number
        if signs.whole:
            self._mirror.plans_fresh = began

    # Feeds

    async def _listen(self) -> None:
        while True:
            self._moved.clear()
            epoch = self._mirror.epoch
            if epoch is None:
                await self._moved.wait()
                continue
            try:
                await self._hear(epoch)
            except _AWAY as error:
                _log.warning("the feeds broke off", reason=str(error) or type(error).__name__)
                await asyncio.sleep(_LOOK_SECONDS)

    async def _hear(self, epoch: Epoch) -> None:
        """Until the epoch changes or the connection ends."""
        channels = {keys.feed(epoch.number, number).encode(): number for number in range(epoch.partitions)}
        holds = {keys.holds_feed(epoch.number, number).encode(): number for number in range(epoch.partitions)}
        subscription: Any = self._redis.pubsub(ignore_subscribe_messages=True)
        try:
            async with asyncio.timeout(_SILENT_MS / SECOND_MS):
                await subscription.subscribe(*channels, *holds)
            for number in range(epoch.partitions):
                self._mirror.miss(number)
            let_go = time.perf_counter()
            heard = time.monotonic()
            while self._mirror.epoch == epoch:
                message = await subscription.get_message(timeout=_LOOK_SECONDS)
                if self._mirror.epoch != epoch:
                    break
                if message is None:
                    await self._still_there(subscription, heard)
                    continue
                heard = time.monotonic()
                if message["type"] == "pong":
                    continue
                if message["channel"] in holds:
                    self._mirror.hear_hold(holds[message["channel"]], message["data"], self._clock.now_ms())
                else:
                    self._mirror.hear(channels[message["channel"]], decode(message["data"]), self._clock.now_ms())
                if time.perf_counter() - let_go > _SLICE_SECONDS:
                    # Messages of all partitions come at once, and checks go first; but not one by one, or where many
                    # reserve the feed would fall behind.
                    await asyncio.sleep(0)
                    let_go = time.perf_counter()
        finally:
            with suppress(*_AWAY):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await subscription.aclose()

    async def _still_there(self, subscription: Any, heard: float) -> None:
        """Ask for a sign when nothing comes: a connection may be gone that nobody has closed. Raises TimeoutError."""
        silent = time.monotonic() - heard
        if silent > _GONE_SECONDS and self._trouble is None:
            raise TimeoutError(f"no sign of the feeds for {silent:.0f} s")
        await subscription.ping()

    # What was missed

    async def _mend(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            epoch = self._mirror.epoch
            for number in range(epoch.partitions if epoch is not None and self._trouble is None else 0):
                if self._mirror.epoch != epoch:
                    break
                partition = self._mirror.partitions[number]
                if partition.missed or self._clock.now_ms() - partition.heard > _SILENT_MS:
                    with suppress(*_AWAY):
                        async with asyncio.timeout(5.0):
                            await self._read_again(number)

    async def _read_again(self, number: int) -> None:
        epoch, mirror = self._mirror.epoch, self._mirror
        assert epoch is not None
        at = (epoch.number, number)
        began, told = self._clock.now_ms(), mirror.partitions[number].number
        position = await redis_reads.position(self._redis, at)
        if mirror.epoch != epoch:
            return
        mirror.went_back(number, told, position)
        if mirror.is_as(number, position):
            mirror.verified(number, mirror.partitions[number].gaps, began, position.vouched)
            return
        if not mirror.accepts(number, position):
            return
        gaps = mirror.begin_again(number, position)
        metrics.RESYNCS.inc()
        names = mirror.of_partition(number)
        for first in range(0, len(names), _AT_ONCE):
            if not await self._take(at, names[first : first + _AT_ONCE]):
                return
        mirror.verified(number, gaps, began, position.vouched)

    async def _take(self, at: tuple[int, int], names: Sequence[str]) -> bool:
        """Read counters until the feed has not told newer ones meanwhile."""
        for _ in range(_ATTEMPTS):
            readings = await redis_reads.counters(self._redis, {at: names})
            if self._mirror.epoch is None or self._mirror.epoch.number != at[0]:
                return False
            if self._mirror.accepts(at[1], readings[at]):
                return True
        return False

    # Whom nobody asked about before

    async def load(self, names: Sequence[str]) -> bool:
        """Get to know tenants; False when Redis does not tell now."""
        if self._trouble is not None:
            return False
        try:
            async with asyncio.timeout(self._seconds):
                await self._load(names)
        except _AWAY:
            metrics.READS_FAILED.inc()
            return False
        return True

    async def _load(self, names: Sequence[str]) -> None:
        """Nobody is to meet a tenant that is half known, so all that was read is taken in one go; and nobody told of
        what changed meanwhile, so then it is read again. Raises TimeoutError where that never ends."""
        mirror = self._mirror
        for _ in range(_ATTEMPTS):
            heeding, epoch, began = self._heeding, mirror.epoch, self._clock.now_ms()
            plans = await redis_reads.plans(self._redis, names)
            homes: dict[tuple[int, int], list[str]] = {}
            for name in plans:
                if epoch is not None:  # also of who is no tenant: a plan may come, and then counters are known
                    homes.setdefault((epoch.number, partition_of(name, epoch.partitions)), []).append(name)
            readings = await redis_reads.counters(self._redis, homes)
            if (heeding, epoch) != (self._heeding, mirror.epoch):
                continue
            if any(mirror.is_behind(home, reading) for (_, home), reading in readings.items()):
                continue
            for name, text in plans.items():
                known = mirror.plan(name, text)
                if known.counters is None:
                    known.seen = began
            for (_, home), reading in readings.items():
                if mirror.accepts(home, reading):
                    for name in reading.counters:
                        if name in mirror.tenants:
                            mirror.tenants[name].seen = min(began, reading.vouched)
            return
        raise TimeoutError("plans or counters change faster than they can be read")
