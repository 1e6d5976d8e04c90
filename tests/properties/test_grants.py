"""Whatever is granted and used: burning is exact, ordered, monotone, and does not depend on the order of the input."""

from __future__ import annotations

import random
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from metering.grants import ClosedPeriod, Grant, burn_down
from metering.period import FOREVER, Period

LENGTH = 10
QUANTITIES = st.integers(0, 30) | st.integers(0, 10**27)


class Story(NamedTuple):
    """Grants with ids of their own, and what was used in periods that follow each other."""

    grants: list[Grant]
    closed: list[ClosedPeriod]
    used: list[int]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    limits = draw(st.lists(st.none() | QUANTITIES, max_size=6))
    instants = st.integers(0, LENGTH * 7)
    grants = []
    for number in range(draw(st.integers(0, 5))):
        since = draw(instants)
        until = draw(st.just(FOREVER) | st.integers(since + 1, since + 1 + LENGTH * 7))
        amount, rollover = draw(QUANTITIES) + 1, draw(st.none() | QUANTITIES)
        grants.append(Grant(str(number), amount, since, until, draw(st.integers(0, 2)), rollover))
    closed = [ClosedPeriod(Period(i * LENGTH, (i + 1) * LENGTH), limit) for i, limit in enumerate(limits)]
    return Story(grants, closed, [draw(QUANTITIES) for _ in closed])


def is_valid(grant: Grant, period: Period) -> bool:
    return grant.since < period.end and grant.until > period.start


@given(stories())
def test_no_more_is_burnt_than_was_granted_and_no_less_is_left_than_none(story: Story) -> None:
    rests = burn_down(*story)
    for grant in story.grants:
        assert rests[grant.id].burnt >= 0
        assert 0 <= rests[grant.id].left <= grant.amount - rests[grant.id].burnt


@given(stories())
def test_each_period_burns_what_is_above_its_limit_as_far_as_there_is_something_and_in_order(story: Story) -> None:
    for n, (period, limit) in enumerate(story.closed):
        before = burn_down(story.grants, story.closed[:n], story.used[:n])
        after = burn_down(story.grants, story.closed[: n + 1], story.used[: n + 1])
        valid = [grant for grant in story.grants if is_valid(grant, period)]
        burnt = {grant.id: after[grant.id].burnt - before[grant.id].burnt for grant in story.grants}
        over = 0 if limit is None else max(0, story.used[n] - limit)
        assert sum(burnt.values()) == min(over, sum(before[grant.id].left for grant in valid))
        rank = {grant.id: (grant.priority, grant.until, grant.since, grant.id) for grant in valid}
        for earlier in valid:
            for later in valid:
                if rank[earlier.id] < rank[later.id] and burnt[later.id]:
                    assert burnt[earlier.id] == before[earlier.id].left, (
                        "nothing is begun before all ahead of it is gone"
                    )
        for grant in story.grants:
            if grant.since < period.end and grant.rollover is not None:
                assert after[grant.id].left <= grant.rollover


@given(stories(), st.data())
def test_more_usage_never_leaves_more(story: Story, data: st.DataObject) -> None:
    more = [used + data.draw(QUANTITIES) for used in story.used]
    less_left, left = burn_down(story.grants, story.closed, more), burn_down(*story)
    assert all(less_left[id].left <= left[id].left for id in left)


@given(stories(), st.randoms(use_true_random=False))
def test_the_order_in_which_grants_are_given_does_not_matter(story: Story, chance: random.Random) -> None:
    shuffled = list(story.grants)
    chance.shuffle(shuffled)
    assert burn_down(shuffled, story.closed, story.used) == burn_down(*story)
