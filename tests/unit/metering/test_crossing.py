"""Thresholds of plans, what is passed on the way from one value to another, and identities."""

from __future__ import annotations

import msgspec
import pytest

from metering.catalog import parse_catalog
from metering.counter import Distinct, level
from metering.crossing import Threshold, crossing, decode, encode, passed, thresholds_of
from metering.period import Period
from metering.position import Position
from metering.quantity import ONE

CATALOG = parse_catalog("""
meters:
  seconds: {event: call, aggregation: sum, value: $.n, scale: 3}
  calls: {event: call, aggregation: count}
features: {voice: {meter: seconds}, translation: {meter: seconds}, calls: {meter: calls}, cloning: {}}
plans:
  small:
    entitlements:
      voice: {limit: 100, period: day, alert_at: [1.0, 0.8]}
      translation: {limit: "50.5", period: day, alert_at: [0.5]}
      calls: {limit: 7, period: month, alert_at: [0.333]}
      cloning: true
  open:
    entitlements:
      voice: {period: day, alert_at: [0.8]}
      calls: {limit: 7, period: month}
""")
HALF, ALL = Threshold(50 * ONE, "voice", "0.5", "100"), Threshold(100 * ONE, "voice", "1", "100")
MADE = crossing("grand", "seconds", "day", Period(0, 86_400_000), HALF, 60 * ONE, 5_000)


def test_thresholds_of_a_plan_are_by_counter_the_lowest_first() -> None:
    assert thresholds_of(CATALOG, "small") == {
        ("seconds", "day"): [
            Threshold(25_250_000_000, "translation", "0.5", "50.5"),
            Threshold(80 * ONE, "voice", "0.8", "100"),
            Threshold(100 * ONE, "voice", "1", "100"),
        ],
        ("calls", "month"): [Threshold(2_331_000_000, "calls", "0.333", "7")],
    }


def test_without_a_limit_or_a_share_there_is_no_threshold() -> None:
    assert thresholds_of(CATALOG, "open") == {}


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (49, 49, []),
        (49, 50, [HALF]),
        (50, 99, []),
        (49, 100, [HALF, ALL]),
        (50, 101, [ALL]),
        (101, 40, []),
        (None, 0, []),
        (None, 100, [HALF, ALL]),
    ],
)
def test_a_threshold_is_passed_from_below(before: int | None, now: int, expected: list[Threshold]) -> None:
    assert passed([HALF, ALL], None if before is None else before * ONE, now * ONE) == expected


def test_an_identity_knows_no_clock_and_no_value() -> None:
    later = crossing("grand", "seconds", "day", Period(0, 86_400_000), HALF, 99 * ONE, 9_000)
    assert later.id == MADE.id
    assert (MADE.used, later.used, MADE.at, later.at) == ("60", "99", 5_000, 9_000)


def test_identities_differ_by_tenant_feature_period_and_threshold() -> None:
    day = Period(0, 86_400_000)
    others = [
        crossing("other", "seconds", "day", day, HALF, 60 * ONE, 0),
        crossing("grand", "seconds", "day", day, HALF._replace(feature="translation"), 60 * ONE, 0),
        crossing("grand", "seconds", "day", Period(86_400_000, 172_800_000), HALF, 60 * ONE, 0),
        crossing("grand", "seconds", "hour", Period(0, 3_600_000), HALF, 60 * ONE, 0),
        crossing("grand", "seconds", "day", day, HALF._replace(share="0.6"), 60 * ONE, 0),
        crossing("grand", "seconds", "day", day, HALF._replace(limit="200"), 60 * ONE, 0),
    ]
    assert len({MADE.id, *(each.id for each in others)}) == 7


def test_a_message_comes_back_as_it_went() -> None:
    assert decode(encode(MADE)) == MADE
    with pytest.raises(msgspec.DecodeError):
        decode(b'{"id": "x"}')


@pytest.mark.parametrize(
    ("aggregation", "state", "nanos"),
    [
        ("sum", 12 * ONE, 12 * ONE),
        ("count", 3 * ONE, 3 * ONE),
        ("max", 7, 7),
        ("avg", (10 * ONE, 3), 3_333_333_333),
        ("avg", (-10 * ONE, 3), -3_333_333_334),
        ("unique", Distinct(4, False), 4 * ONE),
        ("latest", ((5, Position(1, 0, 0, 0)), 9), 9),
    ],
)
def test_a_counters_level_is_its_value(aggregation: str, state: object, nanos: int) -> None:
    assert level(aggregation, state) == nanos
