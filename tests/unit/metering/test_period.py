"""Known dates. The laws (contiguous, never overlapping) are in tests/properties/test_periods.py."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from metering.clock import HOUR_MS, iso, parse_iso, to_ms
from metering.period import FOREVER, GRACE_MS, BillingTerm, Period, PeriodKind, period_of, zone_of


def shown(kind: PeriodKind, at: str, *terms: BillingTerm) -> tuple[str, str]:
    period = period_of(kind, parse_iso(at), terms) if terms else period_of(kind, parse_iso(at))
    return iso(period.start).removesuffix(".000Z"), iso(period.end).removesuffix(".000Z")


def term(anchor: str, zone: str, since: str = "1970-01-01T00:00:00Z") -> BillingTerm:
    local = datetime.fromisoformat(anchor).replace(tzinfo=zone_of(zone))
    return BillingTerm(parse_iso(since), to_ms(local), zone)


@pytest.mark.parametrize(
    ("kind", "period"),
    [
        ("hour", ("2026-02-28T23:00:00", "2026-03-01T00:00:00")),
        ("day", ("2026-02-28T00:00:00", "2026-03-01T00:00:00")),
        ("month", ("2026-02-01T00:00:00", "2026-03-01T00:00:00")),
        ("billing", ("2026-02-01T00:00:00", "2026-03-01T00:00:00")),
    ],
)
def test_without_terms_periods_are_calendar_utc(kind: PeriodKind, period: tuple[str, str]) -> None:
    assert shown(kind, "2026-02-28T23:59:59.999Z") == period


def test_a_lifetime_never_ends() -> None:
    assert period_of("lifetime", 5) == Period(0, FOREVER)


@pytest.mark.parametrize(
    ("at", "period"),
    [
        ("2027-01-31T12:00:00Z", ("2027-01-31T00:00:00", "2027-02-28T00:00:00")),
        ("2027-02-27T23:59:59Z", ("2027-01-31T00:00:00", "2027-02-28T00:00:00")),
        ("2027-02-28T00:00:00Z", ("2027-02-28T00:00:00", "2027-03-31T00:00:00")),
        ("2027-04-15T00:00:00Z", ("2027-03-31T00:00:00", "2027-04-30T00:00:00")),
        ("2028-02-29T00:00:00Z", ("2028-02-29T00:00:00", "2028-03-31T00:00:00")),
        ("2026-12-31T00:00:00Z", ("2026-12-31T00:00:00", "2027-01-31T00:00:00")),
        ("2026-01-01T00:00:00Z", ("2025-12-31T00:00:00", "2026-01-31T00:00:00")),
    ],
)
def test_an_anchor_on_the_31st_takes_the_last_day_and_comes_back(at: str, period: tuple[str, str]) -> None:
    assert shown("billing", at, term("2026-01-31T00:00:00", "UTC")) == period


@pytest.mark.parametrize(
    ("zone", "anchor", "at", "period"),
    [
        # 29 March 2026, 02:00 → 03:00 in Berlin: 02:30 does not exist and moves to 03:30 (01:30Z).
        (
            "Europe/Berlin",
            "2026-01-29T02:30:00",
            "2026-03-29T12:00:00Z",
            ("2026-03-29T01:30:00", "2026-04-29T00:30:00"),
        ),
        # 25 October 2026, 03:00 → 02:00: 02:30 exists twice, the first (00:30Z) is meant.
        (
            "Europe/Berlin",
            "2026-01-25T02:30:00",
            "2026-10-25T12:00:00Z",
            ("2026-10-25T00:30:00", "2026-11-25T01:30:00"),
        ),
        # 8 March 2026, 02:00 → 03:00 in New York.
        (
            "America/New_York",
            "2026-01-08T02:30:00",
            "2026-03-08T12:00:00Z",
            ("2026-03-08T07:30:00", "2026-04-08T06:30:00"),
        ),
        (
            "America/New_York",
            "2026-01-01T00:00:00",
            "2026-07-04T00:00:00Z",
            ("2026-07-01T04:00:00", "2026-08-01T04:00:00"),
        ),
        ("+05:30", "2026-01-31T00:00:00", "2026-02-27T18:30:00Z", ("2026-02-27T18:30:00", "2026-03-30T18:30:00")),
        # Lord Howe moves by half an hour: 4 October 2026, 02:00 → 02:30; 02:15 becomes 02:45 (15:45Z).
        (
            "Australia/Lord_Howe",
            "2026-01-04T02:15:00",
            "2026-10-04T00:00:00Z",
            ("2026-10-03T15:45:00", "2026-11-03T15:15:00"),
        ),
    ],
)
def test_billing_periods_follow_the_tenants_clock_across_dst(
    zone: str, anchor: str, at: str, period: tuple[str, str]
) -> None:
    assert shown("billing", at, term(anchor, zone)) == period


def test_changed_terms_cut_the_period_under_way() -> None:
    terms = (
        term("2026-01-10T00:00:00", "UTC"),
        term("2026-03-20T00:00:00", "Europe/Berlin", since="2026-03-20T12:00:00Z"),
    )
    assert shown("billing", "2026-03-20T11:59:59Z", *terms) == ("2026-03-10T00:00:00", "2026-03-20T12:00:00")
    assert shown("billing", "2026-03-20T12:00:00Z", *terms) == ("2026-03-20T12:00:00", "2026-04-19T22:00:00")


def test_before_the_first_terms_they_hold_already() -> None:
    only = term("2026-03-10T00:00:00", "UTC", since="2026-03-10T00:00:00Z")
    assert shown("billing", "2026-02-15T00:00:00Z", only) == ("2026-02-10T00:00:00", "2026-03-10T00:00:00")


def test_a_counter_is_kept_for_the_grace_after_its_period() -> None:
    period = Period(0, HOUR_MS)
    assert period.is_open(HOUR_MS + GRACE_MS - 1)
    assert not period.is_open(HOUR_MS + GRACE_MS)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "Europe", "../etc/passwd", "+25:00", "+x", "/etc/localtime"])
def test_an_unknown_zone_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError):
        zone_of(name)


def test_zones_are_iana_names_or_fixed_offsets() -> None:
    assert zone_of("Europe/Berlin") == ZoneInfo("Europe/Berlin")
    assert datetime(2026, 1, 1, tzinfo=zone_of("-03:30")).isoformat() == "2026-01-01T00:00:00-03:30"
