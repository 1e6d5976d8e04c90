"""From what was seen over time to one value per window. Times are seconds of one monotonic clock."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from math import ceil

Samples = Sequence[tuple[float, float]]
"""(time, value) in the order of time."""


def rates(counts: Samples, start: float, end: float, windows: int) -> list[float]:
    """Growth per second of a count in each of the equal windows from `start` to `end`, between samples interpolated."""
    width = (end - start) / windows
    edges = [_at(counts, start + number * width) for number in range(windows + 1)]
    return [(after - before) / width for before, after in pairwise(edges)]


def percentiles(values: Samples, start: float, end: float, windows: int, share: float) -> list[float]:
    """The value that `share` of those in a window do not exceed; windows without values are left out."""
    width = (end - start) / windows
    found: list[list[float]] = [[] for _ in range(windows)]
    for at, value in values:
        if start <= at < end:
            found[min(int((at - start) / width), windows - 1)].append(value)
    return [percentile(inside, share) for inside in found if inside]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of `values` do not exceed."""
    return sorted(values)[max(0, ceil(len(values) * share) - 1)]


def _at(counts: Samples, time: float) -> float:
    right = bisect_left(counts, (time,))
    if right == 0:
        return counts[0][1]
    if right == len(counts):
        return counts[-1][1]
    (t0, v0), (t1, v1) = counts[right - 1], counts[right]
    return v0 + (v1 - v0) * (time - t0) / (t1 - t0)
