"""Every instant lies in exactly one period of a kind, whatever zone, anchor and history of terms."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from metering.clock import DAY_MS, HOUR_MS, from_ms, parse_iso
from metering.period import KINDS, BillingTerm, PeriodKind, period_of, zone_of

FIRST, LAST = parse_iso("1971-01-01T00:00:00Z"), parse_iso("2090-01-01T00:00:00Z")
INSTANTS = st.integers(FIRST, LAST)
ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "Pacific/Apia",  # skipped 30 December 2011
        "America/Sao_Paulo",  # changed at midnight
        "Africa/Casablanca",
        "+05:30",
        "-03:30",
        "+14:00",
    ]
)
# Changes of the clock, where mistakes live.
CHANGES = st.sampled_from(
    [
        parse_iso(at)
        for at in (
            "2026-03-29T01:00:00Z",
            "2026-10-25T01:00:00Z",
            "2026-03-08T07:00:00Z",
            "2026-11-01T06:00:00Z",
            "2026-04-04T15:00:00Z",
            "2026-10-03T15:30:00Z",
            "2011-12-30T10:00:00Z",
            "2028-02-29T00:00:00Z",
            "2026-01-31T00:00:00Z",
            "2026-02-28T23:59:59.999Z",
        )
    ]
)
NEAR_CHANGES = st.builds(lambda at, by: at + by, CHANGES, st.integers(-2 * DAY_MS, 2 * DAY_MS))
AT = INSTANTS | NEAR_CHANGES


@st.composite
def histories(draw: st.DrawFn) -> tuple[BillingTerm, ...]:
    sinces = sorted(draw(st.sets(AT, max_size=4)))
    return tuple(BillingTerm(since, draw(AT), draw(ZONES)) for since in [0, *sinces])


@given(st.sampled_from(KINDS), AT, histories())
def test_an_instant_lies_in_its_own_period(kind: PeriodKind, at: int, terms: tuple[BillingTerm, ...]) -> None:
    period = period_of(kind, at, terms)
    assert period.start <= at < period.end


@given(st.sampled_from(KINDS), AT, histories())
def test_all_instants_of_a_period_share_it(kind: PeriodKind, at: int, terms: tuple[BillingTerm, ...]) -> None:
    period = period_of(kind, at, terms)
    for inside in (period.start, (period.start + at) // 2, min(period.end, LAST * 2) - 1):
        assert period_of(kind, inside, terms) == period


@given(st.sampled_from([kind for kind in KINDS if kind != "lifetime"]), AT, histories())
def test_periods_follow_each_other_without_gap_or_overlap(
    kind: PeriodKind, at: int, terms: tuple[BillingTerm, ...]
) -> None:
    periods = [period_of(kind, at, terms)]
    for _ in range(14):
        periods.append(period_of(kind, periods[-1].end, terms))
    for before, after in pairwise(periods):
        assert after.start == before.end
        assert period_of(kind, after.start - 1, terms) == before


@given(AT, AT, ZONES.filter(lambda zone: zone != "Pacific/Apia"))
def test_a_billing_period_is_a_calendar_month_of_the_tenants_clock(at: int, anchor: int, zone: str) -> None:
    period = period_of("billing", at, (BillingTerm(0, anchor, zone),))
    assert 27 * DAY_MS < period.end - period.start < 32 * DAY_MS
    local = from_ms(anchor).astimezone(zone_of(zone))
    start = from_ms(period.start).astimezone(zone_of(zone))
    last_day = (start.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    wanted = local.replace(year=start.year, month=start.month, day=min(local.day, last_day.day), tzinfo=None)
    assert timedelta() <= start.replace(tzinfo=None) - wanted <= timedelta(hours=1)


@given(AT, AT, st.sampled_from(["+05:30", "-03:30", "UTC"]))
def test_without_clock_changes_a_billing_period_starts_at_the_anchors_time_of_day(
    at: int, anchor: int, zone: str
) -> None:
    period = period_of("billing", at, (BillingTerm(0, anchor, zone),))
    assert (period.start - anchor) % DAY_MS == 0


@given(AT, histories())
def test_changed_terms_begin_a_period_at_once(at: int, terms: tuple[BillingTerm, ...]) -> None:
    for term in terms[1:]:
        assert period_of("billing", term.since, terms).start == term.since


@given(AT)
def test_hours_and_days_are_as_long_as_they_say(at: int) -> None:
    hour, day = period_of("hour", at), period_of("day", at)
    assert (hour.end - hour.start, day.end - day.start) == (HOUR_MS, DAY_MS)
