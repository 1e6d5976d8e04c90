"""A few thousand schedules; `python -m tests.machine` runs as many as one likes."""

from __future__ import annotations

import pytest

from tests.machine.play import failing, play, report
from tests.machine.schedule import Action

SCHEDULES, PARTS = 3000, 10


@pytest.mark.parametrize("part", range(PARTS))
def test_after_any_schedule_ledger_and_counters_are_what_a_reader_of_the_log_has(part: int) -> None:
    bad = failing(range(part * SCHEDULES // PARTS, (part + 1) * SCHEDULES // PARTS))
    assert not bad, "\n".join(map(report, bad[:3]))


def call(id: int) -> tuple[object, ...]:
    return ("new", id, 0, "call", "1.5", "a")


FOUND: dict[str, list[Action]] = {
    "what stands behind a closing frame moves the clock of the next epoch": [
        ("begin", 2),
        ("epoch", 1),
        ("send", 1, "stale", (call(1),)),
    ],
}


@pytest.mark.parametrize("actions", FOUND.values(), ids=FOUND.keys())
def test_a_schedule_that_once_failed_is_clean(actions: list[Action]) -> None:
    assert play(actions) is None
