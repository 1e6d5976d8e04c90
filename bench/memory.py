"""How the memory of a process went over time, and how far it may grow. Pure. Sizes in MiB, times in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import linear_regression
from typing import NamedTuple

MIB = 1 << 20
_SPARE, _SHARE = 32.0, 0.1
_DIGEST_BYTES = 60.0
"""The goal of `bytes_dedupe`: Redis keeps the identity of each event for the dedupe window, by design."""
_JAVA_HEAP = 512.0
"""Apache Kafka may take its whole heap at any time."""


class Growth(NamedTuple):
    """From the first to the last sample after the warm-up; `slope` in MiB a minute, of the line through all of them."""

    name: str
    start: float
    end: float
    slope: float
    allowed: float | None

    @property
    def held(self) -> bool:
        """Whether it stayed within what is allowed; None allows everything."""
        return self.allowed is None or self.end - self.start <= self.allowed


def growth(name: str, samples: Sequence[tuple[float, float]], events: int, broker_on_disk: bool) -> Growth:
    """Of the samples (time, MiB) of one process while `events` came. Needs two at least."""
    times, sizes = zip(*samples, strict=True)
    slope = linear_regression(times, sizes).slope * 60
    return Growth(name, sizes[0], sizes[-1], slope, _allowed(name, sizes[0], events, broker_on_disk))


def _allowed(name: str, start: float, events: int, broker_on_disk: bool) -> float | None:
    flat = _SPARE + _SHARE * start
    if name == "redis":
        return flat + events * _DIGEST_BYTES / MIB
    if name == "kafka":
        return _JAVA_HEAP if broker_on_disk else None  # the embedded broker keeps its log in memory
    return flat
