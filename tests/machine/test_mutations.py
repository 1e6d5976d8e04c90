"""A machine that finds nothing proves nothing: with a rule of ledger.md taken out, schedules fail."""

from __future__ import annotations

import pytest

from tests.machine.mutations import FOUND_BY_CHANCE, MADE_TO_MEASURE
from tests.machine.play import play, quiet
from tests.machine.schedule import draw

_SEEDS = 8000


@pytest.mark.parametrize("rule", FOUND_BY_CHANCE)
def test_without_a_rule_of_the_ledger_some_schedule_fails(rule: str) -> None:
    quiet()
    with FOUND_BY_CHANCE[rule]():
        assert any(play(draw(seed)) for seed in range(_SEEDS))


@pytest.mark.parametrize("rule", MADE_TO_MEASURE)
def test_without_a_rule_that_chance_rarely_meets_its_own_schedule_fails(rule: str) -> None:
    quiet()
    mutation, schedule = MADE_TO_MEASURE[rule]
    assert play(schedule) is None
    with mutation():
        assert play(schedule)
