"""What a batch adds to the counters. Pure: exact integers, merged by metering/aggregation.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from metering.aggregation import AGGREGATIONS, Sample
from metering.catalog import Catalog
from metering.period import BillingTerm, Period, PeriodKind, period_of
from metering.position import Position
from metering.quantity import ONE
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
        current: dict[PeriodKind, Period] = {}
        keys: dict[tuple[str, PeriodKind], CounterKey] = {}
        for entry in counted:
            time = entry.time
            for meter, nanos in entry.resolved.quantities.items():
                counter = meters.of.get(meter)
                if counter is None:
                    continue
                aggregation, kinds = counter
                for kind in kinds:
                    period = current.get(kind)
                    if period is None or not period.start <= time < period.end:
                        period = current[kind] = period_of(kind, time, billing)
                        keys = {slot: key for slot, key in keys.items() if slot[1] != kind}
                    key = keys.get((meter, kind))
                    if key is None:
                        key = keys[meter, kind] = CounterKey(meter, kind, period.start, period.end)
                    if not period.is_open(frame.clock):
                        continue
                    if aggregation == "sum":
                        mine[key] = mine.get(key, 0) + nanos
                    elif aggregation == "count":
                        mine[key] = mine.get(key, 0) + ONE
                    elif aggregation == "unique":
                        # A growing set, because merging frozen ones value by value would be quadratic.
                        mine.setdefault(key, set()).add(entry.resolved.uniques[meter])
                    else:
                        sample = Sample(
                            nanos,
                            None,
                            time,
                            Position(epoch, partition, frame.offset, entry.line),
                        )
                        rule = AGGREGATIONS[aggregation]
                        state = rule.of(sample)
                        mine[key] = rule.merge(mine[key], state) if key in mine else state
    return {tenant: counters for tenant, counters in deltas.items() if counters}
