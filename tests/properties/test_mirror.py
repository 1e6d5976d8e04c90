"""The mirror never says that its knowledge is newer than it is, whatever gets lost or comes late; and it catches up."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from enforcement.mirror import Epoch, Mirror, Reading
from metering.catalog import Catalog
from metering.clock import HOUR_MS
from metering.entitlement import compile_snapshot, encode
from metering.feed import FeedMessage
from metering.keys import counter_field
from metering.period import DEFAULT_TERMS, BillingTerm
from metering.reservation import holds_of

TENANTS = ("acme", "bolt")
TEXT = {name: encode(compile_snapshot(name, "active", None, DEFAULT_TERMS, Catalog(), 1)) for name in TENANTS}


class Past(NamedTuple):
    """What stood in Redis from instant `since` on."""

    since: int
    reading: Reading


class World:
    """One partition in Redis, its feed, and a gate that reads it over a slow line."""

    def __init__(self) -> None:
        self.now = 1000
        self.counters: dict[str, dict[str, str]] = {name: {} for name in TENANTS}
        self.terms = dict.fromkeys(TENANTS, DEFAULT_TERMS)
        self.applied, self.sequence = 0, "a"
        self.holds: dict[str, dict[str, str]] = {name: {} for name in TENANTS}
        self.number = 0
        self.past: list[Past] = []
        self.told: list[FeedMessage | bytes] = []
        self.mirror = Mirror(10)
        self.mirror.move(Epoch(1, 1))
        self.asked: list[tuple[int, int, Reading]] = []
        self._stands()

    def _stands(self) -> None:
        counters = {name: dict(own) for name, own in self.counters.items()}
        holds = {name: dict(own) for name, own in self.holds.items()}
        reading = Reading(self.applied, self.sequence, counters, dict(self.terms), holds, self.number, self.now)
        self.past.append(Past(self.now, reading))

    def count(self, tenant: str, lost: bool) -> None:
        """A batch is applied and told."""
        before, self.applied = self.applied, self.applied + 1
        self.counters[tenant]["f"] = str(self.applied)
        self._stands()
        if not lost:
            self.told.append(
                FeedMessage(before, self.applied, 0, self.now, self.sequence, {tenant: ["f", str(self.applied)]})
            )

    def repair(self, tenant: str) -> None:
        """Counters are replaced without a new offset, maybe by those of other billing terms."""
        self.sequence += "a"
        self.terms[tenant] = (BillingTerm(0, len(self.sequence), "UTC"),)
        self.counters[tenant] = {"f": f"{self.applied}.5"}
        self._stands()

    def flush(self, tenant: str) -> None:
        """Redis loses everything; the counters come back, those of an earlier offset maybe."""
        self.sequence += "b"
        self.applied = max(0, self.applied - 1)
        self.number, self.holds = 0, {name: {} for name in TENANTS}
        self.counters[tenant] = {"f": f"{self.applied}.25"}
        self._stands()

    def power_cut(self, tenant: str) -> None:
        """Redis forgets the last change of a hold, and its connections end."""
        self.number = max(0, self.number - 1)
        self.holds[tenant].clear()
        self.told.clear()
        self.mirror.miss(0)
        self._stands()

    def hold(self, tenant: str, lost: bool) -> None:
        """Something is held, or no longer."""
        self.number += 1
        if self.holds[tenant].pop("f:one", None) is None:
            self.holds[tenant]["f:one"] = f"held {self.number} 1 {1 << 52}"
        self._stands()
        if not lost:
            self.told.append(f"{self.number} {tenant} f:one {self.holds[tenant].get('f:one', '')}".encode())

    def beat(self) -> None:
        """The writer says where it stands."""
        self.told.append(FeedMessage(self.applied, self.applied, 0, self.now, self.sequence, held=self.number))

    def hear(self) -> None:
        """The oldest message that is under way arrives."""
        if self.told:
            message = self.told.pop(0)
            if isinstance(message, bytes):
                self.mirror.hear_hold(0, message, self.now)
            else:
                self.mirror.hear(0, message, self.now)

    def ask(self, names: tuple[str, ...]) -> None:
        """Redis reads; the answer is under way."""
        reading = self.past[-1].reading
        counters = {name: reading.counters[name] for name in names}
        terms = {name: reading.terms[name] for name in names}
        holds = {name: reading.holds[name] for name in names}
        some = reading._replace(counters=counters, terms=terms, holds=holds, vouched=self.now)
        position = some._replace(counters={}, terms={}, holds={})
        self.mirror.went_back(0, self.mirror.partitions[0].number, position)
        if set(self.mirror.tenants) <= set(names) and self.mirror.accepts(0, position):
            self.asked.append((self.now, self.mirror.begin_again(0, some), some))
        else:
            self.asked.append((self.now, -1, some))

    def answer(self) -> None:
        """The oldest answer arrives; one for all that is known says that nothing is missed."""
        if not self.asked:
            return
        began, gaps, reading = self.asked.pop(0)
        known = set(self.mirror.tenants)
        if self.mirror.is_behind(0, reading):
            return
        for name in reading.counters:
            self.mirror.plan(name, TEXT[name])
        if self.mirror.accepts(0, reading) and known <= set(reading.counters):
            self.mirror.verified(0, gaps, began, reading.vouched)

    def check(self) -> None:
        """What is known was so at or after the instant that is said."""
        self.mirror.plans_fresh = self.now
        for name, tenant in self.mirror.tenants.items():
            as_of = self.mirror.knowledge(tenant).as_of
            later = [
                past for n, past in enumerate(self.past) if n + 1 == len(self.past) or self.past[n + 1].since > as_of
            ]
            readings = [past.reading for past in later]
            # Each by itself: a message may tell a counter before its terms are read, never the other way round.
            assert tenant.counters in [reading.counters[name] for reading in readings] or as_of == 0
            assert tenant.terms in [reading.terms[name] for reading in readings] or as_of == 0


_STEPS = "count lose hold lose-hold repair flush power_cut beat hear hear ask answer"
STEPS = st.lists(st.tuples(st.sampled_from(_STEPS.split()), st.integers(0, 2)), max_size=40)


def _play(world: World, steps: list[tuple[str, int]]) -> None:
    for step, which in steps:
        world.now += 1
        tenant, names = TENANTS[which % 2], (TENANTS[:1], TENANTS[1:], TENANTS)[which]
        if step == "count":
            world.count(tenant, lost=False)
        elif step == "lose":
            world.count(tenant, lost=True)
        elif step in ("hold", "lose-hold"):
            world.hold(tenant, lost=step != "hold")
        elif step in ("repair", "flush", "power_cut"):
            getattr(world, step)(tenant)
        elif step == "ask":
            world.ask(names)
        else:
            getattr(world, step)()
        world.check()


@settings(max_examples=600)
@example([("ask", 0), ("answer", 0), ("repair", 0), ("count", 0), ("hear", 0)])
@given(STEPS)
def test_knowledge_is_never_older_than_the_mirror_says(steps: list[tuple[str, int]]) -> None:
    _play(World(), steps)


@settings(max_examples=600)
@example([("ask", 2), ("answer", 0), ("lose-hold", 0), ("hold", 1), ("hear", 0)])
@given(STEPS)
def test_after_a_beat_and_a_reading_the_mirror_is_what_redis_is(steps: list[tuple[str, int]]) -> None:
    world = World()
    _play(world, steps)
    world.beat()
    while world.told:
        world.hear()
    while world.asked:
        world.answer()
    for name in set(TENANTS) - set(world.mirror.tenants):
        world.ask((name,))
        world.answer()
    world.beat()
    world.hear()
    for _ in range(3 if world.mirror.partitions[0].missed else 0):
        world.now += 1
        world.ask(TENANTS)
        world.answer()
    assert not world.mirror.partitions[0].missed
    assert {name: tenant.counters for name, tenant in world.mirror.tenants.items()} == world.counters
    assert {name: tenant.terms for name, tenant in world.mirror.tenants.items()} == world.terms
    held = {name: tenant.holds.all() for name, tenant in world.mirror.tenants.items()}
    assert held == {name: holds_of(own) for name, own in world.holds.items()}
    assert world.mirror.partitions[0].fresh == world.now


HOURS = st.lists(st.integers(-1, 1), max_size=30)


@given(HOURS, st.integers(1, 4))
def test_counters_of_hours_that_are_open_are_kept_in_whatever_order_they_are_told(hours: list[int], batch: int) -> None:
    mirror = Mirror(10)
    mirror.move(Epoch(1, 1))
    mirror.plan("acme", TEXT["acme"])
    mirror.accepts(0, Reading(0, "a", {"acme": {}}, {"acme": DEFAULT_TERMS}, {"acme": {}}, 0, 0))
    true: dict[str, str] = {}
    for first in range(0, len(hours), batch):
        texts: list[str | None] = []
        for number, hour in enumerate(hours[first : first + batch], first):
            field = counter_field("calls", "hour", (1000 + hour) * HOUR_MS)
            true[field] = str(number)
            texts += [field, true[field]]
        mirror.hear(0, FeedMessage(first, first + batch, 0, 0, "a", {"acme": texts}), 0)
    assert mirror.tenants["acme"].counters == true
