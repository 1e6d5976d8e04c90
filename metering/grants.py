"""Grants: extra allowances beside the main limit of a feature, and how usage burns them (ADR 21). Pure; in nanos.

Usage of a period above the limit burns the grants that are valid in it, those of the lowest priority first, then those
that expire first. At a period's end a grant keeps what its rollover lets go on. So what is left of each is a function
of the grants, of the limits that were in force and of the usage of closed periods: of the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from metering import quantity
from metering.entitlement import CompiledGrant
from metering.period import FOREVER, BillingTerm, Period, PeriodKind, period_of

CONSUMED = ("sum", "count", "unique")
"""Aggregations whose usage burns grants. The others measure a height: nothing of it is used up."""


class Grant(NamedTuple):
    """`amount` > 0, valid in [since, until) ms UTC. At most `rollover` goes on into the next period; None: all."""

    id: str
    amount: int
    since: int
    until: int = FOREVER
    priority: int = 100
    rollover: int | None = None


class Rest(NamedTuple):
    """What usage has burnt of a grant, and what is left of it; the two need not add up, rests lapse."""

    burnt: int
    left: int


class DatedLimit(NamedTuple):
    """From `since` (ms UTC) on: the period of a feature's main limit (None: no limited right) and what it is."""

    since: int
    kind: PeriodKind | None
    limit: int | None


class ClosedPeriod(NamedTuple):
    """A period that has ended, or the part of one up to a change of its kind, and its limit (None: unlimited)."""

    period: Period
    limit: int | None


def closed_periods(
    limits: Sequence[DatedLimit], terms: tuple[BillingTerm, ...], first: int, now: int
) -> list[ClosedPeriod]:
    """Those that ended by `now`, from that in which `first` lies, in order and apart; `limits` ordered by `since`.

    The limit of a period is that in force at its end: so gates judge its whole usage.
    """
    found: list[ClosedPeriod] = []
    at = first
    while at < now:
        ruling = limit_at(limits, at)
        if ruling is None or ruling.kind is None:
            at = min((one.since for one in limits if one.since > at), default=now)
            continue
        start, end = period_of(ruling.kind, at, terms)
        end = min((one.since for one in limits if at < one.since < end and one.kind != ruling.kind), default=end)
        if end > now:
            break
        last = limit_at(limits, end - 1) or ruling
        start = max(start, found[-1].period.end) if found else start
        found.append(ClosedPeriod(Period(start, end), last.limit))
        at = end
    return found


def limit_at(limits: Sequence[DatedLimit], at: int) -> DatedLimit | None:
    """What is in force at an instant."""
    return next((one for one in reversed(limits) if one.since <= at), None)


def burn_down(grants: Iterable[Grant], closed: Sequence[ClosedPeriod], used: Sequence[int]) -> dict[str, Rest]:
    """What is left of each grant after these periods, in which that much was `used`; by the grant's id."""
    ordered = sorted(grants, key=lambda grant: (grant.priority, grant.until, grant.since, grant.id))
    left = {grant.id: grant.amount for grant in ordered}
    burnt = dict.fromkeys(left, 0)
    for (period, limit), usage in zip(closed, used, strict=True):
        over = 0 if limit is None else max(0, usage - limit)
        for grant in ordered:
            if grant.since >= period.end:
                continue
            if grant.until > period.start:
                taken = min(over, left[grant.id])
                over -= taken
                burnt[grant.id] += taken
                left[grant.id] -= taken
            if grant.until <= period.end:
                left[grant.id] = 0
            elif grant.rollover is not None:
                left[grant.id] = min(left[grant.id], grant.rollover)
    return {id: Rest(burnt[id], left[id]) for id in left}


def published(
    grant: Grant, left: tuple[int, int] | None, kind: PeriodKind, terms: tuple[BillingTerm, ...], now: int
) -> CompiledGrant | None:
    """A grant as gates are told of it: for one period of the main limit, with what is left at its beginning.

    In the period in which it begins that is all of it. For a later one it has to be known from the usage before: `left`
    is (the beginning of a period, nanos). None: there is nothing to tell, or nothing yet.
    """
    period = period_of(kind, max(now, grant.since), terms)
    amount = grant.amount
    if grant.since < period.start:
        if left is None or left[0] != period.start:
            return None
        amount = left[1]
    until = min(grant.until, period.end)
    if amount <= 0 or until <= max(now, grant.since):
        return None
    return CompiledGrant(grant.id, quantity.render(amount), grant.since, until)
