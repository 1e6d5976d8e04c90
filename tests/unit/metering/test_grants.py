"""Grants by example: what burns, in which order, and what goes on."""

from __future__ import annotations

import pytest

from metering.clock import DAY_MS, HOUR_MS, parse_iso
from metering.entitlement import CompiledGrant
from metering.grants import (
    ClosedPeriod,
    DatedLimit,
    Grant,
    Rest,
    burn_down,
    closed_periods,
    published,
)
from metering.period import DEFAULT_TERMS, FOREVER, Period
from metering.quantity import ONE

DAYS = [Period(day * DAY_MS, (day + 1) * DAY_MS) for day in range(5)]
NOON = parse_iso("2026-11-23T12:00:00Z")
TODAY = NOON - NOON % DAY_MS


def left_after(grants: list[Grant], limit: int | None, *used: int) -> dict[str, int]:
    """By id, after days with such usage."""
    closed = [ClosedPeriod(day, limit) for day in DAYS[: len(used)]]
    return {id: rest.left for id, rest in burn_down(grants, closed, used).items()}


def test_usage_within_the_limit_burns_nothing() -> None:
    assert left_after([Grant("a", 5, 0)], 10, 10, 0, 9) == {"a": 5}


def test_what_is_above_the_limit_of_each_period_is_burnt() -> None:
    assert left_after([Grant("a", 5, 0)], 10, 12, 10, 11) == {"a": 2}
    assert burn_down([Grant("a", 5, 0)], [ClosedPeriod(DAYS[0], 10)], [99]) == {"a": Rest(5, 0)}


def test_the_lowest_priority_burns_first_then_what_expires_first() -> None:
    late, soon = Grant("late", 5, 0, 9 * DAY_MS), Grant("soon", 5, 0, 8 * DAY_MS)
    first = Grant("first", 5, 0, priority=1)
    assert left_after([late, soon, first], 0, 7) == {"first": 0, "soon": 3, "late": 5}


def test_a_grant_is_burnt_in_no_period_before_or_after_it() -> None:
    grant = Grant("a", 5, DAYS[1].start + 1, DAYS[2].start)
    assert left_after([grant], 0, 3) == {"a": 5}
    assert left_after([grant], 0, 3, 2) == {"a": 0}, "it has expired, with a rest"
    assert burn_down([grant], [ClosedPeriod(day, 0) for day in DAYS[:3]], [3, 2, 9])["a"].burnt == 2


@pytest.mark.parametrize(("rollover", "left"), [(None, 8), (0, 0), (3, 3), (20, 8)])
def test_at_a_periods_end_so_much_goes_on_as_the_rollover_lets(rollover: int | None, left: int) -> None:
    assert left_after([Grant("a", 10, 0, rollover=rollover)], 5, 7) == {"a": left}


def test_without_a_limit_nothing_burns() -> None:
    assert left_after([Grant("a", 5, 0)], None, 1000) == {"a": 5}


def test_periods_are_those_of_the_limit_in_force_and_have_the_limit_of_their_end() -> None:
    limits = [DatedLimit(0, "day", 10), DatedLimit(2 * DAY_MS + HOUR_MS, "day", 20)]
    assert closed_periods(limits, DEFAULT_TERMS, DAY_MS + 5, 4 * DAY_MS) == [
        (DAYS[1], 10),
        (DAYS[2], 20),
        (DAYS[3], 20),
    ]
    assert closed_periods(limits, DEFAULT_TERMS, DAY_MS + 5, 4 * DAY_MS - 1)[-1].period == DAYS[2]


def test_a_change_of_the_kind_cuts_a_period_and_none_overlap() -> None:
    change = DAY_MS + 90 * 60_000
    limits = [DatedLimit(0, "day", 10), DatedLimit(change, "hour", 1)]
    found = [period for period, _ in closed_periods(limits, DEFAULT_TERMS, 0, DAY_MS + 4 * HOUR_MS)]
    assert found == [
        DAYS[0],
        Period(DAY_MS, change),
        Period(change, DAY_MS + 2 * HOUR_MS),
        Period(DAY_MS + 2 * HOUR_MS, DAY_MS + 3 * HOUR_MS),
        Period(DAY_MS + 3 * HOUR_MS, DAY_MS + 4 * HOUR_MS),
    ]


def test_a_time_without_a_right_has_no_periods() -> None:
    limits = [DatedLimit(0, "day", 1), DatedLimit(DAY_MS, None, None), DatedLimit(3 * DAY_MS, "day", 2)]
    assert closed_periods(limits, DEFAULT_TERMS, 0, 5 * DAY_MS) == [(DAYS[0], 1), (DAYS[3], 2), (DAYS[4], 2)]
    assert closed_periods((), DEFAULT_TERMS, 0, 5 * DAY_MS) == []


def test_gates_are_told_all_of_a_grant_for_the_period_in_which_it_begins() -> None:
    grant = Grant("a", 5 * ONE, TODAY + 1)
    tomorrow = TODAY + DAY_MS
    assert published(grant, None, "day", DEFAULT_TERMS, NOON) == CompiledGrant("a", "5", TODAY + 1, tomorrow)
    later = Grant("b", ONE, tomorrow + 1, tomorrow + 9)
    assert published(later, None, "day", DEFAULT_TERMS, NOON) == CompiledGrant("b", "1", tomorrow + 1, tomorrow + 9)
    assert published(grant, None, "lifetime", DEFAULT_TERMS, NOON) == CompiledGrant("a", "5", TODAY + 1, FOREVER)


def test_of_an_older_grant_gates_are_told_what_was_left_when_this_period_began() -> None:
    grant = Grant("a", 5 * ONE, TODAY - 1)
    told = published(grant, (TODAY, 2 * ONE), "day", DEFAULT_TERMS, NOON)
    assert told == CompiledGrant("a", "2", TODAY - 1, TODAY + DAY_MS)
    assert published(grant, (TODAY - DAY_MS, 2 * ONE), "day", DEFAULT_TERMS, NOON) is None, "an older period's rest"
    assert published(grant, None, "day", DEFAULT_TERMS, NOON) is None, "not known yet"
    assert published(grant, (TODAY, 0), "day", DEFAULT_TERMS, NOON) is None, "burnt"
    assert published(grant._replace(until=NOON), (TODAY, ONE), "day", DEFAULT_TERMS, NOON) is None, "expired"
