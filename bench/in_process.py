"""`check_in_process`: a check from the question to the JSON of its answer, without HTTP."""

from __future__ import annotations

import random
import time
from collections.abc import Collection

import msgspec

from bench.gate import CATALOG, FEATURE, METER, PLAN, used_by
from bench.plan import WINDOWS
from bench.windows import percentile
from enforcement import answers
from enforcement.decided import Tally
from enforcement.gate import Check, Gate
from enforcement.mirror import Epoch, Mirror, Reading
from metering import keys
from metering.catalog import parse_catalog
from metering.clock import SystemClock
from metering.entitlement import compile_snapshot, encode
from metering.partition import partition_of
from metering.period import BillingTerm, period_of
from metering.quantity import ONE

_EPOCH = Epoch(1, 8)
_AT_ONCE = 10_000


def check_in_process(tenants: int, seconds: float) -> list[float]:
    """µs a check takes (median) in each window, tenants drawn at random. Raises RuntimeError on a wrong answer."""
    clock = SystemClock()
    names = [f"tenant-{number}" for number in range(tenants)]
    gate = Gate(_mirror(names, clock.now_ms()), _nobody_is_unknown, clock, Tally())
    checks = [Check(name, FEATURE, ONE) for name in names]
    (first,) = [gate.answer(checks[0])]
    if first is None or (first.reason, first.used, first.source) != ("within-limit", used_by(names[0]), "memory"):
        raise RuntimeError(f"the gate does not answer as expected: {first}")
    drawing = random.Random(7)
    _took(gate, drawing.choices(checks, k=_AT_ONCE))
    found = []
    for _ in range(WINDOWS):
        took: list[int] = []
        end = time.monotonic() + seconds / WINDOWS
        while time.monotonic() < end:
            took += _took(gate, drawing.choices(checks, k=_AT_ONCE))
        found.append(percentile(took, 0.5) / 1000)
    return found


def _took(gate: Gate, checks: Collection[Check]) -> list[int]:
    took, now = [], time.perf_counter_ns
    for check in checks:
        began = now()
        decision = gate.answer(check)
        assert decision is not None
        msgspec.json.encode(answers.document(decision))
        took.append(now() - began)
    return took


def _mirror(names: Collection[str], now: int) -> Mirror:
    """Everybody known and fresh."""
    mirror = Mirror(len(names))
    mirror.move(_EPOCH)
    mirror.plans_fresh = now
    catalog, terms = parse_catalog(CATALOG.read_text()), (BillingTerm(0, now, "Europe/Berlin"),)
    periods = [(kind, period_of(kind, now, terms).start) for kind in ("billing", "day", "hour")]
    homes: dict[int, list[str]] = {number: [] for number in range(_EPOCH.partitions)}
    for name in names:
        mirror.plan(name, encode(compile_snapshot(name, "active", PLAN, terms, catalog, 1))).seen = now
        homes[partition_of(name, _EPOCH.partitions)].append(name)
    for number, at_home in homes.items():
        counters = {
            name: {keys.counter_field(METER, kind, start): used_by(name) for kind, start in periods} for name in at_home
        }
        mirror.accepts(number, Reading(1, "", counters, {name: {} for name in at_home}, 0))
        mirror.verified(number, mirror.partitions[number].gaps, now)
    return mirror


async def _nobody_is_unknown(tenants: Collection[str]) -> bool:
    raise AssertionError(f"unknown: {tenants}")
