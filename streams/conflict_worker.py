"""Conflicts as a service: compares duplicates with what they repeat while there is nothing better to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from metering import topics
from metering.clock import SystemClock
from metering.errors import Unavailable
from streams.conflicts import PartitionConflicts
from streams.control import ControlPlane
from streams.inserts import Inserts
from streams.ledger import PartitionLedger, connect
from streams.log import PartitionLog
from streams.settings import Settings
from streams.writer import PartitionWriter
from tenancy.catalogs import CatalogView
from tenancy.database import Database
from tenancy.epochs import Epoch, Epochs
from tenancy.subscriptions import SubscriptionView

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_BUSY_RECORDS = 100
_SHARE = 10
"""It rests this many times as long as it was at work."""

At = tuple[int, int]
"""(epoch, partition)"""


class ConflictWorker(Service):  # type: ignore[misc]
    """One for a process. It rests while a partition lags, and always most of the time."""

    def __init__(self, settings: Settings, writers: Mapping[At, PartitionWriter], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._settings = settings
        self._writers = writers
        self._database = Database(settings.sql)
        self._epochs = Epochs(self._database)
        self._control: ControlPlane | None = None
        self._clickhouse: Any = None
        self._consumer: Any = None
        self._partitions: dict[At, PartitionConflicts] = {}

    async def on_start(self) -> None:
        """The engines are connected to when they are there."""
        await self._database.open()

    async def on_stop(self) -> None:
        """Whatever is under way is compared again."""
        await self._let_go()
        if self._clickhouse is not None:
            with suppress(OSError):
                await self._clickhouse.close()
        await self._database.close()

    @Service.task  # type: ignore[untyped-decorator]
    async def _run(self) -> None:
        while not self.should_stop:
            began = time.monotonic()
            try:
                await self._look()
            except (Unavailable, KafkaError, OSError) as away:
                # A ClickHouse that was away may have come back older: trust only the marks it has.
                await self._let_go()
                _log.warning("conflicts wait", reason=str(away))
            await self.sleep(max(_LOOK_SECONDS, _SHARE * (time.monotonic() - began)))

    async def _look(self) -> None:
        """Some records of each partition of the newest epoch."""
        newest = await self._epochs.current()
        if newest is None:
            return
        mine = {at for at in self._writers if at[0] == newest.epoch}
        if mine != self._partitions.keys():
            await self._let_go()
            await self._take(newest, mine)
        if self._control is not None:
            await self._control.refresh()
        for at, conflicts in self._partitions.items():
            writer = self._writers.get(at)
            if writer is not None and not writer.vitals.failure() and (writer.vitals.lag or 0) < _BUSY_RECORDS:
                await conflicts.look(writer.applied_offset)

    async def _take(self, epoch: Epoch, mine: set[At]) -> None:
        if not mine:
            return
        if self._clickhouse is None:
            self._clickhouse = await connect(self._settings.clickhouse)
        if self._control is None:
            self._control = ControlPlane(CatalogView(self._database), SubscriptionView(self._database), SystemClock())
        await self._control.refresh()
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.kafka,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=1024 * 1024,
        )
        await self._consumer.start()
        topic = topics.events(epoch.epoch)
        assigned = [TopicPartition(topic, partition) for _, partition in sorted(mine)]
        self._consumer.assign(assigned)
        for tp in assigned:
            self._consumer.seek(tp, 0)
            self._consumer.pause(tp)
        inserts = Inserts(self._clickhouse)
        for number, partition in mine:
            at = (number, partition, epoch.partitions)
            log = PartitionLog(self._consumer, topic, partition)
            ledger = PartitionLedger(self._clickhouse, inserts, *at)
            self._partitions[number, partition] = PartitionConflicts(*at, log, ledger, self._control)

    async def _let_go(self) -> None:
        self._partitions.clear()
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            with suppress(TimeoutError, KafkaError, OSError):
                await asyncio.wait_for(consumer.stop(), 3)
