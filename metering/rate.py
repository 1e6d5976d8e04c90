"""Rate limits: how many checks may be allowed in how short a time. Pure; the generic cell rate algorithm (GCRA), exact.

A rate of 20 per second allows 20 at once and then one each 50 ms: within any time t never more than 20 + 20·t. What is
kept of it is one integer, the `tat` (theoretical arrival time), in milliseconds UTC times the rate's limit.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from metering.clock import HOUR_MS, MINUTE_MS, SECOND_MS

RatePeriod = Literal["second", "minute", "hour"]
RateBy = Literal["tenant", "subject"]
PERIODS: dict[RatePeriod, int] = {"second": SECOND_MS, "minute": MINUTE_MS, "hour": HOUR_MS}


class Rate(msgspec.Struct, frozen=True, omit_defaults=True):
    """At most `limit` allowed checks per `period`, of a tenant or of each of its subjects (users, API keys…)."""

    limit: str
    period: RatePeriod
    by: RateBy = "tenant"
    on_exceed: Literal["block"] = "block"


class Pace(NamedTuple):
    """Where somebody stands at `now`: how many were allowed of late, the `tat` after one more (None: it does not fit),
    and from when on (ms UTC) one more fits for sure."""

    used: int
    next: int | None
    fits_at: int


def pace_of(rate: Rate, tat: int | None, now: int) -> Pace:
    """`tat`: what was kept, None: nothing yet; `now` in ms UTC."""
    limit, each = int(rate.limit), PERIODS[rate.period]
    at = now * limit
    full = each * limit
    behind = max(tat or 0, at) - at
    if behind > full:  # more is never allowed ahead: the clock was put back, and what was kept says nothing
        behind = 0
    used = -(-behind // each)
    if behind + each <= full:
        return Pace(used, at + behind + each, now)
    return Pace(used, None, now - (-(behind + each - full) // limit))
