"""Rollups as a service: looks now and then for windows to compute, of the partitions that this process writes."""

from __future__ import annotations

import time
from collections.abc import Set
from contextlib import suppress
from typing import Any

import structlog
from mode import Service

from metering.errors import Unavailable
from service.health import Health
from streams import metrics
from streams.epochs import kept_by
from streams.ledger import connect
from streams.rollups import PartitionRollups, RollupTables
from streams.settings import Settings
from tenancy.database import Database
from tenancy.epochs import Epochs

_log = structlog.get_logger(__name__)

_PATIENCE_SECONDS = 600
"""For one insert: fifty windows of busy tenants."""
_DURABLE_SECONDS = 600.0
_STUCK_SECONDS = 900.0


class RollupWorker(Service):  # type: ignore[misc]
    """One for a process. Two that compute the same window are harmless; `serving` only divides the work.

    `serving` holds the (epoch, partition) whose writers have recovered: while a writer may have to write rows again,
    nothing is computed from them.
    """

    def __init__(self, settings: Settings, health: Health, serving: Set[tuple[int, int]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._settings = settings
        self._serving = serving
        self._database = Database(settings.sql)
        self._epochs = Epochs(self._database)
        self._client: Any = None
        self._partitions: dict[tuple[int, int], PartitionRollups] = {}
        self._looked = time.monotonic()
        health.add("rollups", self._failure)

    async def on_start(self) -> None:
        """ClickHouse is connected to when it is there."""
        await self._database.open()

    async def on_stop(self) -> None:
        """Nothing has to be finished: whatever is under way is done again."""
        if self._client is not None:
            with suppress(OSError):
                await self._client.close()
        await self._database.close()

    @Service.task  # type: ignore[untyped-decorator]
    async def _run(self) -> None:
        while not self.should_stop:
            await self.sleep(self._settings.rollup_seconds)
            try:
                if self._client is None:
                    self._client = await connect(self._settings.clickhouse, _PATIENCE_SECONDS)
                with metrics.ROLLUP_SECONDS.time():
                    await self._look()
                self._looked = time.monotonic()
            except Unavailable as away:
                # A ClickHouse that was away may have come back older: trust only the marks it has.
                self._partitions.clear()
                _log.warning("rollups wait", reason=str(away))

    async def _look(self) -> None:
        mine = {
            (epoch.epoch, partition): epoch.status == "closed"
            for epoch, partition in kept_by(self._serving, await self._epochs.all())
        }
        self._partitions = {at: rollups for at, rollups in self._partitions.items() if at in mine}
        tables = RollupTables(self._client)
        for at, ended in mine.items():
            rollups = self._partitions.get(at)
            if rollups is None:
                rollups = PartitionRollups(tables, *at, self._settings.rollup_settle_seconds, _DURABLE_SECONDS)
                self._partitions[at] = rollups
            if not rollups.finished:
                await rollups.look(time.monotonic(), ended)
            self._looked = time.monotonic()

    def _failure(self) -> str | None:
        silent = time.monotonic() - self._looked
        return f"no look went through for {silent:.0f} s" if silent > _STUCK_SECONDS else None
