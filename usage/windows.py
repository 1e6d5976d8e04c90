"""What was used in each hour, day or month of a time zone: from rollups, and from the ledger what they don't know.

That is hours that a local window cuts, and hours that records have touched since they were computed or that never were:
open ones and late ones. So the answer is that of the ledger, however far the rollups are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from metering.catalog import Meter
from metering.clock import HOUR_MS
from metering.period import Period
from metering.rollup import cut_hours, is_sealed, revision_of
from usage.aggregates import Aggregates, of_nothing
from usage.ask import ask, query
from usage.reader import Selection

_MARKS = query("rollup_marks")
_TOUCHED = query("touched")
_REVISIONS = query("revisions")
_WINDOWS = query("windows")


class Place(NamedTuple):
    """How far the ledger was complete when it was read: a record, and the partition clock after it in ms UTC."""

    epoch: int
    partition: int
    offset: int
    clock: int


class Freshness(NamedTuple):
    """What has to be known of a tenant before its rollups are read.

    `place` is None before its partition's first record, and while records are missing that were there. `stale`: the
    hours (since 1970) whose rollups are behind, or not there yet.
    """

    place: Place | None
    stale: frozenset[int]

    def is_sealed(self, period: Period) -> bool:
        """Whether the period's last hour has sealed. A late event may still change it."""
        return self.place is not None and is_sealed(period.end, self.place.clock)


class Page(NamedTuple):
    """Where rows begin: behind this value of the window that begins at `start`, with its first one if it is None."""

    start: int
    value: str | None
    limit: int


class WindowRow(NamedTuple):
    """One meter over one window, for one value of the dimension asked for. `total` as in UsageReader.totals."""

    period: Period
    value: str
    total: str | None


class WindowReader:
    """Reads rollups and ledger. Every method raises Unavailable when ClickHouse does not answer."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def freshness(self, tenant: str, places: Sequence[tuple[int, int]]) -> Freshness:
        """`places`: the (epoch, partition) where the tenant's records are, the oldest first."""
        if not places:
            return Freshness(None, frozenset())
        marks = {(epoch, at): mark for epoch, at, mark in await ask(self._client, _MARKS, places=list(places))}
        behind = await asyncio.gather(*(self._behind(tenant, *at, marks.get(at, 0)) for at in places))
        place: Place | None = None
        touched: dict[int, int] = {}
        for records, at, hours in behind:
            place = at if records else place
            touched |= hours
        found = await ask(self._client, _REVISIONS, tenant=tenant, hours=list(touched)) if touched else []
        computed: dict[int, int] = dict(found)
        stale = frozenset(hour for hour, revision in touched.items() if computed.get(hour, -1) < revision)
        return Freshness(place, stale)

    async def _behind(
        self, tenant: str, epoch: int, partition: int, first: int
    ) -> tuple[int, Place | None, dict[int, int]]:
        """How many records there are from `first` on, how far they are complete, and which hours the tenant's touch:
        the revision that their rollups must have."""
        parameters = {"tenant": tenant, "epoch": epoch, "partition": partition, "first": first}
        ((records, last, clock, hours, offsets),) = await ask(self._client, _TOUCHED, **parameters)
        complete = records == last - first + 1
        touched = {hour: revision_of(epoch, offset) for hour, offset in zip(hours, offsets, strict=True)}
        return records, Place(epoch, partition, last, clock) if complete else None, touched

    async def rows(
        self,
        tenant: str,
        name: str,
        meter: Meter,
        periods: Sequence[Period],
        fresh: Freshness,
        page: Page,
        group_by: str | None,
        selection: Selection,
    ) -> list[WindowRow]:
        """The rows of `periods`, which follow each other without a gap, in their order and then by value.

        Without `group_by` there is one for each period, else one for each value that a period has.
        """
        first, end = periods[0].start, periods[-1].end
        hours = range(first // HOUR_MS, -(-end // HOUR_MS))
        found = await ask(
            self._client,
            _WINDOWS,
            tenant=tenant,
            meter=name,
            starts=[period.start for period in periods],
            start=first,
            end=end,
            hours=sorted(cut_hours(periods) | {hour for hour in fresh.stale if hour in hours}),
            group_by=group_by or "",
            after=page.start - (page.value is None),
            after_value=page.value or "",
            limit=page.limit,
            **selection.parameters(),
        )
        results = {(start, row[0]): Aggregates(*row).result(meter.aggregation, meter.scale) for start, *row in found}
        if group_by is None:
            nothing = of_nothing(meter.aggregation)
            return [WindowRow(period, "", results.get((period.start, ""), nothing)) for period in periods]
        by_start: Mapping[int, Period] = {period.start: period for period in periods}
        return [WindowRow(by_start[start], value, total) for (start, value), total in results.items()]
