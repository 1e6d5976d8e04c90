"""A few thousand schedules; `python -m tests.machine` runs as many as one likes."""

from __future__ import annotations

import pytest

from tests.machine import measured
from tests.machine.play import failing, play, report
from tests.machine.schedule import Action

SCHEDULES, PARTS = 3000, 10


@pytest.mark.parametrize("part", range(PARTS))
def test_after_any_schedule_ledger_and_counters_are_what_a_reader_of_the_log_has(part: int) -> None:
    bad = failing(range(part * SCHEDULES // PARTS, (part + 1) * SCHEDULES // PARTS))
    assert not bad, "\n".join(map(report, bad[:3]))


NAMES = ("CLOSED_EPOCH", "OTHER_TERMS", "TERMS_AMID_A_BATCH", "TERMS_TWICE", "OLDER_LEDGER", "OPEN_AGAIN")
FOUND = {name: getattr(measured, name) for name in NAMES}


@pytest.mark.parametrize("actions", FOUND.values(), ids=FOUND.keys())
def test_a_schedule_that_once_failed_is_clean(actions: list[Action]) -> None:
    assert play(actions) is None
