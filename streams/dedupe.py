"""Step 2 of a batch, the decision: each event is counted or a duplicate, in position order, as if every record were a
batch of its own. Pure; what Redis and the ledger answered comes in as values.

Digests stand in buckets of the partition clock. A bucket is live at a clock while it is the clock's own or one of the
four before it. An event whose hour begins before the oldest live bucket (plus the writer's lead) may have been counted
under a digest that is gone: for those the ledger is asked by its key, so that a resend with the same time counts once
for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from metering.clock import HOUR_MS
from metering.event import WRITER_AHEAD_MS
from streams.frame import Entries, Frame

LIVE_BUCKETS = 5

LedgerKey = tuple[str, int, str, str]
"""(tenant, hour, source, id)"""


class Window(msgspec.Struct, frozen=True):
    """The dedupe window in buckets of `bucket_ms`."""

    bucket_ms: int

    def bucket(self, clock: int) -> int:
        """The bucket into which digests go at `clock`."""
        return clock // self.bucket_ms

    def oldest(self, clock: int) -> int:
        """The oldest bucket that is live at `clock`."""
        return clock // self.bucket_ms - LIVE_BUCKETS + 1

    def ends(self, bucket: int) -> int:
        """The clock at which `bucket` is live no more."""
        return (bucket + LIVE_BUCKETS) * self.bucket_ms

    def live(self, first_clock: int, last_clock: int) -> range:
        """All buckets that are live at some clock from `first_clock` to `last_clock`."""
        return range(self.oldest(first_clock), self.bucket(last_clock) + 1)

    def horizon(self, clock: int) -> int:
        """An event before this time (a full hour) may have been counted under a digest that is gone at `clock`."""
        return -(-(self.oldest(clock) * self.bucket_ms + WRITER_AHEAD_MS) // HOUR_MS) * HOUR_MS


def late_keys(frames: Sequence[Frame], window: Window) -> set[LedgerKey]:
    """The ledger keys that have to be asked for."""
    late = set()
    for frame in frames:
        horizon, entries = window.horizon(frame.clock), frame.entries
        if entries and min(entries.times) < horizon:
            late |= {_ledger_key(frame, index) for index, time in enumerate(entries.times) if time < horizon}
    return late


def _ledger_key(frame: Frame, index: int) -> LedgerKey:
    entries = frame.entries
    return frame.tenant, entries.hour(index), entries.sources[index], entries.ids[index]


class Verdicts(msgspec.Struct):
    """Per frame of the batch, in its order: the counted entries, and how many were duplicates."""

    counted: list[Entries]
    duplicates: list[int]


class _Seen(NamedTuple):
    """A frame in which a digest was counted earlier in this batch."""

    bucket: int
    number: int


def decide(
    frames: Sequence[Frame],
    window: Window,
    known: Sequence[tuple[int, Sequence[int]]],
    rows: dict[LedgerKey, tuple[int, int]],
) -> Verdicts:
    """Judge every entry of `frames`.

    `known`: per bucket asked, the answers of Redis (1: there) for the entries in position order.
    `rows`: ledger key → (offset, line) of the row that stands there; offset -1 for rows of earlier epochs. An event
    sees only rows below its own position.
    """
    seen: dict[bytes, tuple[_Seen, ...]] = {}
    verdicts = Verdicts([], [])
    first = 0
    for number, frame in enumerate(frames):
        entries = frame.entries
        oldest, horizon = window.oldest(frame.clock), window.horizon(frame.clock)
        live = [answers[first : first + len(entries)] for bucket, answers in known if bucket >= oldest]
        first += len(entries)
        mine = (_Seen(window.bucket(frame.clock), number),)
        if (
            entries
            and not any(1 in answers for answers in live)
            and min(entries.times) >= horizon
            and seen.keys().isdisjoint(entries.digests)
            and len(fresh := dict.fromkeys(entries.digests, mine)) == len(entries)
        ):
            seen |= fresh
            verdicts.counted.append(entries)
            verdicts.duplicates.append(0)
            continue
        indexes: list[int] = []
        for index, (digest, time) in enumerate(zip(entries.digests, entries.times, strict=True)):
            earlier = seen.get(digest, ())
            repeated = any(answers[index] for answers in live) or any(there.bucket >= oldest for there in earlier)
            if not repeated and time < horizon:
                row = rows.get(_ledger_key(frame, index))
                repeated = (row is not None and row < (frame.offset, entries.lines[index])) or any(
                    _has(verdicts.counted[there.number], digest, entries.hour(index)) for there in earlier
                )
            if not repeated:
                seen[digest] = earlier + mine
                indexes.append(index)
        verdicts.counted.append(entries.take(indexes))
        verdicts.duplicates.append(len(entries) - len(indexes))
    return verdicts


def _has(counted: Entries, digest: bytes, hour: int) -> bool:
    """Whether one of them has this digest and hour."""
    return any(mark == digest and counted.hour(index) == hour for index, mark in enumerate(counted.digests))
