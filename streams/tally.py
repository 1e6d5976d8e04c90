"""What a batch adds to the counters. Pure: exact integers, merged by metering/aggregation.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, NamedTuple

from metering.aggregation import AGGREGATIONS, Sample
from metering.catalog import Catalog
from metering.period import BillingTerm, Period, PeriodKind, period_of
from metering.position import Position
from streams.frame import Entry, Frame


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
    """The meters that have counters, with their aggregation and period kinds."""

    def __init__(self, catalog: Catalog) -> None:
        self.of = {
            name: (meter.aggregation, kinds)
            for name, meter in catalog.meters.items()
            if (kinds := catalog.periods_of(name))
        }

    def aggregation(self, meter: str) -> str:
        """The aggregation of a counted meter."""
        return self.of[meter][0]


_ADDED = frozenset({"sum", "count"})
"""Aggregations whose state is the sum of nanos (an event of a count gives ONE)."""


def tally(
    frames: Iterable[tuple[Frame, list[Entry]]], meters: CountedMeters, terms: Terms, epoch: int, partition: int
) -> Deltas:
    """Sum up the counted entries. An event of a period that is closed by its record's clock changes no counter."""
    deltas: Deltas = {}
    for frame, counted in frames:
        if not counted:
            continue
        mine = deltas.setdefault(frame.tenant, {})
        billing = terms(frame.tenant)
        times = [entry.time for entry in counted]
        first, last = min(times), max(times)
        kinds = dict.fromkeys(kind for _, used in meters.of.values() for kind in used)
        periods = {kind: period_of(kind, first, billing) for kind in kinds}
        if all(last < period.end for period in periods.values()):
            _add(mine, frame, counted, meters, periods, epoch, partition)
            continue
        for entry in counted:  # the frame crosses a boundary: each event has periods of its own
            periods = {kind: period_of(kind, entry.time, billing) for kind in kinds}
            _add(mine, frame, [entry], meters, periods, epoch, partition)
    return {tenant: counters for tenant, counters in deltas.items() if counters}


def _add(
    mine: dict[CounterKey, Any],
    frame: Frame,
    counted: list[Entry],
    meters: CountedMeters,
    periods: dict[PeriodKind, Period],
    epoch: int,
    partition: int,
) -> None:
    """Add entries whose times all lie in `periods`."""
    sums: dict[str, int] = {}
    for entry in counted:
        for meter, nanos in entry.resolved.quantities.items():
            sums[meter] = sums.get(meter, 0) + nanos
    for meter, total in sums.items():
        aggregation, kinds = meters.of.get(meter, (None, ()))
        if aggregation is None:
            continue
        state: Any = total if aggregation in _ADDED else _state(meter, aggregation, frame, counted, epoch, partition)
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


def _state(meter: str, aggregation: str, frame: Frame, counted: list[Entry], epoch: int, partition: int) -> Any:
    """The entries' state of one meter that isn't a sum; for `unique` a set."""
    own = [entry for entry in counted if meter in entry.resolved.quantities]
    if aggregation == "unique":
        return {entry.resolved.uniques[meter] for entry in own}
    rule = AGGREGATIONS[aggregation]
    samples = (
        Sample(
            entry.resolved.quantities[meter],
            None,
            entry.time,
            Position(epoch, partition, frame.offset, entry.line),
        )
        for entry in own
    )
    return reduce(rule.merge, map(rule.of, samples))
