"""What voids do, in position order: they take back what stands below them, and by the void index what comes after.

Pure. What Redis and the ledger answered comes in as values; a batch's own rows are added as they are decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from metering.clock import HOUR_MS, iso
from metering.errors import InvalidEvent
from metering.event import LATE_MS, WRITER_AHEAD_MS
from metering.identity import digest
from metering.void import VOID, Target
from streams.frame import Frame

ANY_HOUR = -1
KEPT_MS = LATE_MS + WRITER_AHEAD_MS
"""How long a void waits for what it names, by the partition clock: as long as an event may be late."""

Name = tuple[str, str, str]
"""(tenant, source, id)"""

VoidIndex = dict[bytes, dict[int, int]]
"""Digest of a name → hour (or ANY_HOUR) → clock at which the void no longer waits for it."""


class NamedRow(NamedTuple):
    """A row that voids of the batch name. Instants in ms, nanos per meter; `offset` -1 for earlier epochs.

    `version` is what the ledger knows the row by; None for rows of this batch, known by their offset and line.
    """

    offset: int
    line: int
    version: int | None
    type: str
    time: int
    nanos: dict[str, int]
    standing: bool


class Voiding(NamedTuple):
    """A void at `line` of its frame takes back `row`, which bears the name it gives."""

    line: int
    target: Target
    row: NamedRow


def named_in(frames: Sequence[Frame]) -> set[Name]:
    """What the voids of a batch name."""
    return {(frame.tenant, to.source, to.id) for frame in frames for to in frame.entries.voids().values()}


def merged(index: VoidIndex, added: VoidIndex, clock: int) -> VoidIndex:
    """The entries of `index` that `added` changes, without what `clock` has ended."""
    changed = {mark: index.get(mark, {}) | hours for mark, hours in added.items()}
    left = {mark: {hour: end for hour, end in hours.items() if clock < end} for mark, hours in changed.items()}
    return {mark: hours for mark, hours in left.items() if hours}


class Voids:
    """The void index and the rows that voids name, as they stand at one position of a batch after the other."""

    def __init__(self, index: VoidIndex, rows: Mapping[Name, Iterable[NamedRow]]) -> None:
        self._index = index
        self._rows = {digest(*name): {row.time // HOUR_MS: row for row in found} for name, found in rows.items()}
        self.added: VoidIndex = {}

    def concern(self, digests: Sequence[bytes]) -> bool:
        """Whether any of these may be voided, or is named by a void of the batch."""
        if not self._index and not self.added and not self._rows:
            return False
        return not all(known.keys().isdisjoint(digests) for known in (self._index, self.added, self._rows))

    def await_it(self, mark: bytes, hour: int, clock: int) -> bool:
        """Whether a void below waits for the event with this digest and hour."""
        waiting = self._index.get(mark, {}) | self.added.get(mark, {})
        return any(clock < ends for named, ends in waiting.items() if named in (ANY_HOUR, hour))

    def remember(self, mark: bytes, row: NamedRow) -> None:
        """A row of this batch."""
        if mark in self._rows:
            self._rows[mark][row.time // HOUR_MS] = row

    def carry_out(self, tenant: str, line: int, target: Target, clock: int) -> list[Voiding]:
        """Take back what `target` names. Raises InvalidEvent where that isn't one event."""
        mark = digest(tenant, target.source, target.id)
        below = {hour: row for hour, row in self._rows[mark].items() if target.hour in (None, hour)}
        if any(row.type == VOID for row in below.values()):
            raise InvalidEvent("void-of-a-void", "a void can't be voided; send the event again under a new id")
        standing = {hour: row for hour, row in below.items() if row.standing}
        if target.hour is None and len(standing) > 1:
            hours = ", ".join(iso(hour * HOUR_MS) for hour in sorted(standing))
            raise InvalidEvent("ambiguous-void", f"several events bear this name; give the `time` of one: {hours}")
        waits_for = ANY_HOUR if target.hour is None else target.hour
        self.added.setdefault(mark, {})[waits_for] = clock + KEPT_MS
        for hour, row in standing.items():
            self._rows[mark][hour] = row._replace(standing=False)
        return [Voiding(line, target, row) for row in standing.values()]
