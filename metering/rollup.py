"""Rollups: hour windows of the ledger. When a window is computed, what its revision means, and which hours of a local
window a rollup can answer for. Pure.

A window is one (tenant, hour in UTC). It seals when the partition clock stands at its end plus grace. Its revision is
the position up to which the ledger was complete before it was read, and it counts rows up to there and no others:
whoever computes a window at one revision writes the same rows, and of two revisions the greater knows more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, tzinfo
from typing import Literal, NamedTuple

from metering.clock import HOUR_MS, from_ms, to_ms
from metering.period import GRACE_MS, Period, months_after, resolve
from metering.position import OFFSET_BITS

WindowKind = Literal["hour", "day", "month"]
WINDOW_KINDS: tuple[WindowKind, ...] = ("hour", "day", "month")

LONGEST_WAIT = 10
"""In settling times: so long at the most are touches of one window gathered."""


class HourWindow(NamedTuple):
    """`hour`: hours since 1970, UTC."""

    tenant: str
    hour: int


def revision_of(epoch: int, offset: int) -> int:
    """The revision of a window that counts rows up to this record; comparable across epochs, because a tenant lives on
    one partition in each and a new epoch begins only when the one before is accounted for."""
    return (epoch << OFFSET_BITS) | offset


def is_sealed(end: int, clock: int) -> bool:
    """Whether what ends at `end` (ms UTC) has sealed when the partition clock stands at `clock`."""
    whole_hour = -(-end // HOUR_MS) * HOUR_MS
    return clock >= whole_hour + GRACE_MS


class Touch(NamedTuple):
    """A window that records have touched since it was last computed: the offset of the first of them, and when the
    first and the last were seen (seconds of any one clock)."""

    offset: int
    since: float
    lately: float

    def has_settled(self, now: float, seconds: float) -> bool:
        """Whether it was not touched for `seconds`, or has waited long enough for that."""
        return now - self.lately >= seconds or now - self.since >= LONGEST_WAIT * seconds


def windows(kind: WindowKind, zone: tzinfo, start: int, end: int) -> Iterator[Period]:
    """The local hours, days or months that cover [start, end) in ms UTC, the first and the last of them cut there.

    A day begins at the first instant of its local date, so that it has 23, 24 or 25 hours. Both of two equal local
    hours are windows of their own.
    """
    boundaries = _BOUNDARIES[kind](zone, start)
    begin = next(boundaries)
    for boundary in boundaries:
        if begin >= end:
            return
        cut = Period(max(begin, start), min(boundary, end))
        if cut.start < cut.end:
            yield cut
        begin = boundary


def _days(zone: tzinfo, start: int) -> Iterator[int]:
    day = from_ms(start).astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    while True:
        yield resolve(day)
        day += timedelta(days=1)  # of a local date: the clock's changes are no matter of it


def _months(zone: tzinfo, start: int) -> Iterator[int]:
    local = from_ms(start).astimezone(zone)
    first = datetime(local.year, local.month, 1, tzinfo=zone)
    months = 0
    while True:
        yield months_after(first, months)
        months += 1


def _hours(zone: tzinfo, start: int) -> Iterator[int]:
    """From each instant to the next full local hour, as its clock then stood."""
    at = next(_days(zone, start))
    while True:
        yield at
        local = at + _offset(zone, at)
        at += HOUR_MS - local % HOUR_MS


def _offset(zone: tzinfo, at: int) -> int:
    local = from_ms(at).astimezone(zone)
    return to_ms(local.replace(tzinfo=from_ms(0).tzinfo)) - at


_BOUNDARIES = {"hour": _hours, "day": _days, "month": _months}


def cut_hours(periods: Iterable[Period]) -> set[int]:
    """The hours (since 1970, UTC) that a period begins or ends inside of: no rollup answers for their parts."""
    edges = {edge for period in periods for edge in period}
    return {edge // HOUR_MS for edge in edges if edge % HOUR_MS}
