"""Step 2 of a batch, the decision: each event is counted, a duplicate, voided or dead, in position order, as if every
record were a batch of its own. Pure; what Redis and the ledger answered comes in as values.

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
from metering.errors import InvalidEvent
from metering.event import WRITER_AHEAD_MS
from streams.frame import Dead, Entries, Frame
from streams.voids import NamedRow, Voiding, Voids

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


class Verdict(msgspec.Struct):
    """What became of a frame's entries. Those `voided` on arrival have a row too; `refused` are dead letters."""

    counted: Entries
    voided: Entries = Entries()
    duplicates: int = 0
    refused: Sequence[Dead] = ()
    voidings: Sequence[Voiding] = ()


Judged = tuple[Frame, Verdict]


class _Seen(NamedTuple):
    """A frame in which a digest got a row earlier in this batch."""

    bucket: int
    number: int


def decide(
    frames: Sequence[Frame],
    window: Window,
    known: Sequence[tuple[int, Sequence[int]]],
    rows: dict[LedgerKey, tuple[int, int]],
    voids: Voids,
) -> list[Judged]:
    """Judge every entry of `frames`.

    `known`: per bucket asked, the answers of Redis (1: there) for the entries in position order.
    `rows`: ledger key → (offset, line) of the row that stands there; offset -1 for rows of earlier epochs. An event
    sees only rows below its own position.
    """
    seen: dict[bytes, tuple[_Seen, ...]] = {}
    judged: list[Judged] = []
    first = 0
    for number, frame in enumerate(frames):
        entries = frame.entries
        oldest, horizon = window.oldest(frame.clock), window.horizon(frame.clock)
        live = [answers[first : first + len(entries)] for bucket, answers in known if bucket >= oldest]
        first += len(entries)
        mine = (_Seen(window.bucket(frame.clock), number),)
        targets = entries.voids()
        if (
            entries
            and not any(1 in answers for answers in live)
            and min(entries.times) >= horizon
            and seen.keys().isdisjoint(entries.digests)
            and not voids.concern(entries.digests)
            and not targets
            and len(fresh := dict.fromkeys(entries.digests, mine)) == len(entries)
        ):
            seen |= fresh
            judged.append((frame, Verdict(entries)))
            continue
        counted: list[int] = []
        voided: list[int] = []
        refused: list[Dead] = []
        voidings: list[Voiding] = []
        for index, (digest, time) in enumerate(zip(entries.digests, entries.times, strict=True)):
            earlier = seen.get(digest, ())
            repeated = any(answers[index] for answers in live) or any(there.bucket >= oldest for there in earlier)
            if not repeated and time < horizon:
                row = rows.get(_ledger_key(frame, index))
                repeated = (row is not None and row < (frame.offset, entries.lines[index])) or any(
                    _has(judged[there.number][1], digest, entries.hour(index)) for there in earlier
                )
            if repeated:
                continue
            standing = True
            if index in targets:
                try:
                    voidings += voids.carry_out(frame.tenant, entries.lines[index], targets[index], frame.clock)
                except InvalidEvent as error:
                    refused.append(Dead(entries.lines[index], error.code, error.detail, entries.raws[index]))
                    continue
            elif voids.await_it(digest, entries.hour(index), frame.clock):
                standing = False
            (counted if standing else voided).append(index)
            seen[digest] = earlier + mine
            voids.remember(digest, _named_row(frame, index, standing))
        duplicates = len(entries) - len(counted) - len(voided) - len(refused)
        judged.append((frame, Verdict(entries.take(counted), entries.take(voided), duplicates, refused, voidings)))
    return judged


def digests_by_bucket(judged: Sequence[Judged], window: Window, clock: int) -> dict[int, list[bytes]]:
    """Digests of the events that get a row; none for buckets that are closed at `clock`, the batch's last."""
    buckets: dict[int, list[bytes]] = {}
    for frame, verdict in judged:
        bucket = window.bucket(frame.clock)
        if bucket >= window.oldest(clock) and (verdict.counted or verdict.voided):
            buckets.setdefault(bucket, []).extend((*verdict.counted.digests, *verdict.voided.digests))
    return buckets


def _named_row(frame: Frame, index: int, standing: bool) -> NamedRow:
    entries = frame.entries
    at = (frame.offset, entries.lines[index], None)
    return NamedRow(*at, entries.types[index], entries.times[index], entries.nanos(index), standing)


def _has(verdict: Verdict, digest: bytes, hour: int) -> bool:
    """Whether one of its rows has this digest and hour."""
    return any(
        mark == digest and having.hour(index) == hour
        for having in (verdict.counted, verdict.voided)
        for index, mark in enumerate(having.digests)
    )
