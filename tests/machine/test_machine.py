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
    "a writer that wakes at step 4 applies counters by terms that another has replaced": [
        ("begin", 1),
        ("send", 0, "gateway", (call(1),)),
        ("start", -1, 0, 10),
        ("until", 0, "3d"),
        ("terms", 0, 15, "+05:30"),
        ("start", -1, 0, 3),
        ("until", 1, "3d"),
        ("step", 0, 13),
    ],
    "an older ledger is not noticed while nothing comes": [
        ("begin", 1),
        ("send", 0, "gateway", (("new", 5, 111636432, "visit", "0.0", "b"),)),
        ("start", -1, 0, 10),
        *[("step", 0, 60)] * 5,
        ("old ledger", 0, 0),
        ("pass", 3110400000),
        ("send", 0, "gateway", (("again", 0, "data", 3000000, "25.0"),)),
        ("step", 0, 13),
    ],
}


@pytest.mark.parametrize("actions", FOUND.values(), ids=FOUND.keys())
def test_a_schedule_that_once_failed_is_clean(actions: list[Action]) -> None:
    assert play(actions) is None
