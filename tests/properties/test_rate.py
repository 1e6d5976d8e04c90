"""A rate allows as many at once as it says, in no time more than that and what it adds, and never less."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metering.rate import PERIODS, Rate, pace_of

NOW = 1_795_428_000_000
RATES = st.builds(Rate, st.integers(1, 40).map(str) | st.integers(1, 10**9).map(str), st.sampled_from(sorted(PERIODS)))
WAITS = st.lists(st.integers(0, 50) | st.integers(0, 8_000_000), max_size=80)


def _allowed(rate: Rate, waits: list[int]) -> list[int]:
    """The instants at which one was allowed."""
    now, tat, allowed = NOW, None, []
    for wait in waits:
        now += wait
        pace = pace_of(rate, tat, now)
        if pace.next is not None:
            tat = pace.next
            allowed.append(now)
    return allowed


@given(RATES, WAITS)
def test_never_more_in_any_time_than_the_limit_and_what_the_time_adds(rate: Rate, waits: list[int]) -> None:
    allowed, limit, each = _allowed(rate, waits), int(rate.limit), PERIODS[rate.period]
    for first in range(len(allowed)):
        for last in range(first, len(allowed)):
            assert (last - first + 1 - limit) * each <= limit * (allowed[last] - allowed[first])


@given(RATES, st.lists(st.integers(0, 3), max_size=80))
def test_who_is_refused_fits_at_the_instant_that_is_said_and_not_before(rate: Rate, waits: list[int]) -> None:
    now, tat = NOW, None
    for wait in waits:
        now += wait
        pace = pace_of(rate, tat, now)
        if pace.next is None:
            assert pace.used == int(rate.limit)
            assert pace_of(rate, tat, pace.fits_at).next is not None
            assert pace_of(rate, tat, pace.fits_at - 1).next is None
        else:
            assert pace.used < int(rate.limit)
            tat = pace.next


@given(st.integers(1, 60), st.sampled_from(sorted(PERIODS)))
def test_as_many_at_once_as_the_limit_says(limit: int, period: str) -> None:
    assert len(_allowed(Rate(str(limit), period), [0] * (limit + 5))) == limit  # type: ignore[arg-type]


@given(RATES, st.lists(st.integers(0, 3), max_size=80), st.integers(1, 100_000_000))
def test_a_clock_that_is_put_back_keeps_nobody_waiting_longer_than_the_period(
    rate: Rate, waits: list[int], back: int
) -> None:
    now, tat = NOW, None
    for wait in waits:
        now += wait
        tat = pace_of(rate, tat, now).next or tat
    assert pace_of(rate, tat, now - back).fits_at <= now - back + PERIODS[rate.period]
