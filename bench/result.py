"""One row of the table and of latest.json (design §8)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Literal

import msgspec


class Result(msgspec.Struct):
    """What was measured; `ratio` is median ÷ reference for rates, None for the others; `n` is how many windows."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    median: float
    low: float
    high: float
    goal: float | None
    ratio: float | None
    n: int


_RATES = ("events/s", "checks/s")
REFERENCE = 1_470_000
"""`reference` where the goals were set: on a slower machine rates shrink with it (design §8)."""
GOALS: dict[str, tuple[str, Literal["higher", "lower"], float | None]] = {
    "reference": ("events/s", "higher", None),
    "gateway_batch": ("events/s", "higher", 250_000),
    "gateway_single": ("events/s", "higher", 12_000),
    "writer": ("events/s", "higher", 200_000),
    "ingest_to_counters": ("events/s", "higher", 100_000),
    "freshness_p99": ("ms", "lower", 250),
    "bytes_kafka": ("bytes/event", "lower", 40),
    "bytes_ledger": ("bytes/event", "lower", 35),
    "bytes_dedupe": ("bytes/event", "lower", 60),
    "check_in_process": ("µs", "lower", 5),
    "check_in_process_anew": ("µs", "lower", None),
    "check_http_5k_p99": ("ms", "lower", 1),
    "check_http_saturated": ("checks/s", "higher", 30_000),
    "reserve_http_1k_p99": ("ms", "lower", 5),
    "check_dead_redis_ratio": ("ratio", "lower", 1.2),
    "recompute_1m": ("s", "lower", 1),
    "reconcile_10m": ("s", "lower", 30),
}


def result(name: str, values: Sequence[float], reference: float | None) -> Result:
    """Median and spread of the windows' `values`."""
    unit, better, goal = GOALS[name]
    middle = median(values)
    ratio = middle / reference if reference and unit in _RATES else None
    return Result(name, unit, better, middle, min(values), max(values), goal, ratio, len(values))
