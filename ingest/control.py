"""What the gateway knows of the control plane: the catalog in force, the current epoch, which tenants exist.

Asked for each second. While SQL is away the last knowledge stays in force; readiness says when it is too old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from metering.clock import SECOND_MS, Clock
from metering.errors import Unavailable
from metering.meter import CompiledCatalog
from tenancy import tenants
from tenancy.catalogs import CatalogView
from tenancy.database import Database
from tenancy.epochs import Epoch, Epochs
from tenancy.keys import STALE_SECONDS

_log = structlog.get_logger(__name__)
_POLL_SECONDS = 1.0
_STALE_MS = int(STALE_SECONDS) * SECOND_MS
_FORGET_MS = 5 * SECOND_MS
_MOST_NAMES = 100_000


class Control:
    """One process's copy. `run()` keeps it fresh."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._catalogs = CatalogView(database)
        self._epochs = Epochs(database)
        self._epoch: Epoch | None = None
        self._fresh_at: int | None = None
        self._names: dict[str, bool] = {}
        self._missing_since = 0

    def epoch(self) -> Epoch | None:
        """The newest epoch as of the last poll."""
        return self._epoch

    def catalog(self, now: int) -> CompiledCatalog:
        """The catalog in force at `now` (ms UTC). Raises Unavailable before the first poll succeeded."""
        if self._fresh_at is None:
            raise Unavailable("the catalog is not known yet")
        return self._catalogs.current(now)

    @property
    def tenants(self) -> Mapping[str, bool]:
        """Tenant names met so far → whether they exist."""
        return self._names

    async def look_up(self, names: Iterable[str]) -> None:
        """Learn whether these tenants exist; `tenants` has them then. Raises Unavailable without SQL."""
        try:
            for name in names:
                self._names[name] = await tenants.get(self._database, name) is not None
        except Unavailable as error:
            raise Unavailable("tenants cannot be looked up at the moment") from error

    def problem(self) -> str | None:
        """Why its knowledge is not good enough to work with; None when it is."""
        if self._fresh_at is None:
            return "catalog and epoch are not known yet"
        age = self._clock.now_ms() - self._fresh_at
        return f"SQL was last reached {age // SECOND_MS} s ago" if age > _STALE_MS else None

    async def refresh(self) -> None:
        """Ask once. Raises Unavailable without SQL."""
        await self._catalogs.refresh()
        self._epoch = await self._epochs.current()
        now = self._clock.now_ms()
        self._fresh_at = now
        if now - self._missing_since > _FORGET_MS:
            self._missing_since = now
            kept = {name: True for name, exists in self._names.items() if exists}
            self._names = kept if len(kept) <= _MOST_NAMES else {}

    async def run(self) -> None:
        """Refresh each second, until cancelled."""
        reached = True
        while True:
            try:
                await self.refresh()
                reached = True
            except Unavailable as error:
                if reached:
                    _log.warning("control plane not reached", error=str(error))
                reached = False
            except Exception:
                _log.exception("control plane not understood")
            await asyncio.sleep(_POLL_SECONDS)
