"""The state of a partition rebuilt from the ledger: digests of the live buckets, counters of the open periods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Iterable, Mapping, Sequence
from typing import Any

from metering import counter, keys, quantity
from metering.counter import UNIQUE_CAP, Distinct
from metering.event import WRITER_AHEAD_MS
from metering.identity import digest
from metering.period import DEFAULT_TERMS, GRACE_MS, PERIOD_KINDS, BillingTerm, Period, PeriodKind, period_of
from metering.position import Position
from metering.void import target_in
from streams.counters import value_digest
from streams.dedupe import Window
from streams.ledger import CounterRow, PartitionLedger
from streams.state import Operation, PartitionState
from streams.tally import CountedMeters, Counting, Uncounted
from streams.voids import ANY_HOUR, KEPT_MS, VoidIndex

_TENANTS_AT_ONCE = 500
_MEMBERS_AT_ONCE = 20_000


async def digest_operations(
    state: PartitionState, ledger: PartitionLedger, window: Window, clock: int, upto: int
) -> AsyncIterator[list[Operation]]:
    """Chunks that fill the buckets that are live at `clock` from the rows up to record `upto`."""
    async for buckets in digest_blocks(ledger, window, clock, upto):
        yield [
            operation
            for bucket, digests in buckets.items()
            for operation in state.add_digests(bucket, digests, window.ends(bucket))
        ]


async def digest_blocks(
    ledger: PartitionLedger, window: Window, clock: int, upto: int
) -> AsyncIterator[dict[int, list[bytes]]]:
    """Digests of the rows up to record `upto` by the bucket they stand in, of buckets that are live at `clock`."""
    async for block in ledger.digests_since(window.oldest(clock) * window.bucket_ms, upto):
        buckets: dict[int, list[bytes]] = {}
        for tenant, source, id, counted_at in block:
            buckets.setdefault(window.bucket(counted_at), []).append(digest(tenant, source, id))
        yield buckets


async def void_operations(
    state: PartitionState, ledger: PartitionLedger, clock: int, upto: int
) -> AsyncIterator[list[Operation]]:
    """A chunk with the voids up to record `upto` that at `clock` still wait for what they name."""
    if index := await void_index(ledger, clock, upto):
        yield state.set_voids(index)


async def void_index(ledger: PartitionLedger, clock: int, upto: int) -> VoidIndex:
    """The void index as it stands at `clock` behind record `upto`."""
    index: VoidIndex = {}
    for tenant, counted_at, kept in await ledger.voids_since(clock - KEPT_MS, upto):
        to = target_in(kept)
        hour = ANY_HOUR if to.hour is None else to.hour
        hours = index.setdefault(digest(tenant, to.source, to.id), {})
        hours[hour] = max(hours.get(hour, 0), counted_at + KEPT_MS)
    return index


def open_periods(kind: PeriodKind, clock: int, terms: tuple[BillingTerm, ...]) -> list[Period]:
    """The periods of `kind` whose counters exist at `clock`: open or in grace, or begun already by an early event."""
    periods = []
    at = max(0, clock - GRACE_MS)
    while at <= clock + WRITER_AHEAD_MS:
        period = period_of(kind, at, terms)
        if period.is_open(clock):
            periods.append(period)
        at = period.end
    return periods


async def counter_operations(
    state: PartitionState,
    ledger: PartitionLedger,
    counting: Counting,
    clock: int,
    upto: int,
) -> AsyncIterator[list[Operation]]:
    """Chunks that set every open counter from the rows up to record `upto`."""
    async for kind, period, rows in counter_rows(ledger, counting, clock, upto):
        yield [operation for row in rows for operation in set_counter(state, row, counting.meters, kind, period)]


async def counter_rows(
    ledger: PartitionLedger,
    counting: Counting,
    clock: int,
    upto: int,
    only: Sequence[str] | None = None,
    kinds: Container[PeriodKind] = PERIOD_KINDS,
) -> AsyncIterator[tuple[PeriodKind, Period, list[CounterRow]]]:
    """What the rows up to record `upto` give for every counter that is open at `clock`; `only`: of these tenants."""
    meters, terms = counting.meters, counting.terms
    for kind in dict.fromkeys(kind for _, used in meters.of.values() for kind in used if kind in kinds):
        names = [name for name, (_, used) in meters.of.items() if kind in used]
        unique = [name for name in names if meters.aggregation(name) == "unique"]
        for period, tenants in _tenants_by_period(kind, clock, terms, only):
            chunks = [tenants[i : i + _TENANTS_AT_ONCE] for i in range(0, len(tenants), _TENANTS_AT_ONCE)] or [[]]
            for chunk in chunks:
                rows = await ledger.counters(period.start, period.end, upto, names, unique, chunk, UNIQUE_CAP + 1)
                if not chunk and kind == "billing":
                    rows = [row for row in rows if row.tenant not in terms]
                if rows:
                    yield kind, period, rows


async def count_anew(
    state: PartitionState, ledger: PartitionLedger, meters: CountedMeters, counters: Iterable[Uncounted], upto: int
) -> list[Operation]:
    """Operations that replace `counters` by what the rows up to record `upto` give, or drop them where none is left."""
    by_period: dict[tuple[PeriodKind, Period], list[Uncounted]] = {}
    for tenant, key in sorted(counters):
        by_period.setdefault((key.kind, Period(key.start, key.end)), []).append((tenant, key))
    operations: list[Operation] = []
    for (kind, period), wanted in by_period.items():
        names = sorted({key.meter for _, key in wanted})
        unique = [name for name in names if meters.aggregation(name) == "unique"]
        tenants = sorted({tenant for tenant, _ in wanted})
        rows = await ledger.counters(period.start, period.end, upto, names, unique, tenants, UNIQUE_CAP + 1)
        found = {(row.tenant, row.meter): row for row in rows}
        for tenant, key in wanted:
            operations += state.drop([f"c:{tenant}:{key.field}".encode()])
            if row := found.get((tenant, key.meter)):
                operations += set_counter(state, row, meters, kind, period)
    return operations


def _tenants_by_period(
    kind: PeriodKind, clock: int, terms: Mapping[str, tuple[BillingTerm, ...]], only: Sequence[str] | None
) -> Iterable[tuple[Period, list[str]]]:
    """(period, tenants) to read; no tenants: all of the partition."""
    own = [tenant for tenant in (terms if only is None else only) if kind == "billing" and tenant in terms]
    usual = None if only is None else [tenant for tenant in only if tenant not in own]
    result: dict[Period, list[str]] = {}
    for tenant in own:
        for period in open_periods(kind, clock, terms[tenant]):
            result.setdefault(period, []).append(tenant)
    if usual is None or usual:
        yield from ((period, list(usual or ())) for period in open_periods(kind, clock, DEFAULT_TERMS))
    yield from result.items()


def set_counter(
    state: PartitionState, row: CounterRow, meters: CountedMeters, kind: PeriodKind, period: Period
) -> list[Operation]:
    """Operations that set one counter to what the ledger gives."""
    field = keys.counter_field(row.meter, kind, period.start)
    operations = []
    aggregation = meters.aggregation(row.meter)
    if aggregation == "unique":
        members = sorted(map(value_digest, row.values))[:UNIQUE_CAP]
        for first in range(0, len(members), _MEMBERS_AT_ONCE):
            operations.append(state.add_uniques(row.tenant, field, members[first : first + _MEMBERS_AT_ONCE]))
    operations.append(state.set_counters(row.tenant, [field, text_of(row, meters)]))
    operations.append(state.expire_counters([(period.end + GRACE_MS, row.tenant, field)]))
    return operations


def text_of(row: CounterRow, meters: CountedMeters) -> str:
    """A counter as it stands in Redis."""
    aggregation = meters.aggregation(row.meter)
    return counter.encode(aggregation, _state_of(aggregation, row))


def _state_of(aggregation: str, row: CounterRow) -> Any:
    """What the writer would have computed from the same events (metering/aggregation.py)."""
    if aggregation == "sum":
        return quantity.from_text(row.total)
    if aggregation == "count":
        return row.events * quantity.ONE
    if aggregation == "min":
        return quantity.from_text(row.least)
    if aggregation == "max":
        return quantity.from_text(row.greatest)
    if aggregation == "avg":
        return quantity.from_text(row.total), row.events
    if aggregation == "unique":
        return Distinct(min(len(row.values), UNIQUE_CAP), len(row.values) > UNIQUE_CAP)
    nanos, time, *position = row.latest
    return (time, Position(*position)), quantity.from_text(nanos)
