"""A check from the question to the JSON of its answer, without HTTP."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Sequence

import msgspec

from bench.gate import CATALOG, FEATURE, METER, PLAN, used_by
from bench.plan import WINDOWS
from bench.windows import percentile
from enforcement.decided import Tally
from enforcement.gate import Check, Gate
from enforcement.mirror import Epoch, Mirror, Reading
from metering import keys
from metering.catalog import parse_catalog
from metering.clock import SystemClock, iso
from metering.entitlement import compile_snapshot, encode
from metering.feed import FeedMessage
from metering.partition import partition_of
from metering.period import BillingTerm, PeriodKind, period_of
from metering.quantity import ONE

_EPOCH = Epoch(1, 8)
_AT_ONCE = 10_000
_SEQUENCE = "1"
_KINDS: tuple[PeriodKind, ...] = ("billing", "day", "hour")


def check_in_process(tenants: int, seconds: float, counting: float) -> list[float]:
    """µs a check takes (median) in each window, tenants drawn at random.

    After every 10,000 checks, which come within two seconds where 5,000 do in one, each partition tells that it stands
    where it stands, and what this share of its tenants has used. Raises RuntimeError on a wrong answer.
    """
    house = _House(tenants)
    drawing = random.Random(7)
    house.ask([house.checks[0]])
    house.ask(drawing.choices(house.checks, k=_AT_ONCE))
    found = []
    for _ in range(WINDOWS):
        took: list[int] = []
        end = time.monotonic() + seconds / WINDOWS
        while time.monotonic() < end:
            house.tell(drawing.sample(house.names, round(tenants * counting)))
            took += house.ask(drawing.choices(house.checks, k=_AT_ONCE))
        found.append(percentile(took, 0.5) / 1000)
    return found


class _House:
    """A gate that knows everybody. Each tenant's months begin at an instant of its own."""

    def __init__(self, tenants: int) -> None:
        self._clock = SystemClock()
        self._now = self._clock.now_ms()
        self.names = [f"tenant-{number}" for number in range(tenants)]
        self.checks = [Check(name, FEATURE, ONE) for name in self.names]
        self._terms = {
            name: (BillingTerm(0, self._now - number * 60_000, "Europe/Berlin"),)
            for number, name in enumerate(self.names)
        }
        self._mirror = Mirror(tenants)
        self._mirror.move(_EPOCH)
        self._applied = 1
        self._fill()
        self._gate = Gate(self._mirror, _nobody_is_unknown, self._clock, Tally())

    def ask(self, checks: Sequence[Check]) -> list[int]:
        """What each check took, ns."""
        took, now, text = [], time.perf_counter_ns, b""
        for check in checks:
            began = now()
            text = self._gate.encoded(check) or b""
            took.append(now() - began)
        said = msgspec.json.decode(text)
        expected = ("within-limit", used_by(checks[-1].tenant), "memory", iso(self._now))
        if (said["reason"], said["used"], said["source"], said["as_of"]) != expected:
            raise RuntimeError(f"the gate does not answer as expected: {said}")
        return took

    def tell(self, counted: Collection[str]) -> None:
        """A message of every feed, in which these have used something."""
        self._mirror.plans_fresh = self._now = self._clock.now_ms()
        before, self._applied = self._applied, self._applied + 1
        at_home: dict[int, dict[str, Sequence[str | None]]] = {number: {} for number in range(_EPOCH.partitions)}
        for name in counted:
            texts = [part for counter in self._counters(name).items() for part in counter]
            at_home[partition_of(name, _EPOCH.partitions)][name] = texts
        for number, counters in at_home.items():
            self._mirror.hear(
                number, FeedMessage(before, self._applied, self._now, self._now, _SEQUENCE, counters), self._now
            )

    def _counters(self, name: str) -> dict[str, str]:
        starts = [(kind, period_of(kind, self._now, self._terms[name]).start) for kind in _KINDS]
        return {keys.counter_field(METER, kind, start): used_by(name) for kind, start in starts}

    def _fill(self) -> None:
        self._mirror.plans_fresh = now = self._now
        catalog = parse_catalog(CATALOG.read_text())
        homes: dict[int, list[str]] = {number: [] for number in range(_EPOCH.partitions)}
        for name, terms in self._terms.items():
            plan = encode(compile_snapshot(name, "active", PLAN, terms, catalog, 1))
            self._mirror.plan(name, plan).seen = now
            homes[partition_of(name, _EPOCH.partitions)].append(name)
        for number, names in homes.items():
            counters = {name: self._counters(name) for name in names}
            counted_by = {name: self._terms[name] for name in names}
            nothing_held: dict[str, dict[str, str]] = {name: {} for name in names}
            self._mirror.accepts(number, Reading(self._applied, _SEQUENCE, counters, counted_by, nothing_held, 0, now))
            self._mirror.verified(number, self._mirror.partitions[number].gaps, now, now)


async def _nobody_is_unknown(tenants: Collection[str]) -> bool:
    raise AssertionError(f"unknown: {tenants}")
