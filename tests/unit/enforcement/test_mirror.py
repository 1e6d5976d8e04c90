"""What a gate knows stays bounded; its laws are in tests/properties/test_mirror.py."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import pytest

from enforcement.gate import Check, Gate
from enforcement.mirror import NOBODIES, Epoch, Mirror, Reading, Tenant
from metering.catalog import Catalog, Limit, parse_catalog
from metering.clock import DAY_MS, HOUR_MS
from metering.decision import NOTHING, Used
from metering.entitlement import compile_snapshot, encode
from metering.feed import FeedMessage
from metering.keys import counter_field
from metering.period import DEFAULT_TERMS, BillingTerm, PeriodKind, period_of
from metering.quantity import ONE
from tests.support import SetClock

NOW = 495_000 * HOUR_MS
PLAN = encode(compile_snapshot("crow", "active", None, DEFAULT_TERMS, Catalog(), 1))


def mirror(*names: str, size: int = 10) -> Mirror:
    """One partition; these tenants are known and have used nothing."""
    made = Mirror(size)
    made.move(Epoch(1, 1))
    for name in names:
        made.plan(name, encode(compile_snapshot(name, "active", None, DEFAULT_TERMS, Catalog(), 1)))
    nothing: dict[str, dict[str, str]] = {name: {} for name in names}
    made.accepts(0, Reading(0, "a", nothing, dict.fromkeys(names, DEFAULT_TERMS), nothing, 0, NOW))
    made.verified(0, made.partitions[0].gaps, NOW, NOW)
    return made


def test_whom_nobody_asks_for_longest_goes_first() -> None:
    known = mirror("acme", "bolt", size=2)
    assert known.find("acme") is not None
    known.plan("crow", PLAN)
    assert list(known.tenants) == ["acme", "crow"]


def test_names_that_nobody_bears_push_nobody_out_but_one_another() -> None:
    known = mirror("acme", "bolt", size=2)
    for number in range(2 * NOBODIES):
        known.plan(f"nobody-{number}", None)
    assert known.find("acme") is not None and known.find("bolt") is not None
    newest = range(NOBODIES, 2 * NOBODIES)
    assert all(known.find(f"nobody-{number}") is not None for number in newest)
    assert len(known.tenants) == 2 + NOBODIES
    known.plan(f"nobody-{NOBODIES}", PLAN)  # who is somebody now takes the place of a tenant
    known.plan("crow", PLAN)
    assert known.find("acme") is None and known.find("crow") is not None


def test_who_is_read_again_is_no_older_than_before_unless_the_counters_are() -> None:
    known = mirror("acme")
    known.partitions[0].fresh, known.plans_fresh = 0, NOW + 10
    tenant = known.tenants["acme"]
    tenant.seen = NOW + 5
    known.accepts(0, Reading(1, "a", {"acme": {}}, {"acme": DEFAULT_TERMS}, {"acme": {}}, 0, NOW + 6))
    assert known.as_of(tenant) == NOW + 5
    known.accepts(0, Reading(0, "b", {"acme": {}}, {"acme": DEFAULT_TERMS}, {"acme": {}}, 0, NOW - 60_000))
    assert known.as_of(tenant) == NOW - 60_000


def test_of_periods_that_are_over_nothing_is_kept() -> None:
    known = mirror("acme")
    for hour in range(720):
        field = counter_field("calls", "hour", NOW + hour * HOUR_MS)
        texts = [field, str(hour), counter_field("calls", "lifetime", 0), str(hour)]
        known.hear(0, FeedMessage(hour, hour + 1, NOW, NOW, "a", {"acme": texts}), NOW)
    assert known.tenants["acme"].counters == {
        counter_field("calls", "hour", NOW + 717 * HOUR_MS): "717",
        counter_field("calls", "hour", NOW + 718 * HOUR_MS): "718",
        counter_field("calls", "hour", NOW + 719 * HOUR_MS): "719",
        counter_field("calls", "lifetime", 0): "719",
    }


def test_a_late_event_of_the_hour_before_takes_nothing_from_this_one() -> None:
    known = mirror("acme")
    this = counter_field("calls", "hour", NOW)
    for applied, hour, text in ((1, 0, "1000"), (2, 1, "1"), (3, -1, "1"), (4, -2, "1")):
        field = counter_field("calls", "hour", NOW + hour * HOUR_MS)
        known.hear(0, FeedMessage(applied - 1, applied, NOW, NOW, "a", {"acme": [field, text]}), NOW)
    assert (known.tenants["acme"].counters or {})[this] == "1000"


def test_whose_counters_came_later_is_as_old_as_they_are() -> None:
    known = mirror()
    known.plan("acme", None).seen = known.plans_fresh = NOW + 60_000
    known.accepts(0, Reading(0, "a", {"acme": {}}, {"acme": DEFAULT_TERMS}, {"acme": {}}, 0, NOW))
    assert known.as_of(known.tenants["acme"]) == NOW


def test_what_a_silent_writer_told_last_is_not_read_again_for_ever() -> None:
    known = mirror("acme")
    position = Reading(7, "a", {}, {}, {}, 0, NOW)
    gaps = known.begin_again(0, position)
    assert known.verified(0, gaps, NOW, NOW)
    assert known.is_as(0, position)


def test_holds_that_have_ended_are_not_kept_of_who_only_reserves() -> None:
    known = mirror("acme")
    for number in range(1, 10_001):
        now = NOW + number
        known.partitions[0].refresh(now, now)
        known.hear_hold(0, f"{number} acme voice:{number} held 1 50 {now + 50}".encode(), now)
    assert len(known.tenants["acme"].holds.all()) < 200


def test_counters_that_were_replaced_by_older_ones_are_as_old_as_they_are() -> None:
    known = mirror("acme")
    known.plans_fresh = NOW
    older = NOW - 60_000
    known.hear(0, FeedMessage(3, 3, older, older, "b"), NOW)
    known.accepts(0, Reading(3, "b", {"acme": {}}, {"acme": DEFAULT_TERMS}, {"acme": {}}, 0, older))
    assert known.verified(0, known.partitions[0].gaps, NOW, older)
    assert known.as_of(known.tenants["acme"]) == older


CATALOG = parse_catalog("""
meters: {calls: {event: call, aggregation: count}}
features: {calls: {meter: calls}}
plans: {p: {entitlements: {calls: {limit: 9, period: billing, limits: [{limit: 5, period: hour}]}}}}
""")
ONLY_BILLING = parse_catalog("""
meters: {calls: {event: call, aggregation: count}}
features: {calls: {meter: calls}}
plans: {p: {entitlements: {calls: {limit: 9, period: billing}}}}
""")
OLD, NEW = ((BillingTerm(0, NOW - days * DAY_MS, "UTC"),) for days in (20, 2))


def test_of_a_billing_period_that_the_writer_does_not_count_yet_nothing_is_known() -> None:
    known = mirror()

    def plan(terms: tuple[BillingTerm, ...]) -> Tenant:
        return known.plan("acme", encode(compile_snapshot("acme", "active", "p", terms, CATALOG, 1)))

    def read(terms: tuple[BillingTerm, ...], counters: dict[str, str]) -> None:
        known.accepts(0, Reading(0, "a", {"acme": counters}, {"acme": terms}, {"acme": {}}, 0, NOW))

    def used(terms: tuple[BillingTerm, ...], kind: PeriodKind = "billing") -> int | None:
        assert tenant.snapshot is not None
        right = tenant.snapshot.entitlements["calls"]
        found = tenant.used_at(NOW)(right, Limit("9", kind), period_of(kind, NOW, terms))
        return None if found is None else found.total // ONE

    tenant = plan(OLD)
    read(OLD, {counter_field("calls", "billing", NOW - 20 * DAY_MS): "7"})
    assert used(OLD) == 7
    plan(NEW)
    assert used(NEW) is None
    assert known.knowledge(tenant).unknown == "recovering"
    assert used(NEW, "hour") == 0
    read(NEW, {counter_field("calls", "billing", NOW - 2 * DAY_MS): "3"})
    assert used(NEW) == 3
    plan(OLD)  # by a control plane that was put back
    assert used(OLD) is None
    plan((*NEW, BillingTerm(NOW + 40 * DAY_MS, NOW, "UTC")))
    assert used(NEW) == 3, "a change to come changes nothing of this period"


@pytest.mark.parametrize(
    ("began", "counters", "used"),
    [
        (0, {}, NOTHING),
        (HOUR_MS, {}, NOTHING),
        (HOUR_MS + 1, {}, None),
        (HOUR_MS, {counter_field("calls", "hour", NOW): "1"}, None),
        (0, None, None),
    ],
)
def test_who_has_just_come_has_used_nothing(began: int, counters: dict[str, str] | None, used: Used | None) -> None:
    known = mirror()
    terms = (BillingTerm(0, NOW - began, "UTC"),)
    tenant = known.plan("acme", encode(compile_snapshot("acme", "active", "p", terms, CATALOG, 1)))
    if counters is not None:
        tenant.read(counters, DEFAULT_TERMS, 0)
    assert tenant.snapshot is not None
    right, period = tenant.snapshot.entitlements["calls"], period_of("billing", NOW, terms)
    assert tenant.used_at(NOW)(right, Limit("9", "billing"), period) == used


async def test_what_is_known_of_who_has_just_come_is_not_remembered() -> None:
    known, clock = mirror(), SetClock(NOW)
    known.plans_fresh = NOW
    terms = (BillingTerm(0, NOW - HOUR_MS, "UTC"),)
    tenant = known.plan("acme", encode(compile_snapshot("acme", "active", "p", terms, ONLY_BILLING, 1)))
    tenant.read({}, DEFAULT_TERMS, 0)
    gate = Gate(known, _unasked, clock)
    first = msgspec.json.decode(gate.encoded(Check("acme", "calls", ONE)) or b"")
    clock.advance(1)
    second = msgspec.json.decode(gate.encoded(Check("acme", "calls", ONE)) or b"")
    assert (first["reason"], second["reason"]) == ("within-limit", "recovering")


async def _unasked(names: Collection[str]) -> bool:
    raise AssertionError(f"unknown: {names}")
