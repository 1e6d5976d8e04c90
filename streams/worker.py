"""The ledger writer as a service: a plain consumer whose group deals out partitions, a PartitionWriter for each."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from mode import Service
from redis.asyncio import Redis

from metering import topics
from metering.clock import SystemClock
from metering.errors import Unavailable
from service.health import Health
from service.watch import Watch
from streams import metrics
from streams.consumer import LogConsumer
from streams.control import ControlPlane
from streams.crossings import Outbox
from streams.epochs import EpochTurn
from streams.inserts import Inserts
from streams.ledger import PartitionLedger, connect
from streams.log import PartitionLog
from streams.settings import Settings
from streams.standstill import Standstill
from streams.state import PartitionState
from streams.writer import PartitionWriter, Probe, no_probe
from tenancy.catalogs import CatalogView
from tenancy.database import Database
from tenancy.epochs import Epoch, Epochs
from tenancy.subscriptions import SubscriptionView

_log = structlog.get_logger(__name__)

GROUP = "tallygate-streams"
_POLL_SECONDS = 1.0
_STUCK_SECONDS = 5.0
_GOODBYE_SECONDS = 3.0
_TIDY_SECONDS = 60.0
_EPOCHS_READ = 2  # the current one, and the one before for what stale gateways append to it; more while they are open


class LedgerWriter(Service):  # type: ignore[misc]
    """Starts and stops partition writers as the group assigns partitions to this process.

    It keeps `writers` up to date, by (epoch, partition), and `serving`: those that have recovered and write.
    """

    def __init__(
        self,
        settings: Settings,
        health: Health,
        serving: set[tuple[int, int]],
        writers: dict[tuple[int, int], PartitionWriter],
        probe: Probe = no_probe,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._settings = settings
        self._serving = serving
        self._held = writers
        self._probe = probe
        self._writers: dict[TopicPartition, tuple[PartitionWriter, asyncio.Task[None]]] = {}
        self._partitions: dict[str, tuple[int, int]] = {}
        self._topics: Collection[str] = ()
        self._trouble: str | None = "starting"
        self._asks, self._asks_since = "SQL", time.monotonic()
        self._assigned = False
        self._others: dict[TopicPartition, Standstill] = {}
        self._health = health
        health.add("writer", self._failure)

    async def on_start(self) -> None:
        """Connect to everything; what isn't there yet is waited for."""
        settings = self._settings
        self._database = Database(settings.sql)
        await self._database.open()
        self._epochs = Epochs(self._database)
        self._control = ControlPlane(CatalogView(self._database), SubscriptionView(self._database), SystemClock())
        await self._patiently("SQL", self._control.refresh)
        self._redis: Redis = Redis.from_url(settings.redis, protocol=3, socket_timeout=5, socket_connect_timeout=5)
        self._watch("redis", Watch("Redis", self._redis.ping))
        self._clickhouse = await self._patiently("ClickHouse", lambda: connect(settings.clickhouse))
        self._watch("clickhouse", Watch("ClickHouse", self._ping_clickhouse))
        self._inserts = Inserts(self._clickhouse)
        self._producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all")
        await self._patiently("Kafka", self._producer.start)
        self._consumer = LogConsumer(
            bootstrap_servers=settings.kafka,
            group_id=GROUP,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=4 * 1024 * 1024,
            fetch_max_wait_ms=30,  # how long one partition without records can keep the others waiting
            session_timeout_ms=settings.session_ms,
            heartbeat_interval_ms=settings.session_ms // 5,
            rebalance_timeout_ms=60_000,
            max_poll_interval_ms=600_000,
        )
        await self._patiently("Kafka", self._consumer.start)
        await self._patiently("Kafka", self._follow_epochs)

    async def on_stop(self) -> None:
        """Finish the batches in flight, then let go."""
        await self._release(list(self._writers))
        for close in (self._consumer.stop, self._producer.stop, self._clickhouse.close, self._redis.aclose):
            # What is away can't say goodbye; nothing depends on it.
            with suppress(TimeoutError, KafkaError, OSError):
                await asyncio.wait_for(close(), _GOODBYE_SECONDS)
        await self._database.close()

    @Service.task  # type: ignore[untyped-decorator]
    async def _tidy(self) -> None:
        """Exceptions and tasks in cycles hold whole batches, and by the thresholds that suit batches (`__main__`)
        nobody would look for them for hours."""
        gc.collect()
        gc.freeze()  # what was imported stays anyway
        while not self.should_stop:
            await self.sleep(_TIDY_SECONDS)
            gc.collect()

    @Service.task  # type: ignore[untyped-decorator]
    async def _keep_up(self) -> None:
        """Follow epochs, catalogs and terms; commit offsets for tools to look at."""
        while not self.should_stop:
            self._ask("SQL")
            await self.sleep(_POLL_SECONDS)
            for _, task in self._writers.values():
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    raise error  # a mistake in the program: crash, and let the supervisor start anew
            self._serving.clear()
            self._serving.update(
                (writer.epoch, writer.partition) for writer, _ in self._writers.values() if not writer.vitals.failure()
            )
            try:
                await self._refresh_control()
                await self._follow_epochs()
                if self._trouble is None:
                    await self._follow_ends()
            except Unavailable as away:
                self._trouble = str(away)
                continue
            await self._commit()

    async def _refresh_control(self) -> None:
        """What changed reaches the writers before they can come to their next batch: nothing is awaited in between."""
        changed = await self._control.refresh()
        for writer, _ in self._writers.values():
            for tenant in changed.terms:
                if writer.owns(tenant):
                    writer.recount_tenant(tenant)
            for tenant in changed.thresholds:
                if writer.owns(tenant):
                    writer.compare_tenant(tenant)

    async def _follow_epochs(self) -> None:
        """Subscribe to the epochs that are there. Readiness says so when the current one is not."""
        known = sorted(await self._epochs.all(), key=lambda epoch: epoch.epoch)
        self._ask("Kafka")
        try:
            existing = await self._consumer.topics()
        except (KafkaError, OSError) as error:
            raise Unavailable(f"Kafka: {error!r}") from error
        self._trouble = _missing(known, existing)
        wanted = {
            topics.events(epoch.epoch): (epoch.epoch, epoch.partitions)
            for back, epoch in enumerate(reversed(known))
            if (back < _EPOCHS_READ or epoch.status != "closed") and topics.events(epoch.epoch) in existing
        }
        self._topics = existing
        if wanted and wanted != self._partitions:
            self._partitions = wanted
            self._consumer.subscribe(list(wanted), listener=_Listener(self))

    async def _follow_ends(self) -> None:
        """How far the log goes, asked for beside the reading, once for all partitions. One without any partition looks
        whether those of the current epoch move: they may be nobody's."""
        mine = {tp: writer for tp, (writer, _) in self._writers.items() if tp.topic in self._partitions}
        newest = max(self._partitions.items(), key=lambda item: item[1], default=None)
        others = [] if mine or newest is None else [TopicPartition(newest[0], n) for n in range(newest[1][1])]
        try:
            async with asyncio.timeout(_STUCK_SECONDS):
                ends = await self._consumer.end_offsets([*mine, *others])
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"Kafka: {error!r}") from error
        for tp, writer in mine.items():
            writer.vitals.log_ends(ends[tp], writer.applied_offset)
        before, self._others = self._others, {}
        for tp in others:
            found = await PartitionState(self._redis, self._partitions[tp.topic][0], tp.partition).applied()
            self._others[tp] = before.get(tp, Standstill())
            self._others[tp].see(-1 if found is None else found.offset, ends[tp], time.monotonic())

    def _exists(self, epoch: int) -> bool:
        return topics.events(epoch) in self._topics

    async def assign(self, assigned: set[TopicPartition]) -> None:
        """Start a writer for each; the consumer fetches nothing of it until its writer has recovered."""
        self._assigned = True
        for tp in assigned:
            if tp in self._writers or tp.topic not in self._partitions:
                continue
            self._consumer.pause(tp)
            self._consumer.seek(tp, 0)
            epoch, partitions = self._partitions[tp.topic]
            ledger = PartitionLedger(self._clickhouse, self._inserts, epoch, tp.partition, partitions)
            state = PartitionState(self._redis, epoch, tp.partition)
            writer = PartitionWriter(
                epoch,
                tp.partition,
                partitions,
                PartitionLog(self._consumer, tp.topic, tp.partition),
                state,
                ledger,
                self._control,
                EpochTurn(epoch, self._epochs, ledger, self._redis, self._producer, self._exists),
                Outbox(state, self._producer),
                self._settings,
                self._probe,
            )
            self._held[epoch, tp.partition] = writer
            self._writers[tp] = (writer, asyncio.create_task(writer.run(), name=f"writer-{tp.topic}-{tp.partition}"))
        _log.info("assigned", partitions=sorted((tp.topic, tp.partition) for tp in assigned))

    async def revoke(self, revoked: set[TopicPartition]) -> None:
        """Await the batch in flight before another worker gets the partition."""
        self._assigned = False
        await self._release([tp for tp in revoked if tp in self._writers])

    async def _release(self, released: list[TopicPartition]) -> None:
        leaving = [self._writers.pop(tp) for tp in released]
        for tp in released:
            metrics.observe_lag(f"{tp.topic}/{tp.partition}", None)
        for writer, _ in leaving:
            self._serving.discard((writer.epoch, writer.partition))
            self._held.pop((writer.epoch, writer.partition), None)
            writer.stop()
        await asyncio.gather(*(task for _, task in leaving), return_exceptions=True)

    async def _commit(self) -> None:
        offsets = {}
        for tp, (writer, _) in self._writers.items():
            metrics.observe_lag(f"{tp.topic}/{tp.partition}", writer.vitals.lag)
            if writer.applied_offset >= 0:
                offsets[tp] = writer.applied_offset + 1
        if offsets:
            try:
                await self._consumer.commit(offsets)
            except (KafkaError, OSError) as error:
                _log.info("offsets not committed", reason=repr(error))

    def _watch(self, name: str, watch: Watch) -> None:
        self._health.add(name, watch.failure)
        self.add_future(watch.run())

    async def _ping_clickhouse(self) -> None:
        if not await self._clickhouse.ping():
            raise Unavailable("no answer to a ping")

    def _ask(self, whom: str) -> None:
        """From now on it is `whom` who keeps this process waiting."""
        self._asks, self._asks_since = whom, time.monotonic()

    async def _patiently(self, whom: str, attempt: Any) -> Any:
        self._trouble = f"starting: {whom} has not answered yet"
        while True:
            try:
                return await attempt()
            except (Unavailable, KafkaError, OSError) as error:
                self._trouble = f"starting: {whom} does not answer: {error}"
                _log.warning("waiting to start", reason=str(error))
                await asyncio.sleep(0.5)

    def _failure(self) -> str | None:
        if self._trouble:
            return self._trouble
        now = time.monotonic()
        silent = now - self._asks_since
        if silent > _STUCK_SECONDS:
            return f"{self._asks} has not answered for {silent:.0f} s"
        if not self._assigned:
            return "waiting for the group to deal out partitions"
        failures = {
            f"{tp.topic}/{tp.partition}": failure
            for tp, (writer, _) in list(self._writers.items())
            if (failure := writer.vitals.failure())
        }
        for tp, standstill in list(self._others.items()):
            if failure := standstill.failure(now):
                failures[f"{tp.topic}/{tp.partition}"] = f"{failure}; this worker was given no partition"
        return "; ".join(f"{where}: {what}" for where, what in sorted(failures.items())) or None


def _missing(known: Sequence[Epoch], existing: Collection[str]) -> str | None:
    """What is wrong when the log of the current epoch is not there."""
    if not known:
        return "there is no epoch: run `tallygate migrate`"
    topic = topics.events(known[-1].epoch)
    gone = f"Kafka: the topic {topic} is not there: `tallygate migrate` begins a new epoch"
    return None if topic in existing else gone


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """aiokafka swallows what a listener raises, so these only hand over."""

    def __init__(self, service: LedgerWriter) -> None:
        self._service = service

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._service.revoke(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._service.assign(assigned)
