"""Step 2 of a batch, the decision: each event is counted or a duplicate, in position order, as if every record were a
batch of its own. Pure; what Redis and the ledger answered comes in as values.

Digests stand in buckets of the partition clock. A bucket is live at a clock while it is the clock's own or one of the
four before it. An event whose hour begins before the oldest live bucket (plus the writer's lead) may have been counted
under a digest that is gone: for those the ledger is asked by its key, so that a resend with the same time counts once
for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from metering.clock import HOUR_MS
from metering.event import WRITER_AHEAD_MS
from streams.frame import Entry, Frame

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

    def needs_ledger(self, hour: int, clock: int) -> bool:
        """Whether an event of `hour` may have been counted under a digest that is gone at `clock`."""
        return hour * HOUR_MS < self.oldest(clock) * self.bucket_ms + WRITER_AHEAD_MS


def entries_of(frames: Iterable[Frame]) -> Iterator[tuple[Frame, Entry]]:
    """Every valid event in position order."""
    for frame in frames:
        for entry in frame.entries:
            yield frame, entry


def late_keys(frames: Sequence[Frame], window: Window) -> set[LedgerKey]:
    """The ledger keys that have to be asked for."""
    late = set()
    for frame in frames:
        horizon = (window.oldest(frame.clock) * window.bucket_ms + WRITER_AHEAD_MS + HOUR_MS - 1) // HOUR_MS
        for entry in frame.entries:
            if entry.time // HOUR_MS < horizon:
                late.add((frame.tenant, entry.hour, entry.event.source, entry.event.id))
    return late


class Verdicts(msgspec.Struct):
    """Per frame of the batch, in its order: the counted entries, and how many were duplicates."""

    counted: list[list[Entry]]
    duplicates: list[int]


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
    seen: dict[bytes, list[tuple[int, int]]] = {}  # digest → (bucket, hour) of the rows decided in this batch
    verdicts = Verdicts([], [])
    position = 0
    for frame in frames:
        oldest = window.oldest(frame.clock)
        bucket = window.bucket(frame.clock)
        live = [answers for number, answers in known if number >= oldest]
        horizon = (oldest * window.bucket_ms + WRITER_AHEAD_MS + HOUR_MS - 1) // HOUR_MS
        counted: list[Entry] = []
        duplicates = 0
        for entry in frame.entries:
            earlier = seen.get(entry.digest)
            repeated = False
            for answers in live:
                if answers[position]:
                    repeated = True
                    break
            position += 1
            if not repeated and earlier is not None:
                repeated = any(b >= oldest for b, _ in earlier)
            if not repeated and entry.time // HOUR_MS < horizon:
                hour = entry.time // HOUR_MS
                row = rows.get((frame.tenant, hour, entry.event.source, entry.event.id))
                repeated = row is not None and row < (frame.offset, entry.line)
                if not repeated and earlier is not None:
                    repeated = any(h == hour for _, h in earlier)
            if repeated:
                duplicates += 1
                continue
            if earlier is None:
                seen[entry.digest] = [(bucket, entry.time // HOUR_MS)]
            else:
                earlier.append((bucket, entry.time // HOUR_MS))
            counted.append(entry)
        verdicts.counted.append(counted)
        verdicts.duplicates.append(duplicates)
    return verdicts
