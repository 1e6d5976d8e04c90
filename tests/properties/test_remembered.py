"""What is said again is what would be worked out anew, whatever happened since; and it is counted like that."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from enforcement import answers
from enforcement.decided import Tally
from enforcement.gate import Check, Gate
from enforcement.mirror import Epoch, Mirror, Reading
from metering import keys
from metering.catalog import parse_catalog
from metering.clock import HOUR_MS, parse_iso
from metering.entitlement import CompiledGrant, TenantStatus, compile_snapshot, encode
from metering.feed import FeedMessage
from metering.period import DEFAULT_TERMS, PERIOD_KINDS, period_of
from metering.quantity import ONE
from tests.support import SetClock

NOW = parse_iso("2026-11-23T10:59:58Z")
CATALOG = parse_catalog("""
meters:
  seconds: {event: call, aggregation: sum, value: $.seconds}
features:
  voice: {meter: seconds, reservable: true}
  night: {meter: seconds}
  calls: {meter: seconds, shadow: true}
  language: {}
  upload: {static: true}
  api: {meter: seconds}
plans:
  free:
    entitlements:
      voice: {limit: 4, period: billing, max_staleness: 3, limits: [{limit: 3, period: hour}]}
      night: {limit: 5, period: hour}
      calls: {limit: 2, period: day, on_exceed: block}
      language: {groups: {language: [ar, de]}}
  paid:
    entitlements:
      voice: {limit: 6, period: day, on_exceed: warn}
      night: {limit: 5, period: hour}
      calls: {limit: 8, period: lifetime}
      language: {}
      upload: {value: 3}
      api: {limit: 9, period: month, rates: [{limit: 2, period: second}]}
""")
TENANT = "grand"


class World:
    """One tenant on one partition, and a gate that is asked of it both ways."""

    def __init__(self) -> None:
        self.clock = SetClock(NOW)
        self.mirror = Mirror(2)
        self.mirror.move(Epoch(1, 1))
        self.mirror.plans_fresh = NOW
        self.plan = "free"
        self.status: TenantStatus = "active"
        self.grants: dict[str, tuple[CompiledGrant, ...]] = {}
        self.trial_ends: int | None = None
        self.used = 0
        self.applied = self.held = 0
        self.tallies = Tally(), Tally()
        self.remembering, self.forgetful = [Gate(self.mirror, _unasked, self.clock, tally) for tally in self.tallies]
        self._planned()
        self.mirror.accepts(0, Reading(0, "a", {TENANT: {}}, {TENANT: DEFAULT_TERMS}, {TENANT: {}}, 0, NOW))
        self.mirror.verified(0, self.mirror.partitions[0].gaps, NOW, NOW)

    def _planned(self) -> None:
        text = encode(
            compile_snapshot(TENANT, self.status, self.plan, DEFAULT_TERMS, CATALOG, 1, self.trial_ends, self.grants)
        )
        self.mirror.plan(TENANT, text)

    def change(self, plan: str, status: TenantStatus, trial: int | None, grant: tuple[int, int] | None) -> None:
        now = self.clock.at
        self.plan, self.status = plan, status
        self.trial_ends = None if trial is None else now + trial
        since_until = [] if grant is None else [CompiledGrant("g", "2", now + grant[0], now + sum(grant))]
        self.grants = dict.fromkeys(("voice", "night", "calls"), tuple(since_until))
        self._planned()

    def wait(self, ms: int) -> None:
        self.clock.advance(ms)

    def beat(self, count: int) -> None:
        """The writer tells that `count` seconds more were used, or none."""
        self.used += count
        now, before = self.clock.at, self.applied
        self.applied += bool(count)
        periods = [(kind, period_of(kind, now).start) for kind in PERIOD_KINDS]
        texts = [
            part for kind, start in periods for part in (keys.counter_field("seconds", kind, start), str(self.used))
        ]
        self.mirror.plans_fresh = now
        self.mirror.hear(0, FeedMessage(before, self.applied, now, now, "a", {TENANT: texts} if count else {}), now)

    def hold(self, units: int, ms: int) -> None:
        """A hold is granted or, without units, ends."""
        self.held += 1
        text = f"held {units} - {self.clock.at + ms}" if units else ""
        self.mirror.hear_hold(0, f"{self.held} {TENANT} voice:one {text}".encode(), self.clock.at)

    def ask(self, feature: str, amount: int, groups: Mapping[str, str]) -> None:
        check = Check(TENANT, feature, amount * ONE, groups)
        remembered, anew = self.remembering.encoded(check), self.forgetful.answer(check)
        assert remembered is not None
        assert anew is not None
        assert msgspec.json.decode(remembered) == answers.document(anew)


async def _unasked(tenants: Collection[str]) -> bool:
    raise AssertionError(f"unknown: {tenants}")


FEATURES = st.sampled_from(["voice", "voice", "night", "calls", "language", "upload", "api", "nothing-of-the-kind"])
OFTEN = "the one that is asked about all the time"
SOON = st.sampled_from([1, 500, 1_999, 2_000, 3_000, 10_000])
STEPS = st.one_of(
    st.tuples(
        st.just("ask"),
        st.just(OFTEN) | FEATURES,
        st.integers(0, 2),
        st.sampled_from([{}, {"language": "ar"}, {"language": "en"}]),
    ),
    st.tuples(st.just("wait"), SOON | st.just(HOUR_MS)),
    st.tuples(st.just("beat"), st.integers(0, 2)),
    st.tuples(st.just("hold"), st.integers(0, 2), SOON),
    st.tuples(
        st.just("change"),
        st.sampled_from(["free", "paid"]),
        st.sampled_from(["active", "active", "suspended"]),
        st.none() | SOON,
        st.none() | st.tuples(st.sampled_from([-1, 0, 1_000]), SOON),
    ),
)


@settings(max_examples=500)
@example([("beat", 2), ("ask", "voice", 2, {})], "voice")
@example([("change", "free", "active", None, (1_000, 3_000)), ("wait", 1_999)], "voice")
@example([("wait", 10_000), ("beat", 0)], "voice")
@given(st.lists(STEPS, max_size=40), FEATURES)
def test_what_is_said_again_is_what_would_be_worked_out_anew(steps: list[tuple[Any, ...]], often: str) -> None:
    world = World()
    for action, *rest in steps:
        world.ask(often, 1, {})
        getattr(world, action)(*(often if one == OFTEN else one for one in rest))
        world.ask(often, 1, {})
    first, second = (tally.take() for tally in world.tallies)
    assert first == second


def test_an_answer_that_stands_is_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.ask("voice", 1, {})
    world.wait(100)
    world.beat(0)
    with monkeypatch.context() as patched:
        patched.setattr("enforcement.gate.decide", None)
        text = world.remembering.encoded(Check(TENANT, "voice", ONE))
    assert text is not None
    assert msgspec.json.decode(text)["as_of"] == "2026-11-23T10:59:58.100Z"
