"""Operations as a service: does what was asked for (tenancy/operations.py) to the partitions of this process, and
reconciles them by itself now and then."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from mode import Service
from redis.asyncio import Redis

from metering import topics
from metering.clock import SystemClock
from metering.errors import Halt, Unavailable
from streams import metrics
from streams.control import ControlPlane
from streams.dedupe import Window
from streams.epochs import kept_by
from streams.inserts import Inserts
from streams.ledger import PartitionLedger, connect
from streams.log import PartitionLog
from streams.operation import Progress, carry_out
from streams.reconcile import PAIRS, Finding, Stores, ledger_findings, rollup_findings, state_findings
from streams.repair import Newest
from streams.rollups import RollupTables
from streams.settings import Settings
from streams.shadow import Shadow
from streams.state import PartitionState
from streams.writer import PartitionWriter
from tenancy.catalogs import CatalogView
from tenancy.database import Database
from tenancy.epochs import Epoch, Epochs
from tenancy.operations import Operations, Task
from tenancy.subscriptions import SubscriptionView

_log = structlog.get_logger(__name__)

_PATIENCE_SECONDS = 600
_LOOK_SECONDS = 1.0
_TELL_SECONDS = 2.0
_SHARE = 20
"""Reconciliation rests this many times as long as it took: it is at work for at most a twentieth of the time."""


class OperationWorker(Service):  # type: ignore[misc]
    """One for a process. `writers`: those of the partitions that it holds, whether or not they are stuck."""

    def __init__(self, settings: Settings, writers: Mapping[tuple[int, int], PartitionWriter], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._settings = settings
        self._writers = writers
        self._holder = secrets.token_hex(8)
        self._database = Database(settings.sql)
        self._epochs = Epochs(self._database)
        self._operations = Operations(self._database)
        self._control: ControlPlane | None = None
        self._clickhouse: Any = None
        self._redis: Redis = Redis.from_url(settings.redis, protocol=3, socket_timeout=30, socket_connect_timeout=5)
        self._due = time.monotonic() + settings.reconcile_seconds

    async def on_start(self) -> None:
        """The engines are connected to when they are there."""
        await self._database.open()

    async def on_stop(self) -> None:
        """Whatever is under way is taken up by another worker, or by this one when it is back."""
        if self._clickhouse is not None:
            with suppress(OSError):
                await self._clickhouse.close()
        await self._redis.aclose()
        await self._database.close()

    @Service.task  # type: ignore[untyped-decorator]
    async def _run(self) -> None:
        while not self.should_stop:
            try:
                if await self._look():
                    continue
            except Unavailable as away:
                _log.warning("operations wait", reason=str(away))
            await self.sleep(_LOOK_SECONDS)

    async def _look(self) -> bool:
        """Do the next thing that is due; whether there was one."""
        every = await self._epochs.all()
        mine = kept_by(self._writers.keys(), every)
        task = await self._operations.take([(epoch.epoch, at) for epoch, at in mine], self._holder)
        if task is not None:
            await self._hold(task, every)
        elif mine and time.monotonic() >= self._due:
            await self._reconcile(mine, every)
        else:
            return False
        return True

    async def _hold(self, task: Task, epochs: list[Epoch]) -> None:
        """Work on a part and say how far it is, until it ends or has become another's."""
        progress = Progress()
        work = asyncio.create_task(self._work(task, epochs, progress), name=f"operation-{task.operation}")
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=_TELL_SECONDS)
                if self.should_stop or not await self._operations.tell(task, *progress):
                    return
            try:
                await self._operations.end(task, "done", await work)
            except Halt as halt:
                await self._operations.end(task, "failed", {"error": str(halt)})
            except Unavailable:
                raise
            except Exception as error:  # a mistake in the program must not be tried again for ever
                _log.exception("an operation failed", operation=task.operation, kind=task.kind)
                await self._operations.end(task, "failed", {"error": repr(error)})
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _work(self, task: Task, epochs: list[Epoch], progress: Progress) -> dict[str, Any]:
        (epoch,) = (epoch for epoch in epochs if epoch.epoch == task.epoch)
        async with self._stores(epoch, task.partition, epochs) as stores:
            shadow = Shadow(self._clickhouse, self._settings.clickhouse, task)
            try:
                writer = self._writers.get((task.epoch, task.partition))
                return await carry_out(task, stores, shadow, self._newest(epochs[-1]), writer, progress)
            finally:
                await shadow.close()

    async def _reconcile(self, mine: list[tuple[Epoch, int]], epochs: list[Epoch]) -> None:
        began = time.monotonic()
        drift = dict.fromkeys(PAIRS, 0)
        for epoch, partition in mine:
            async with self._stores(epoch, partition, epochs) as stores:
                findings, _ = await ledger_findings(stores)
                findings += await state_findings(stores) if stores.state is not None else []
                findings.append((await rollup_findings(stores))[0])
            for finding in findings:
                drift[finding.pair] += finding.drift
                _warn(finding, epoch, partition)
        for pair, number in drift.items():
            metrics.DRIFT.labels(pair).set(number)
        now = time.monotonic()
        metrics.RECONCILED.set_to_current_time()
        self._due = now + max(self._settings.reconcile_seconds, _SHARE * (now - began))

    @asynccontextmanager
    async def _stores(self, epoch: Epoch, partition: int, epochs: list[Epoch]) -> AsyncIterator[Stores]:
        """Raises Unavailable."""
        control = await self._refreshed()
        if self._clickhouse is None:
            self._clickhouse = await connect(self._settings.clickhouse, _PATIENCE_SECONDS)
        tp = TopicPartition(topics.events(epoch.epoch), partition)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.kafka, enable_auto_commit=False, auto_offset_reset="none"
        )
        try:
            await consumer.start()
            logs = await consumer.topics()
            there = tp.topic in logs
            consumer.assign([tp] if there else [])
            yield Stores(
                epoch.epoch,
                partition,
                epoch.partitions,
                PartitionLog(consumer, tp.topic, partition) if there else None,
                self._ledger(epoch, partition),
                PartitionState(self._redis, epoch.epoch, partition) if epoch.epoch == epochs[-1].epoch else None,
                RollupTables(self._clickhouse),
                control,
                Window(self._settings.bucket_ms),
                [one for one in epochs if one.epoch < epoch.epoch and topics.events(one.epoch) in logs],
            )
        except (KafkaError, OSError) as error:
            raise Unavailable(f"Kafka: {error!r}") from error
        finally:
            await consumer.stop()

    async def _refreshed(self) -> ControlPlane:
        if self._control is None:
            self._control = ControlPlane(CatalogView(self._database), SubscriptionView(self._database), SystemClock())
        await self._control.refresh()
        return self._control

    def _ledger(self, epoch: Epoch, partition: int) -> PartitionLedger:
        return PartitionLedger(self._clickhouse, Inserts(self._clickhouse), epoch.epoch, partition, epoch.partitions)

    def _newest(self, newest: Epoch) -> Newest:
        return Newest(
            newest,
            lambda partition: PartitionState(self._redis, newest.epoch, partition),
            lambda partition: self._ledger(newest, partition),
        )


def _warn(finding: Finding, epoch: Epoch, partition: int) -> None:
    if finding.drift:
        _log.error(
            "drift",
            pair=finding.pair,
            drift=finding.drift,
            samples=finding.samples,
            epoch=epoch.epoch,
            partition=partition,
        )
