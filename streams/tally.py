"""What a batch adds to the counters. Pure: exact integers, merged by metering/aggregation.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

from metering.aggregation import AGGREGATIONS, Sample, merge
from metering.catalog import Catalog
from metering.meter import Columns
from metering.period import DEFAULT_TERMS, BillingTerm, Period, PeriodKind, period_of
from metering.position import Position
from metering.reservation import field_named
from streams.dedupe import Judged
from streams.frame import Entries, Frame


class CounterKey(NamedTuple):
    """One counter of a tenant; `start` and `end` of the period in ms UTC."""

    meter: str
    kind: PeriodKind
    start: int
    end: int

    @property
    def field(self) -> str:
        """Its name in Redis (metering/keys.py: counter_field)."""
        return f"{self.meter}:{self.kind}:{self.start}"


Terms = Callable[[str], tuple[BillingTerm, ...]]
Deltas = dict[str, dict[CounterKey, Any]]
"""tenant → counter → what the batch adds, as a state of metering/aggregation.py."""


class CountedMeters:
    """The meters that have counters, with their aggregation and period kinds; and what may be reserved of a meter."""

    def __init__(self, catalog: Catalog) -> None:
        self.of = {
            name: (meter.aggregation, kinds)
            for name, meter in catalog.meters.items()
            if (kinds := catalog.periods_of(name))
        }
        self.reservable: dict[str, list[str]] = {}
        """meter → features"""
        for name, feature in catalog.features.items():
            if feature.reservable and feature.meter is not None:
                self.reservable.setdefault(feature.meter, []).append(name)

    def aggregation(self, meter: str) -> str:
        """The aggregation of a counted meter."""
        return self.of[meter][0]


class Counting(NamedTuple):
    """How the counters of a partition are counted: of which meters, and by which billing terms, where tenants have
    some. `fingerprint`: another one whenever the state would have to be made differently from the same log; it names
    what is counted (metering/keys.py: config)."""

    meters: CountedMeters
    terms: Mapping[str, tuple[BillingTerm, ...]]
    fingerprint: str

    def terms_of(self, tenant: str) -> tuple[BillingTerm, ...]:
        """A tenant's terms; calendar months in UTC for one without a subscription."""
        return self.terms.get(tenant, DEFAULT_TERMS)


_ADDED = frozenset({"sum", "count"})
"""Aggregations whose state is the sum of nanos (an event of a count gives ONE)."""
_TAKEN_BACK = _ADDED | {"avg"}
"""Aggregations from which an event can be subtracted."""
Uncounted = tuple[str, CounterKey]
"""(tenant, counter) that has to be counted anew from the ledger."""


def tally(judged: Iterable[Judged], meters: CountedMeters, terms: Terms, epoch: int, partition: int) -> Deltas:
    """Sum up the counted entries. An event of a period that is closed by its record's clock changes no counter."""
    deltas: Deltas = {}
    kinds = dict.fromkeys(kind for _, used in meters.of.values() for kind in used)
    for frame, verdict in judged:
        counted = verdict.counted
        mine = deltas.setdefault(frame.tenant, {})
        billing = terms(frame.tenant)
        while counted:  # each turn takes the earliest and all that share its periods
            periods = {kind: period_of(kind, min(counted.times), billing) for kind in kinds}
            end = min((period.end for period in periods.values()), default=None)
            if end is None or max(counted.times) < end:
                inside, counted = counted, Entries()
            else:
                inside = counted.take([index for index, time in enumerate(counted.times) if time < end])
                counted = counted.take([index for index, time in enumerate(counted.times) if time >= end])
            _add(mine, frame, inside, meters, periods, epoch, partition)
    return {tenant: counters for tenant, counters in deltas.items() if counters}


def counted_holds(judged: Iterable[Judged], meters: CountedMeters) -> dict[str, dict[str, None]]:
    """tenant → fields (metering/keys.py: holds) of the reservations whose usage is counted."""
    found: dict[str, dict[str, None]] = {}
    for frame, verdict in judged:
        for columns in verdict.counted.resolved:
            if not columns.reservations:
                continue
            features = [feature for meter in columns.quantities for feature in meters.reservable.get(meter, ())]
            for text in columns.reservations:
                for feature in features:
                    field = field_named(frame.tenant, feature, text)
                    if field is not None:
                        found.setdefault(frame.tenant, {})[field] = None
    return found


def take_back(deltas: Deltas, judged: Iterable[Judged], meters: CountedMeters, terms: Terms) -> set[Uncounted]:
    """Subtract from `deltas` what voids take back. Returns the counters that know no subtraction: count them anew.

    A period open at the void was open at the event it names, so the event is in its counter.
    """
    uncounted: set[Uncounted] = set()
    for frame, verdict in judged:
        for voiding in verdict.voidings:
            row = voiding.row
            for meter, nanos in row.nanos.items():
                aggregation, kinds = meters.of.get(meter, (None, ()))
                for kind in kinds:
                    period = period_of(kind, row.time, terms(frame.tenant))
                    if not period.is_open(frame.clock):
                        continue
                    key = CounterKey(meter, kind, period.start, period.end)
                    if aggregation not in _TAKEN_BACK:
                        uncounted.add((frame.tenant, key))
                        continue
                    mine = deltas.setdefault(frame.tenant, {})
                    less = (-nanos, -1) if aggregation == "avg" else -nanos
                    mine[key] = merge(AGGREGATIONS[aggregation], mine.get(key), less)
    return uncounted


def _add(
    mine: dict[CounterKey, Any],
    frame: Frame,
    counted: Entries,
    meters: CountedMeters,
    periods: dict[PeriodKind, Period],
    epoch: int,
    partition: int,
) -> None:
    """Add entries whose times all lie in `periods`."""
    for columns in counted.resolved:
        for meter, values in columns.quantities.items():
            aggregation, kinds = meters.of.get(meter, (None, ()))
            if aggregation is None:
                continue
            state: Any
            if aggregation in _ADDED:
                state = sum(values)
            elif aggregation == "unique":
                state = set(columns.uniques[meter])
            else:
                rule = AGGREGATIONS[aggregation]
                state = reduce(rule.merge, map(rule.of, _samples(values, columns, counted, frame, epoch, partition)))
            for kind in kinds:
                period = periods[kind]
                if not period.is_open(frame.clock):
                    continue
                key = CounterKey(meter, kind, period.start, period.end)
                if key not in mine:
                    mine[key] = state.copy() if aggregation == "unique" else state
                elif aggregation == "unique":
                    mine[key] |= state
                elif aggregation in _ADDED:
                    mine[key] += state
                else:
                    mine[key] = AGGREGATIONS[aggregation].merge(mine[key], state)


def _samples(
    values: Sequence[int], columns: Columns, counted: Entries, frame: Frame, epoch: int, partition: int
) -> Iterator[Sample]:
    for value, index in zip(values, columns.at, strict=True):
        position = Position(epoch, partition, frame.offset, counted.lines[index])
        yield Sample(value, None, counted.times[index], position)
