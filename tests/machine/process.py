"""A worker process with one writer: its own knowledge, its own memory."""

from __future__ import annotations

import asyncio
from typing import Any

from metering.clock import SECOND_MS, Clock
from metering.errors import Unavailable
from streams.control import ControlPlane
from streams.crossings import Outbox
from streams.epochs import EpochTurn
from streams.settings import Settings
from streams.state import PartitionState
from streams.writer import PartitionWriter
from tests.machine.control_twin import Append, CatalogsTwin, EpochsTwin, Plane, ProducerTwin, SubscriptionsTwin
from tests.machine.ledger_twin import LedgerTwin, Tables
from tests.machine.log_twin import Log, LogTwin
from tests.machine.redis_twin import RedisStore, RedisTwin
from tests.machine.stepped import Stepped

_KEEPS_UP_MS = 3 * SECOND_MS


class Process(Stepped):
    """Runs PartitionWriter over the twins. `step` lets it make one call."""

    def __init__(
        self,
        at: tuple[int, int],
        partitions: int,
        batch: int,
        stores: tuple[RedisStore, Tables, Log, Plane],
        clock: Clock,
        append: Append,
    ) -> None:
        super().__init__(at)
        redis, tables, self.log, plane = stores
        self._clock = clock
        self._heard = clock.now_ms()
        client: Any = RedisTwin(redis, self.gate)
        ledger: Any = LedgerTwin(tables, self.gate, clock.now_ms, at, partitions)
        self.log_twin = LogTwin(self.log, self.gate)
        log: Any = self.log_twin
        views: tuple[Any, Any] = (CatalogsTwin(plane), SubscriptionsTwin(plane))
        self.control = ControlPlane(*views, clock)
        state = PartitionState(client, *at)
        epochs: Any = EpochsTwin(plane, self.gate)
        producer = ProducerTwin(append, self.gate, lambda: OSError("gone"))
        self.writer = PartitionWriter(
            *at,
            partitions,
            log,
            state,
            ledger,
            self.control,
            EpochTurn(at[0], epochs, ledger, client, producer, lambda epoch: True),
            Outbox(state, producer),
            Settings("", "", "", "", batch_records=batch, check_seconds=0.0),
            self._probe,
        )
        self.run(self.writer.run())

    async def _probe(self, effect: str) -> None:
        await self.gate.through(f"effect {effect}", lambda: None, lambda: Unavailable("never"))

    async def before(self, call: str) -> None:
        """What the worker does once a second, before the writer meets records that are newer."""
        if call == "read" and self._clock.now_ms() - self._heard > _KEEPS_UP_MS:
            await self.refresh()

    async def refresh(self) -> None:
        """Hear of new catalogs and terms, as LedgerWriter._refresh_control."""
        self._heard = self._clock.now_ms()
        for tenant in (await self.control.refresh()).terms:
            if self.writer.owns(tenant):
                self.writer.recount_tenant(tenant)

    @property
    def halted(self) -> str | None:
        """Why it stopped for good."""
        failure = self.writer.vitals.failure() or ""
        return failure if failure.startswith("halted") else None

    @property
    def idle(self) -> bool:
        """Whether it has applied all there is."""
        return self.writer.applied_offset == self.log.end - 1

    async def stop(self) -> None:
        """SIGTERM: a wait is broken off, a batch goes on."""
        await self.settle()
        self.writer.stop()
        await asyncio.sleep(0)
