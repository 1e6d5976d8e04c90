"""Schedules made to measure: those that once found a mistake in the writer, and those for rules chance hardly meets.

Each is clean; without its rule (tests/machine/mutations.py) it fails.
"""

from __future__ import annotations

from metering.clock import DAY_MS, HOUR_MS, MINUTE_MS
from tests.machine.schedule import Action
from tests.machine.senders import Spec

_TO_THE_END: Action = ("step", 0, 60)


def _call(id: int, ago: int = 0) -> Spec:
    return ("new", id, ago, "call", "1.5", "a")


CLOSED_EPOCH: list[Action] = [
    ("begin", 2),
    ("epoch", 1),
    ("send", 1, "stale", (_call(1),)),
]
"""What stands behind a closing frame moved the clock of the next epoch."""

OTHER_TERMS: list[Action] = [
    ("begin", 1),
    ("send", 0, "gateway", (_call(1),)),
    ("start", -1, 0, 10),
    ("until", 0, "2"),
    ("terms", 0, 15, "+05:30"),
    ("start", -1, 0, 3),
    ("until", 1, "3d"),
    ("step", 0, 13),
]
"""A writer that woke at step 4 applied counters by terms that another had replaced meanwhile."""

NEW_TERMS: list[Action] = [
    ("begin", 1),
    ("send", 0, "gateway", (_call(1),)),
    ("start", -1, 0, 10),
    _TO_THE_END,
    ("crash", 0),
    ("terms", 0, 15, "UTC"),
]
"""Terms change while no writer runs."""

TERMS_AMID_A_BATCH: list[Action] = [
    ("begin", 1),
    ("send", 0, "gateway", (_call(1),)),
    ("start", -1, 0, 10),
    _TO_THE_END,
    ("send", 0, "gateway", (_call(2),)),
    ("step", 0, 2),
    ("terms", 0, 15, "+05:30"),
    ("hear", 0),
    _TO_THE_END,
]
"""A batch that had asked already was counted by new terms, beside counters of the old ones."""

TERMS_TWICE: list[Action] = [
    ("begin", 1),
    ("send", 0, "gateway", (_call(1),)),
    ("start", -1, 0, 10),
    _TO_THE_END,
    ("terms", 0, 15, "+05:30"),
    ("hear", 0),
    ("step", 0, 4),
    ("terms", 0, 9, "UTC"),
    ("hear", 0),
    ("send", 0, "gateway", (_call(2),)),
    _TO_THE_END,
    ("counted", 0),
]
"""Terms that changed again while their tenant was being counted anew were taken for counted."""

OLDER_LEDGER: list[Action] = [
    ("begin", 1),
    ("send", 0, "gateway", (_call(5, 31 * HOUR_MS),)),
    ("start", -1, 0, 10),
    *[_TO_THE_END] * 5,
    ("old ledger", 0, 0),
    ("pass", 36 * DAY_MS),
    ("send", 0, "gateway", (("again", 0, "data", 0, "25.0"),)),
    ("step", 0, 13),
]
"""An older ledger was not noticed where nothing had come since the writer last looked at it."""

OPEN_AGAIN: list[Action] = [
    ("begin", 1),
    ("send", 0, "gateway", (_call(1),)),
    ("epoch", 1),
    ("start", -2, 0, 10),
    _TO_THE_END,
    ("start", -1, 0, 10),
    ("step", 1, 60),
    ("crash", 0),
    ("crash", 0),
    ("old ledger", 0, 0),
    ("flush",),
    ("start", -1, 0, 10),
    _TO_THE_END,
    ("send", 0, "gateway", (("again", 0, "time", 3 * HOUR_MS, "1.5"),)),
    _TO_THE_END,
]
"""The next epoch went on without the end of one that had been closed, when the ledger came back older than that."""

EARLY_EVENT: list[Action] = [
    ("begin", 1),
    ("pass", 119 * MINUTE_MS),
    ("send", 0, "gateway", (_call(1, -5 * MINUTE_MS),)),
    ("start", -1, 0, 10),
    _TO_THE_END,
    ("pass", 24 * HOUR_MS + 2 * MINUTE_MS),
    ("send", 0, "gateway", (("again", 0, "no", 0, "1.5"),)),
    _TO_THE_END,
]
"""An event of the next bucket's time, counted in the last minute of a bucket, sent again when that bucket is gone."""

TWO_REBUILDS: list[Action] = [
    ("begin", 1),
    ("send", 0, "gateway", (_call(1),)),
    ("start", -1, 0, 10),
    _TO_THE_END,
    ("send", 0, "gateway", (_call(2),)),
    ("until", 0, "2"),
    ("flush",),
    ("start", -1, 0, 10),
    ("step", 1, 21),
    ("until", 0, "3d"),
    ("start", -1, 0, 10),
    ("step", 2, 25),
    ("step", 1, 3),
    ("step", 2, 60),
]
"""A rebuild at record 0 freezes between its chunks, another at record 1 begins, the first one wakes."""

OVER_A_HOLE: list[Action] = [
    ("begin", 1),
    ("send", 0, "gateway", (_call(1),)),
    ("start", -1, 0, 10),
    _TO_THE_END,
    ("send", 0, "gateway", (("again", 0, "no", 0, "1.5"), _call(2))),
    _TO_THE_END,
    ("crash", 0),
    ("old ledger", 0, 2),
    ("replay", -1, 0, (0.9, 0.9), 10, True, 60),
]
"""A replay of a record that repeats an event whose row has got lost."""
