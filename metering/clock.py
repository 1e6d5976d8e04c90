"""Time is an argument. Instants are integers: milliseconds since 1970-01-01T00:00:00Z."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


class Clock(Protocol):
    """Where a process takes the present from. Domain functions take `now` instead."""

    def now_ms(self) -> int:
        """The present in milliseconds UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


def to_ms(at: datetime) -> int:
    """An aware datetime as milliseconds UTC; what is finer than a millisecond is cut, towards the past."""
    delta = at - EPOCH
    return delta.days * DAY_MS + delta.seconds * SECOND_MS + delta.microseconds // 1000


def from_ms(ms: int) -> datetime:
    """Milliseconds UTC as an aware datetime."""
    return EPOCH + timedelta(milliseconds=ms)


def iso(ms: int) -> str:
    """Milliseconds UTC as RFC 3339 with milliseconds: `2026-11-23T10:00:00.123Z`."""
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_iso(text: str) -> int:
    """RFC 3339 with an offset → milliseconds UTC. Raises ValueError for anything else."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no UTC offset; end it with Z or +hh:mm")
    return to_ms(at)
