"""Keeps account of what usage has burnt of grants: reads closed periods from the ledger, for gates to be told (ADR 21).

A tenant with grants is looked at when something about it changed, a moment after a period of it has turned, and again
while late events may come: seconds after the turn, then at ever longer intervals, as they become rare.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from metering import quantity
from metering.catalog import Meter
from metering.clock import HOUR_MS, SECOND_MS, Clock
from metering.errors import Unavailable
from metering.grants import CONSUMED, ClosedPeriod, DatedLimit, burn_down, closed_periods, limit_at
from metering.partition import partition_of
from metering.period import Period, period_of
from tenancy import changes, grants
from tenancy.catalogs import Catalogs, CatalogVersion
from tenancy.database import Database
from tenancy.epochs import Epochs
from tenancy.grants import GrantRow
from tenancy.subscriptions import Subscription, history, in_force, terms_of
from usage.reader import EVERYTHING
from usage.windows import Page, WindowReader

_log = structlog.get_logger(__name__)
_POLL_SECONDS = 0.5
_SETTLE_MS = 3 * SECOND_MS
"""After a period's end: until the writer has counted what came in it."""
_SOONEST_MS, _LATEST_MS = 5 * SECOND_MS, HOUR_MS
_AT_ONCE = 1000


class Burns:
    """One per system is enough; several come to the same."""

    def __init__(self, database: Database, windows: WindowReader, clock: Clock) -> None:
        self._database = database
        self._windows = windows
        self._clock = clock
        self._versions: list[CatalogVersion] = []
        self._number = -1
        self._due: dict[str, int] = {}
        self._behind: set[str] = set()
        self.trouble: str | None = None

    async def run(self) -> None:
        """Keep account until cancelled; `trouble` says what it waits for."""
        while True:
            try:
                await self.look()
                self.trouble = self.trouble if self._behind else None
            except Unavailable as error:
                if self.trouble is None:
                    _log.warning("grants are not carried over", reason=str(error))
                self.trouble = str(error)
            except Exception as error:
                _log.exception("grants cannot be looked at")
                self.trouble = repr(error)
            await asyncio.sleep(_POLL_SECONDS)

    async def look(self) -> None:
        """Look at the tenants whose time has come. Raises Unavailable; the next call goes on with the others."""
        now = self._clock.now_ms()
        async with self._database.transaction() as connection:
            newest, changed = await changes.since(connection, self._number)
        if newest != self._number:
            living = await grants.living(self._database, now)
            anew = self._number < 0 or newest < self._number or None in changed
            self._due |= dict.fromkeys(living if anew else living & changed, now)
            self._number = newest
        for tenant in sorted(name for name, due in self._due.items() if due <= now):
            try:
                again = await self._burn(tenant, now)
            except Unavailable:
                self._due[tenant] = now + _SOONEST_MS
                self._behind.add(tenant)
                raise
            except Exception:  # a mistake about one must not hold up the others
                _log.exception("grants cannot be looked at", tenant=tenant)
                again = now + _LATEST_MS
            self._behind.discard(tenant)
            if again is None:
                del self._due[tenant]
            else:
                self._due[tenant] = again

    async def _burn(self, tenant: str, now: int) -> int | None:
        """Account for one tenant's grants; when to look again, None: not before something changes."""
        own = (await grants.of(self._database, tenant)).get(tenant, [])
        subscribed = (await history(self._database, tenant)).get(tenant, [])
        self._versions += await Catalogs(self._database).after(self._versions[-1].version if self._versions else 0)
        again: list[int] = []
        for feature in sorted({row.feature for row in own if row.grant.until > now}):
            rows = [row for row in own if row.feature == feature]
            again.append(await self._burn_feature(tenant, feature, rows, subscribed, now))
        return min(again, default=None)

    async def _burn_feature(
        self, tenant: str, feature: str, rows: list[GrantRow], subscribed: list[Subscription], now: int
    ) -> int:
        limits, terms = dated_limits(feature, subscribed, self._versions), terms_of(subscribed)
        change = min((one.since for one in limits if one.since > now), default=now + _LATEST_MS)
        ruling = limit_at(limits, now)
        if ruling is None or ruling.kind is None:
            return change
        start, end = period_of(ruling.kind, now, terms)
        known = [row for row in rows if row.since < start]
        if not known:
            return min(change, end + _SETTLE_MS)
        closed = closed_periods(limits, terms, min(row.since for row in known), now)
        used = await self._used(tenant, feature, closed)
        rests = burn_down([row.grant for row in rows], closed, used)
        await grants.keep(self._database, tenant, {row.id: rests[row.id] for row in known}, start)
        later = now + min(max((now - start) // 4, _SOONEST_MS), _LATEST_MS)
        return min(change, end + _SETTLE_MS, later)

    async def _used(self, tenant: str, feature: str, closed: Sequence[ClosedPeriod]) -> list[int]:
        """What the ledger has of each period, in nanos."""
        catalog = self._versions[-1].catalog
        name = catalog.features[feature].meter if feature in catalog.features else None
        if name is None or catalog.meters[name].aggregation not in CONSUMED:
            return [0] * len(closed)
        found: list[int] = []
        for run in _runs([one.period for one in closed]):
            found += await self._read(tenant, name, catalog.meters[name], run)
        return found

    async def _read(self, tenant: str, name: str, meter: Meter, periods: list[Period]) -> list[int]:
        epochs = await Epochs(self._database).all()
        places = [(epoch.epoch, partition_of(tenant, epoch.partitions)) for epoch in epochs]
        fresh = await self._windows.freshness(tenant, places)
        page = Page(periods[0].start, None, len(periods))
        rows = await self._windows.rows(tenant, name, meter, periods, fresh, page, None, EVERYTHING)
        return [quantity.from_text(row.total or "0") for row in rows]


def _runs(periods: list[Period]) -> list[list[Period]]:
    """Stretches without a gap, none of them longer than one question should be."""
    runs: list[list[Period]] = []
    for period in periods:
        if not runs or runs[-1][-1].end != period.start or len(runs[-1]) == _AT_ONCE:
            runs.append([])
        runs[-1].append(period)
    return runs


def dated_limits(
    feature: str, subscribed: list[Subscription], versions: Sequence[CatalogVersion]
) -> tuple[DatedLimit, ...]:
    """What plan and catalog have said of a feature's main limit, from each instant at which one of them changed."""
    found: list[DatedLimit] = []
    for at in sorted({one.since for one in subscribed} | {one.effective_from for one in versions}):
        subscription = in_force(subscribed, at)
        version = next((one for one in reversed(versions) if one.effective_from <= at), None)
        plan = version.catalog.plans.get(subscription.plan) if subscription and version else None
        right = plan.entitlements.get(feature) if plan else None
        kind = right.period if right else None
        limit = quantity.from_text(right.limit) if right and right.limit is not None else None
        if not found or (found[-1].kind, found[-1].limit) != (kind, limit):
            found.append(DatedLimit(at, kind, limit))
    return tuple(found)
