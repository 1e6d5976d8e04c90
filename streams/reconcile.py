"""Reconciliation of one partition: log, frames, rows, state and rollups are compared pair by pair.

Ingestion goes on meanwhile: everything is compared at positions that are behind it. What differs is drift.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from metering.counter import UNIQUE_CAP
from metering.errors import Unavailable
from metering.frame import checksum
from metering.period import terms_text
from metering.rollup import HourWindow
from streams.control import ControlPlane
from streams.dedupe import Window
from streams.ledger import PartitionLedger
from streams.log import PartitionLog
from streams.rebuild import counter_rows, text_of, void_index
from streams.rollups import RollupTables
from streams.state import Applied, PartitionState, Snapshot
from streams.tally import Counting
from tenancy.epochs import Epoch

PAIRS = ("log-frames", "frames-rows", "rows-digests", "rows-counters", "rows-rollups")
_MOST = 10_000
_SAMPLES = 5
_LOOKS = 60
_LOOK_SECONDS = 0.5
_NOTHING = ("0", "0/0")
"""Counters of which voids have left nothing: the ledger has no rows for them."""


class Finding(NamedTuple):
    """How many things one pair of stores says otherwise, and the first of them for people."""

    pair: str
    drift: int
    samples: Sequence[str] = ()


class Stretch(NamedTuple):
    """Records `first` to `last`."""

    first: int
    last: int


class Stores(NamedTuple):
    """All of one partition of one epoch. `log` is None where its topic is gone, `state` in epochs that have ended.

    `before`: the epochs before it of which the broker still has the logs.
    """

    epoch: int
    partition: int
    partitions: int
    log: PartitionLog | None
    ledger: PartitionLedger
    state: PartitionState | None
    rollups: RollupTables
    control: ControlPlane
    window: Window
    before: Sequence[Epoch] = ()


async def ledger_findings(stores: Stores) -> tuple[list[Finding], Stretch | None]:
    """log ↔ frames ↔ rows; and from where on the ledger is in doubt, if it is. Raises Unavailable."""
    ledger = stores.ledger
    closed_at = await ledger.closing_at()
    head = await ledger.head() if closed_at < 0 else closed_at
    unframed, differing = await ledger.records_in_doubt(head, _MOST) if head >= 0 else ([], [])
    other = await _other_records(stores, head)
    findings = [
        Finding(
            "log-frames",
            len(unframed) + len(other),
            [
                *(f"offset {offset} is not accounted for" for offset in unframed[:_SAMPLES]),
                *(f"offset {offset} holds another record" for offset in other),
            ],
        ),
        Finding("frames-rows", len(differing), [f"offset {offset}" for offset in differing[:_SAMPLES]]),
    ]
    first = min((*unframed, *differing), default=None)
    return findings, None if first is None else Stretch(first, head)


async def _other_records(stores: Stores, head: int) -> list[int]:
    """Offsets where the log holds another record than was counted, of the oldest and the newest that both have."""
    if stores.log is None:
        return []
    start = await stores.log.start()
    wrong = []
    for offset in sorted({start, head}):
        frame = await stores.ledger.frame_at(offset) if start <= offset <= head else None
        if frame is None or frame.closing:
            continue
        record = await stores.log.record_at(offset)
        if record is None or checksum(record.key, record.value, record.timestamp) != frame.checksum:
            wrong.append(offset)
    return wrong


async def state_findings(stores: Stores) -> list[Finding]:
    """rows ↔ digests and voids, rows ↔ counters. Raises Unavailable, also while the state is being rebuilt."""
    snapshot, applied, counting = await _settled(stores)
    return [await _digests(stores, snapshot, applied), await _counters(stores, snapshot, applied, counting)]


async def _settled(stores: Stores) -> tuple[Snapshot, Applied, Counting]:
    """The state when it is there and counted by the rules of now."""
    assert stores.state is not None
    meters = stores.control.meters
    unique = {name for name in meters.of if meters.aggregation(name) == "unique"}
    for _ in range(_LOOKS):
        snapshot = await stores.state.snapshot(unique)
        counting = stores.control.counting(stores.partition, stores.partitions, stores.window.bucket_ms)
        if snapshot.applied is not None and snapshot.config == counting.fingerprint:
            return snapshot, snapshot.applied, counting
        await asyncio.sleep(_LOOK_SECONDS)
        await stores.control.refresh()
    raise Unavailable(f"the state of partition {stores.partition} is being rebuilt")


async def _digests(stores: Stores, snapshot: Snapshot, applied: Applied) -> Finding:
    window, oldest = stores.window, stores.window.oldest(applied.clock)
    wanted = await stores.ledger.digests_by_bucket(oldest * window.bucket_ms, applied.offset, window.bucket_ms)
    found = {bucket: size for bucket, size in snapshot.digests.items() if bucket >= oldest}
    samples = [
        f"bucket {bucket}: {found.get(bucket, 0)} digests, the ledger has {wanted.get(bucket, 0)}"
        for bucket in sorted(wanted.keys() | found.keys())
        if wanted.get(bucket, 0) != found.get(bucket, 0)
    ]
    drift = sum(abs(wanted.get(bucket, 0) - found.get(bucket, 0)) for bucket in wanted.keys() | found.keys())
    waiting = await void_index(stores.ledger, applied.clock, applied.offset)
    lost = [mark for mark in waiting if mark not in snapshot.voids]
    samples += [f"void of {mark.hex()} is not waited for" for mark in lost[:_SAMPLES]]
    return Finding("rows-digests", drift + len(lost), samples[:_SAMPLES])


async def _counters(stores: Stores, snapshot: Snapshot, applied: Applied, counting: Counting) -> Finding:
    meters = counting.meters
    found = {
        at: text
        for at, text in snapshot.counters.items()
        if text not in _NOTHING and snapshot.ends.get(at, applied.clock + 1) > applied.clock
    }
    terms = {tenant: terms_text(own) for tenant, own in counting.terms.items()}
    wrong = sorted({tenant for tenant, _ in terms.items() ^ snapshot.terms.items()})
    samples = [f"{name} is counted by {snapshot.terms.get(name)}, its terms are {terms.get(name)}" for name in wrong]
    drift = len(wrong)
    async for kind, period, rows in counter_rows(stores.ledger, counting, applied.clock, applied.offset):
        for row in rows:
            at = (row.tenant, f"{row.meter}:{kind}:{period.start}")
            want, have = text_of(row, meters), found.pop(at, None)
            size = snapshot.values.get(at)
            if (want == have or (have is None and want in _NOTHING)) and size in (
                None,
                min(len(row.values), UNIQUE_CAP),
            ):
                continue
            drift += 1
            samples.append(f"{' '.join(at)} is {have or 'not there'}, the ledger gives {want}")
    drift += len(found)
    samples += [f"{' '.join(at)} is {text}, the ledger gives nothing" for at, text in sorted(found.items())]
    return Finding("rows-counters", drift, samples[:_SAMPLES])


async def rollup_findings(stores: Stores) -> tuple[Finding, list[HourWindow]]:
    """rows ↔ rollups, and the windows to compute again. Raises Unavailable."""
    mark = await stores.rollups.mark(stores.epoch, stores.partition)
    windows = set(await stores.ledger.stale_windows(mark))
    if stores.state is not None:  # once for a tenant, whatever the epochs of its rows
        windows.update(await stores.ledger.wrong_windows())
    ordered = sorted(windows)
    samples = [f"{window.tenant}, hour {window.hour}" for window in ordered[:_SAMPLES]]
    return Finding("rows-rollups", len(ordered), samples), ordered
