"""Retention as a service: looks now and then for payloads that are to be gone. One process of a system does it."""

from __future__ import annotations

import time
from collections.abc import Set
from contextlib import suppress
from typing import Any

import structlog
from mode import Service

from metering.clock import SystemClock
from metering.errors import Unavailable
from service.health import Health
from streams.ledger import connect
from streams.retention import Retention, cutoffs
from streams.settings import Settings
from tenancy import tenants
from tenancy.database import Database
from tenancy.epochs import Epochs

_log = structlog.get_logger(__name__)

_PATIENCE_SECONDS = 3600
"""For the rewrite of a month."""
_STUCK_SECONDS = 86_400.0


class RetentionWorker(Service):  # type: ignore[misc]
    """Works where the writer of partition 0 of the newest epoch does; `serving` as in RollupWorker."""

    def __init__(self, settings: Settings, health: Health, serving: Set[tuple[int, int]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._settings = settings
        self._serving = serving
        self._database = Database(settings.sql)
        self._epochs = Epochs(self._database)
        self._client: Any = None
        self._looked = time.monotonic()
        health.add("retention", self._failure)

    async def on_start(self) -> None:
        """ClickHouse is connected to when it is there."""
        await self._database.open()

    async def on_stop(self) -> None:
        """A rewrite that is under way goes on in ClickHouse."""
        if self._client is not None:
            with suppress(OSError):
                await self._client.close()
        await self._database.close()

    @Service.task  # type: ignore[untyped-decorator]
    async def _run(self) -> None:
        while not self.should_stop:
            await self.sleep(self._settings.retention_seconds)
            try:
                newest = await self._epochs.current()
                if newest is not None and (newest.epoch, 0) in self._serving:
                    await self._look()
                self._looked = time.monotonic()
            except Unavailable as away:
                _log.warning("retention waits", reason=str(away))

    async def _look(self) -> None:
        if self._client is None:
            self._client = await connect(self._settings.clickhouse, _PATIENCE_SECONDS)
        days = await tenants.payload_days(self._database)
        due = cutoffs(days, self._settings.retention_days, SystemClock().now_ms())
        if rewrites := await Retention(self._client).clear(due, lambda: bool(self.should_stop)):
            _log.info("payloads cleared", rewrites=rewrites)

    def _failure(self) -> str | None:
        silent = time.monotonic() - self._looked
        return f"no look went through for {silent:.0f} s" if silent > _STUCK_SECONDS else None
