"""What the metrics of a worker say of its lag and freshness. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

LAG = "tallygate_writer_lag_records"
FRESHNESS = "tallygate_writer_freshness_seconds"
VISIBLE = "tallygate_writer_visible_seconds"


class WriterMetrics(NamedTuple):
    """`lags`: records by partition, where known. `age`: seconds, of the last batch. `visible`: how many records were
    applied within so many seconds, cumulative by bound."""

    lags: Mapping[str, float]
    age: float | None
    visible: Mapping[float, float]

    def told(self) -> dict[str, Any]:
        """As `status --json` says it; seconds, None for what is not known."""
        return {
            "lag": int(sum(self.lags.values())) if self.lags else None,
            "partitions": {partition: int(lag) for partition, lag in self.lags.items()},
            "freshness_seconds": self.age,
            "freshness_p50_seconds": quantile(self.visible, 0.5),
            "freshness_p99_seconds": quantile(self.visible, 0.99),
        }


def read(text: str) -> WriterMetrics:
    """From what `/metrics` of a worker answers."""
    lags: dict[str, float] = {}
    age: float | None = None
    visible: dict[float, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == LAG:
                lags[sample.labels["partition"]] = sample.value
            elif sample.name == FRESHNESS:
                age = sample.value
            elif sample.name == f"{VISIBLE}_bucket":
                visible[float(sample.labels["le"])] = sample.value
    return WriterMetrics(lags, age if any(visible.values()) else None, visible)


def together(writers: Iterable[WriterMetrics]) -> WriterMetrics:
    """Several workers as one."""
    lags: dict[str, float] = {}
    visible: dict[float, float] = {}
    ages = []
    for one in writers:
        lags |= one.lags
        ages += [] if one.age is None else [one.age]
        for bound, count in one.visible.items():
            visible[bound] = visible.get(bound, 0.0) + count
    return WriterMetrics(lags, max(ages, default=None), visible)


def quantile(visible: Mapping[float, float], share: float) -> float | None:
    """The smallest bound within which at least `share` of all lie; None without any, or beyond the last bound."""
    bounds = sorted(visible)
    if not bounds or not visible[bounds[-1]]:
        return None
    found = next(bound for bound in bounds if visible[bound] >= share * visible[bounds[-1]])
    return None if found == float("inf") else found
