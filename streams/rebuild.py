"""The state of a partition rebuilt from the ledger: digests of the live buckets, counters of the open periods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from metering import counter, quantity
from metering.counter import UNIQUE_CAP, Distinct
from metering.event import WRITER_AHEAD_MS
from metering.identity import digest
from metering.period import DEFAULT_TERMS, GRACE_MS, BillingTerm, Period, PeriodKind, period_of
from metering.position import Position
from metering.void import target_in
from streams.counters import value_digest
from streams.dedupe import Window
from streams.ledger import CounterRow, PartitionLedger
from streams.state import Operation, PartitionState
from streams.tally import CountedMeters, Uncounted
from streams.voids import ANY_HOUR, KEPT_MS, VoidIndex

_TENANTS_AT_ONCE = 500
_MEMBERS_AT_ONCE = 20_000


async def digest_operations(
    state: PartitionState, ledger: PartitionLedger, window: Window, clock: int, upto: int
) -> AsyncIterator[list[Operation]]:
    """Chunks that fill the buckets that are live at `clock` from the rows up to record `upto`."""
    oldest = window.oldest(clock)
    async for block in ledger.digests_since(oldest * window.bucket_ms, upto):
        buckets: dict[int, list[bytes]] = {}
        for tenant, source, id, counted_at in block:
            buckets.setdefault(window.bucket(counted_at), []).append(digest(tenant, source, id))
        yield [
            operation
            for bucket, digests in buckets.items()
            for operation in state.add_digests(bucket, digests, window.ends(bucket))
        ]


async def void_operations(
    state: PartitionState, ledger: PartitionLedger, clock: int, upto: int
) -> AsyncIterator[list[Operation]]:
    """A chunk with the voids up to record `upto` that at `clock` still wait for what they name."""
    index: VoidIndex = {}
    for tenant, counted_at, kept in await ledger.voids_since(clock - KEPT_MS, upto):
        to = target_in(kept)
        hour = ANY_HOUR if to.hour is None else to.hour
        hours = index.setdefault(digest(tenant, to.source, to.id), {})
        hours[hour] = max(hours.get(hour, 0), counted_at + KEPT_MS)
    if index:
        yield state.set_voids(index)


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
    meters: CountedMeters,
    terms: dict[str, tuple[BillingTerm, ...]],
    clock: int,
    upto: int,
    only: Sequence[str] | None = None,
) -> AsyncIterator[list[Operation]]:
    """Chunks that set every open counter from the rows up to record `upto`; `only`: the billing counters of these.

    `terms`: the tenants whose billing periods are not calendar months in UTC.
    """
    for kind in dict.fromkeys(kind for _, kinds in meters.of.values() for kind in kinds):
        if only is not None and kind != "billing":
            continue
        names = [name for name, (_, kinds) in meters.of.items() if kind in kinds]
        for period, tenants in _tenants_by_period(kind, clock, terms, only):
            chunks = [tenants[i : i + _TENANTS_AT_ONCE] for i in range(0, len(tenants), _TENANTS_AT_ONCE)] or [[]]
            for chunk in chunks:
                rows = await ledger.counters(
                    period.start,
                    period.end,
                    upto,
                    names,
                    [name for name in names if meters.aggregation(name) == "unique"],
                    chunk,
                    UNIQUE_CAP + 1,
                )
                if not chunk and kind == "billing" and only is None:
                    rows = [row for row in rows if row.tenant not in terms]
                if rows:
                    yield [operation for row in rows for operation in _set(state, row, meters, kind, period)]


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
                operations += _set(state, row, meters, kind, period)
    return operations


def _tenants_by_period(
    kind: PeriodKind, clock: int, terms: dict[str, tuple[BillingTerm, ...]], only: Sequence[str] | None
) -> Iterable[tuple[Period, list[str]]]:
    """(period, tenants) to read; no tenants: all of the partition."""
    result: dict[Period, list[str]] = {}
    if kind == "billing":
        for tenant in terms if only is None else only:
            for period in open_periods(kind, clock, terms.get(tenant, DEFAULT_TERMS)):
                result.setdefault(period, []).append(tenant)
    if only is not None:
        return result.items()
    everyone: Sequence[tuple[Period, list[str]]] = [(period, []) for period in open_periods(kind, clock, DEFAULT_TERMS)]
    return [*result.items(), *everyone]


def _set(
    state: PartitionState, row: CounterRow, meters: CountedMeters, kind: PeriodKind, period: Period
) -> list[Operation]:
    field = f"{row.meter}:{kind}:{period.start}"
    operations = []
    aggregation = meters.aggregation(row.meter)
    if aggregation == "unique":
        members = sorted(map(value_digest, row.values))[:UNIQUE_CAP]
        for first in range(0, len(members), _MEMBERS_AT_ONCE):
            operations.append(state.add_uniques(row.tenant, field, members[first : first + _MEMBERS_AT_ONCE]))
    text = counter.encode(aggregation, _state_of(aggregation, row))
    operations.append(state.set_counters(row.tenant, [field, text]))
    operations.append(state.expire_counters([(period.end + GRACE_MS, row.tenant, field)]))
    return operations


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
