"""However a counter's way is cut into batches, the thresholds passed are those at or below its highest point."""

from __future__ import annotations

from decimal import Decimal
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from metering.catalog import parse_catalog
from metering.crossing import Threshold, passed, thresholds_of
from metering.quantity import ONE, render

nanos = st.integers(0, 20 * ONE)
marks = st.lists(nanos, max_size=5, unique=True).map(
    lambda levels: [Threshold(at, "voice", render(at), "1") for at in sorted(levels)]
)


def told(thresholds: list[Threshold], levels: list[int]) -> list[Threshold]:
    """All that is passed on the way through `levels`, from nothing."""
    found = passed(thresholds, None, levels[0])
    for before, now in pairwise(levels):
        found += passed(thresholds, before, now)
    return found


@given(thresholds=marks, steps=st.lists(nanos, min_size=1, max_size=12), cuts=st.lists(st.booleans(), max_size=12))
def test_of_what_only_grows_each_threshold_is_passed_once_wherever_it_is_cut(
    thresholds: list[Threshold], steps: list[int], cuts: list[bool]
) -> None:
    levels = list(accumulate(steps))
    looked = [at for at, cut in zip(levels[:-1], cuts + [True] * len(levels), strict=False) if cut] + levels[-1:]
    assert told(thresholds, looked) == [threshold for threshold in thresholds if threshold.at <= levels[-1]]


@given(thresholds=marks, levels=st.lists(nanos, min_size=1, max_size=12))
def test_of_what_goes_up_and_down_nothing_reached_is_left_out_and_nothing_else_told(
    thresholds: list[Threshold], levels: list[int]
) -> None:
    reached = {threshold for threshold in thresholds if threshold.at <= max(levels)}
    assert set(told(thresholds, levels)) == reached


@given(
    limit=st.decimals(min_value=0, max_value=10**12, places=9),
    share=st.decimals(min_value=0, max_value=2, places=9),
    used=st.integers(0, 3 * 10**12 * ONE),
)
def test_a_counter_is_at_a_threshold_exactly_when_it_is_at_that_share_of_the_limit(
    limit: Decimal, share: Decimal, used: int
) -> None:
    catalog = parse_catalog(f"""
meters: {{n: {{event: e, aggregation: sum, value: $.n, scale: 9}}}}
features: {{f: {{meter: n}}}}
plans: {{p: {{entitlements: {{f: {{limit: "{limit:f}", period: day, alert_at: ["{share:f}"]}}}}}}}}
""")
    (threshold,) = thresholds_of(catalog, "p")["n", "day"]
    exactly = int(limit.scaleb(9)) * int(share.scaleb(9))  # both whole: no division, no rounding
    assert (threshold.at <= used) == (exactly <= used * ONE)
