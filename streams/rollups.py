"""Rollups: the hour windows that the records of one partition touch, computed from the ledger (ledger.md, "Rollups").

Which windows those are stands in usage_frames. A window waits until it has sealed and until nobody has touched it for a
while. All of it is repeatable: whatever is done twice, by one worker or by two, writes the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from metering.clock import HOUR_MS
from metering.rollup import HourWindow, Touch, is_sealed, revision_of
from streams import metrics
from streams.inserts import translated

_AT_ONCE = 50
"""Windows in one insert. Those of busy tenants hold millions of events each."""
_RECORDS = 200_000
"""Looked through at once."""


class Prefix(NamedTuple):
    """How many records follow each other without a gap, and the partition clock after the last of them (ms)."""

    length: int
    clock: int


class RollupTables:
    """Rollups in ClickHouse. Every method raises Unavailable when it fails."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def compute(self, windows: Sequence[HourWindow], revision: int) -> None:
        """Compute windows from the rows up to `revision`, up to which the ledger is complete. Repeatable.

        Rows first, then the windows that vouch for them: a crash in between leaves rows that count for nothing yet, or
        that stand for the same events as the ones they replace, and some later.
        """
        ordered = sorted(windows, key=lambda window: (window.hour, window.tenant))
        for first in range(0, len(ordered), _AT_ONCE):
            some = ordered[first : first + _AT_ONCE]
            hours = [window.hour for window in some]
            span = {"start": min(hours) * HOUR_MS, "end": (max(hours) + 1) * HOUR_MS}
            await self._do("rollup_compute", windows=some, revision=revision, **span)
            await self._do("rollup_vouch", windows=some, revision=revision)

    async def compute_anew(self, windows: Sequence[HourWindow], revision: int) -> None:
        """Compute windows whose rows are wrong. Until it is done they may say less."""
        for first in range(0, len(windows), _AT_ONCE):
            some = windows[first : first + _AT_ONCE]
            await self._do("rollup_forget", windows=some)
            await self.compute(some, revision)

    async def mark(self, epoch: int, partition: int) -> int:
        """Up to which record of a partition every window was computed; -1 if none was."""
        return int((await self._rows("rollup_mark", epoch=epoch, partition=partition))[0][0])

    async def set_mark(self, epoch: int, partition: int, offset: int) -> None:
        """Remember that every window up to record `offset` was computed."""
        await self._do("rollup_set_mark", epoch=epoch, partition=partition, offset=offset)

    async def prefix(self, epoch: int, partition: int, first: int) -> Prefix:
        """The records from offset `first` on, of the next 200,000."""
        rows = await self._rows("rollup_prefix", epoch=epoch, partition=partition, next=first, most=_RECORDS)
        return Prefix(*rows[0])

    async def touched(self, epoch: int, partition: int, first: int, last: int) -> list[tuple[HourWindow, int]]:
        """The windows that records `first` to `last` touch, each with the first record to do so."""
        rows = await self._rows("rollup_touched", epoch=epoch, partition=partition, next=first, upto=last)
        return [(HourWindow(tenant, hour), offset) for tenant, hour, offset in rows]

    async def _do(self, name: str, **parameters: Any) -> None:
        async with translated():
            await self._client.command(_query(name), parameters=parameters)

    async def _rows(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        async with translated():
            return list((await self._client.query(_query(name), parameters=parameters)).result_rows)


class PartitionRollups:
    """Follows the frames of one partition of one epoch. What it remembers can be lost: it begins again at its mark."""

    def __init__(
        self, tables: RollupTables, epoch: int, partition: int, settle_seconds: float, durable_seconds: float
    ) -> None:
        """A touched window is left alone until it has settled. A mark names only what was computed `durable_seconds`
        ago: what is younger may not yet be on ClickHouse's disk, and a power cut could take rows and leave the mark."""
        self._tables = tables
        self._at = (epoch, partition)
        self._settle = settle_seconds
        self._durable = durable_seconds
        self._touched: dict[HourWindow, Touch] = {}
        self._marked: int | None = None
        self._scanned = -1
        self._clock = 0
        self._candidate: tuple[float, int] | None = None
        self.finished = False
        """Whether the partition has ended and its mark says that all was computed: nothing more is to be looked for."""

    async def look(self, now: float, ended: bool) -> None:
        """Compute what is due at `now`, seconds of any one clock. `ended`: the partition gets no more records, and
        another clock goes on in its place: nothing is waited for. Raises Unavailable: then begin anew."""
        if self._marked is None:
            self._marked = self._scanned = await self._tables.mark(*self._at)

        # 1. What was touched? Reads only.
        await self._scan(now)

        # 2. Compute what is due. A crash after it leaves windows that are computed once more, behind the same mark.
        due = [
            window
            for window, touch in self._touched.items()
            if ended or (is_sealed((window.hour + 1) * HOUR_MS, self._clock) and touch.has_settled(now, self._settle))
        ]
        if due:
            await self._tables.compute(due, revision_of(self._at[0], self._scanned))
            for window in due:
                del self._touched[window]
            metrics.ROLLUP_WINDOWS.inc(len(due))

        # 3. Remember how far that is done.
        done = min((touch.offset - 1 for touch in self._touched.values()), default=self._scanned)
        await self._keep_mark(now, done)
        self.finished = ended and self._marked == done

    async def _scan(self, now: float) -> None:
        """Note what the records behind the last scan touch, up to the first gap."""
        length = _RECORDS
        while length == _RECORDS:
            length, clock = await self._tables.prefix(*self._at, self._scanned + 1)
            if length == 0:
                return
            last = self._scanned + length
            for window, offset in await self._tables.touched(*self._at, self._scanned + 1, last):
                before = self._touched.get(window, Touch(offset, now, now))
                self._touched[window] = before._replace(lately=now)
            self._scanned = last
            self._clock = max(self._clock, clock)

    async def _keep_mark(self, now: float, done: int) -> None:
        assert self._marked is not None
        if self._candidate is not None:
            since, candidate = self._candidate
            if now - since < self._durable:
                return
            if candidate > self._marked:
                await self._tables.set_mark(*self._at, candidate)
                self._marked = candidate
        self._candidate = (now, done)


@cache
def _query(name: str) -> str:
    return resources.files("streams").joinpath(f"clickhouse/queries/{name}.sql").read_text()
