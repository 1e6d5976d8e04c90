"""The SQL form of the seven aggregations: what usage/queries/totals.sql computes, finished exactly.

Its in-memory form is metering/aggregation.py; tests/integration proves on the real engine that both agree.
"""

from __future__ import annotations

from typing import NamedTuple

from metering import quantity
from metering.aggregation import AggregationName


def of_nothing(aggregation: AggregationName) -> str | None:
    """The value of a meter without events: no amount, no events, no values; but there is no least of nothing."""
    return "0" if aggregation in ("sum", "count", "unique") else None


class Aggregates(NamedTuple):
    """One row of totals.sql: Decimal(38, 9) as text, counts as integers."""

    value: str
    total: str
    events: int
    least: str
    greatest: str
    latest: str
    distinct: int

    def result(self, aggregation: AggregationName, scale: int) -> str:
        """The meter's value as an exact decimal string."""
        if aggregation == "count":
            return str(self.events)
        if aggregation == "unique":
            return str(self.distinct)
        if aggregation == "avg":
            return quantity.average(quantity.from_text(self.total), self.events, scale)
        text = {"sum": self.total, "min": self.least, "max": self.greatest, "latest": self.latest}[aggregation]
        return quantity.render(quantity.from_text(text))
