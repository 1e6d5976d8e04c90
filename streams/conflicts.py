"""Conflicts: resends that say something else than what was counted. Each becomes a dead letter with both bodies.

Nothing waits for them. A record that repeats events is read from the log once more, some time after it was applied, and
its events are compared with the rows that they repeat. Whatever is done twice writes the same letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from metering.clock import HOUR_MS
from metering.event import WRITER_LIMITS, UsageEvent, parse
from metering.position import version_of
from streams import metrics
from streams.control import ControlPlane
from streams.dedupe import Verdict
from streams.frame import Dead, Entries, Frame, MissingCatalog, Record, decode
from streams.ledger import CountedBody, PartitionLedger
from streams.log import PartitionLog
from streams.rows import dead_blocks

_AT_ONCE = 20
_COMPARED = ("type", "time", "subject", "data", "extensions")

Name = tuple[str, str]
"""(source, id)"""


class PartitionConflicts:
    """Follows one partition of one epoch from its mark on."""

    def __init__(
        self,
        epoch: int,
        partition: int,
        partitions: int,
        log: PartitionLog,
        ledger: PartitionLedger,
        control: ControlPlane,
    ) -> None:
        self._epoch = epoch
        self._partition = partition
        self._partitions = partitions
        self._log = log
        self._ledger = ledger
        self._control = control
        self._compared: int | None = None

    async def look(self, applied: int) -> bool:
        """Compare some of the records up to `applied`; whether there were any. Raises Unavailable."""
        if self._compared is None:
            self._compared = await self._ledger.conflict_mark()
        repeating = await self._ledger.repeating(self._compared, applied, _AT_ONCE)
        for offset, clock in repeating:
            record = await self._log.record_at(offset)
            if record is not None:  # else the broker has trimmed it: nothing is left to compare
                await self._compare(record, clock)
        reached = repeating[-1][0] if len(repeating) == _AT_ONCE else max(applied, self._compared)
        if repeating:
            await self._ledger.set_conflict_mark(reached)
        self._compared = reached
        return bool(repeating)

    async def _compare(self, record: Record, clock: int) -> None:
        frame = await self._decoded(record, clock)
        entries = frame.entries
        if not entries:
            return
        names = list(dict.fromkeys(zip(entries.sources, entries.ids, strict=True)))
        hours = sorted({time // HOUR_MS for time in entries.times})
        counted = await self._ledger.counted_bodies(frame.tenant, names, hours)
        if missing := [name for name in names if name not in counted]:  # counted with a time of another hour
            counted |= await self._ledger.counted_bodies(frame.tenant, missing, [])
        letters = list(_conflicts(self._epoch, frame, counted))
        if letters:
            found = Frame(frame.offset, frame.tenant, frame.clock, frame.received, frame.checksum, dead=letters)
            await self._ledger.insert_dead(dead_blocks([(found, Verdict(Entries()))], self._epoch, self._partition))
            metrics.CONFLICTS.inc(len(letters))

    async def _decoded(self, record: Record, clock: int) -> Frame:
        while True:
            try:
                return decode(record, clock, self._partition, self._partitions, self._control.catalog)
            except MissingCatalog as missing:
                await self._control.fetch(missing.version)


def _conflicts(epoch: int, frame: Frame, counted: Mapping[Name, CountedBody]) -> Iterable[Dead]:
    """The events of a frame that repeat a row below their own position and say something else."""
    entries = frame.entries
    for index, line in enumerate(entries.lines):
        row = counted.get((entries.sources[index], entries.ids[index]))
        if row is None or row.version <= version_of(epoch, frame.offset, line) or not row.event:
            continue
        raw = entries.raws[index]
        if raw == row.event:
            continue
        differing = _differing(parse(row.event, WRITER_LIMITS), parse(raw, WRITER_LIMITS))
        if differing:
            at = f"epoch {row.epoch}, partition {row.partition}, offset {row.offset}, line {row.line}"
            detail = f"another {', '.join(differing)} than what was counted at {at}"
            body = msgspec.json.encode({"counted": msgspec.Raw(row.event), "resent": msgspec.Raw(raw)})
            yield Dead(line, "conflict", detail, body)


def _differing(first: UsageEvent, second: UsageEvent) -> Sequence[str]:
    """Which attributes differ in what they mean; how they are written does not matter."""
    return [name for name in _COMPARED if getattr(first, name) != getattr(second, name)]
