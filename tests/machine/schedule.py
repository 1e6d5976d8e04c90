"""Schedules: what happens, in which order, drawn from a seed."""

from __future__ import annotations

from random import Random
from typing import Any

from metering.clock import DAY_MS, HOUR_MS, MINUTE_MS
from tests.machine.senders import IDS
from tests.machine.world import TENANTS

Action = tuple[Any, ...]
"""Its name and its arguments: plain values that make sense in any state, so that actions can be left out."""

EFFECTS = ("2", "3a", "3b", "3c", "3d", "4", "5")
_AGO = (
    -9 * MINUTE_MS,
    0,
    MINUTE_MS,
    50 * MINUTE_MS,
    3 * HOUR_MS,
    20 * HOUR_MS,
    31 * HOUR_MS,
    4 * DAY_MS,
    33 * DAY_MS,
    80 * DAY_MS,
)
_GAPS = (MINUTE_MS, 11 * MINUTE_MS, 50 * MINUTE_MS, 3 * HOUR_MS, 6 * HOUR_MS, 25 * HOUR_MS, 40 * HOUR_MS, 36 * DAY_MS)
_CHANGES = ("no", "no", "time", "type", "data", "tenant")
_MEANT = 60
PROCESSES = 3


def draw(seed: int) -> list[Action]:
    """The schedule of a seed."""
    random = Random(seed)
    actions: list[Action] = [("begin", random.choice((1, 1, 2)))]
    stressed = random.choice(_STRESSES)
    weights = [weight * (4 if kind in stressed else 1) for kind, weight in zip(_KINDS, _WEIGHTS, strict=True)]
    for _ in range(random.randint(6, 26)):
        actions.append(_one(random, random.choices(_KINDS, weights)[0]))
    return actions


def _one(random: Random, kind: str) -> Action:
    if kind == "send":
        events = tuple(_event(random) for _ in range(random.choice((1, 1, 2, 3, 5))))
        form = random.choices(("gateway", "foreign", "stale", "astray"), (80, 8, 8, 4))[0]
        return ("send", random.randrange(len(TENANTS)), form, events)
    if kind == "pass":
        return ("pass", random.choice(_GAPS))
    if kind == "start":
        return ("start", random.choice((-1, -1, -1, -2)), random.randrange(2), random.choice((1, 2, 3, 10)))
    if kind == "step":
        return ("step", random.randrange(PROCESSES), random.choice((1, 2, 3, 5, 8, 13, 30, 60)))
    if kind == "until":
        return ("until", random.randrange(PROCESSES), random.choice(EFFECTS))
    if kind == "fail":
        return ("fail", random.randrange(PROCESSES), random.choice(("refused", "unheard")))
    if kind in ("crash", "stop", "hear"):
        return (kind, random.randrange(PROCESSES))
    if kind == "count anew":
        return (kind, random.randrange(PROCESSES), random.randrange(len(TENANTS)))
    if kind == "old ledger":
        return ("old ledger", random.randrange(4), random.choice((0, 0, 1, 2, 3)))
    if kind == "power cut":
        return ("power cut", tuple(back for back in range(8) if random.random() < 0.4))
    if kind == "trim":
        return ("trim", random.choice((0, 1)), random.random(), random.random() < 0.4)
    if kind == "catalog":
        return ("catalog",)
    if kind == "terms":
        return ("terms", random.randrange(len(TENANTS)), random.randrange(40), random.choice(("UTC", "+05:30")))
    if kind == "epoch":
        return ("epoch", random.choice((1, 2, 3)))
    if kind == "replay":
        stretch = (random.choice((0.0, random.random())), random.choice((0.999, random.random())))
        how = (random.choice((1, 2, 10)), random.random() < 0.5, random.choice((3, 8, 20, 60)))
        return (kind, random.choice((-1, -1, -1, -2)), random.randrange(2), stretch, *how)
    return (kind,)


_OFTEN = {
    60: ("send",),
    34: ("step",),
    17: ("pass", "start", "until"),
    12: ("crash",),
    8: ("replay",),
    6: ("fail", "save redis", "old redis", "save ledger"),
    4: ("old ledger", "power cut", "catalog", "terms", "epoch"),
    3: ("stop", "hear", "flush", "merge", "trim", "rebuild", "count anew"),
}
_STRESSES: tuple[tuple[str, ...], ...] = (
    (),
    ("start", "until", "rebuild", "flush"),
    ("save ledger", "old ledger", "power cut", "merge"),
    ("save redis", "old redis", "flush"),
    ("until", "catalog", "terms", "hear", "count anew"),
    ("start", "epoch"),
    ("trim", "old ledger"),
    ("replay", "step", "old ledger"),
    ("pass",),
)
"""What happens more often than usual in a schedule: rules meet those that hurt them."""
_KINDS = [kind for kinds in _OFTEN.values() for kind in kinds]
_WEIGHTS = [weight for weight, kinds in _OFTEN.items() for _ in kinds]


def _event(random: Random) -> tuple[Any, ...]:
    kind = random.choices(("new", "again", "void", "bad"), (50, 30, 17, 3))[0]
    n = str(random.randrange(200) / 4)
    if kind == "new":
        ago = None if random.random() < 0.15 else random.choice(_AGO) + random.randrange(MINUTE_MS)
        type = random.choices(("call", "visit", "other"), (8, 2, 1))[0]
        return ("new", random.randrange(IDS), ago, type, n, random.choice("abc"))
    if kind == "again":
        return ("again", random.randrange(_MEANT), random.choice(_CHANGES), random.choice(_AGO), n)
    if kind == "void":
        aim = random.choices(("sent", "future", "void"), (7, 2, 1))[0]
        return ("void", random.randrange(6), aim, random.randrange(_MEANT), random.random() < 0.4)
    return ("bad", random.choice(("no value", "too early", "json", "reserved", "void")), random.randrange(IDS))
