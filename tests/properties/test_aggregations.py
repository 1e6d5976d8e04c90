"""Merging is associative and commutative with "no events" as its unit: order and grouping of events never matter."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering import counter
from metering.aggregation import AGGREGATIONS, NAMES, Aggregation, Sample, State, merge
from metering.position import Position
from metering.quantity import ONE, from_text, render

POSITIONS = st.builds(Position, st.integers(0, 2), st.integers(0, 3), st.integers(0, 5), st.integers(0, 3))
SAMPLES = st.lists(
    st.builds(
        Sample,
        st.integers(-(10**27), 10**27),
        st.sampled_from(["de", "en", "fr", ""]),
        st.integers(0, 5),
        POSITIONS,
    ),
    unique_by=lambda sample: sample.position,  # an event has a place of its own
    max_size=8,
)


def total(aggregation: Aggregation, samples: list[Sample]) -> State | None:
    return reduce(lambda left, right: merge(aggregation, left, right), map(aggregation.of, samples), None)


@pytest.mark.parametrize("name", NAMES)
@given(samples=SAMPLES, cuts=st.lists(st.integers(0, 8), max_size=3), shuffled=st.randoms(use_true_random=False))
def test_any_order_and_grouping_gives_the_same_state(
    name: str, samples: list[Sample], cuts: list[int], shuffled: object
) -> None:
    aggregation = AGGREGATIONS[name]
    other = list(samples)
    shuffled.shuffle(other)  # type: ignore[attr-defined]
    edges = [0, *sorted(cuts), len(other)]
    groups = [total(aggregation, other[start:end]) for start, end in pairwise(edges)]
    shuffled.shuffle(groups)  # type: ignore[attr-defined]
    merged = reduce(lambda left, right: merge(aggregation, left, right), groups, None)
    assert merged == total(aggregation, samples)


@pytest.mark.parametrize("name", NAMES)
@given(samples=SAMPLES.filter(lambda samples: len(samples) >= 3))
def test_merging_is_associative_and_commutative(name: str, samples: list[Sample]) -> None:
    aggregation = AGGREGATIONS[name]
    a, b, c = map(aggregation.of, samples[:3])
    assert aggregation.merge(aggregation.merge(a, b), c) == aggregation.merge(a, aggregation.merge(b, c))
    assert aggregation.merge(a, b) == aggregation.merge(b, a)


@pytest.mark.parametrize("name", NAMES)
def test_no_events_are_the_unit(name: str) -> None:
    aggregation = AGGREGATIONS[name]
    state = aggregation.of(Sample(ONE, "de", 1, Position(1, 0, 0, 0)))
    assert merge(aggregation, None, state) == state
    assert merge(aggregation, state, None) == state
    assert merge(aggregation, None, None) is None


@given(samples=SAMPLES.filter(bool), scale=st.integers(0, 9))
def test_results_are_what_counting_by_hand_gives(samples: list[Sample], scale: int) -> None:
    def result(name: str) -> str | None:
        return AGGREGATIONS[name].result(total(AGGREGATIONS[name], samples), scale)

    values = [sample.nanos for sample in samples]
    assert result("sum") == render(sum(values))
    assert result("count") == str(len(values))
    assert result("min") == render(min(values))
    assert result("max") == render(max(values))
    assert result("unique") == str(len({sample.value for sample in samples}))
    assert result("latest") == render(max(samples, key=lambda sample: (sample.time, sample.position)).nanos)
    average = result("avg")
    assert average is not None
    exact = Fraction(sum(values), len(values) * ONE)
    assert abs(Fraction(average) - exact) <= Fraction(1, 2 * 10 ** (scale + 6))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "unique"])
@given(samples=SAMPLES.filter(bool), scale=st.integers(0, 9))
def test_a_counter_in_redis_reads_back_as_the_state_and_says_its_result(
    name: str, samples: list[Sample], scale: int
) -> None:
    state = total(AGGREGATIONS[name], samples)
    text = counter.encode(name, state)
    assert counter.decode(name, text) == state
    assert counter.decode_result(name, text, scale) == AGGREGATIONS[name].result(state, scale)


@given(st.integers(0, 10**6), st.booleans())
def test_a_counter_of_distinct_values_reads_back(size: int, approximate: bool) -> None:
    state = counter.Distinct(size, approximate)
    text = counter.encode("unique", state)
    assert counter.decode("unique", text) == state
    assert from_text(counter.decode_result("unique", text, 0)) == size * ONE
