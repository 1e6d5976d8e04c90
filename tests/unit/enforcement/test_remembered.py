from __future__ import annotations

from enforcement.remembered import RememberedPlans
from metering.catalog import Catalog
from metering.entitlement import TenantSnapshot, compile_snapshot, encode
from metering.period import DEFAULT_TERMS


def snapshot(tenant: str, plan: str | None = None) -> TenantSnapshot:
    return compile_snapshot(tenant, "active", plan, DEFAULT_TERMS, Catalog(), 1)


def test_a_plan_is_remembered_with_when_it_was_seen() -> None:
    plans = RememberedPlans(10)
    plans.see("grand", encode(snapshot("grand")), 5)
    seen = plans.get("grand")
    assert seen is not None
    assert (seen.snapshot, seen.seen) == (snapshot("grand"), 5)
    assert plans.get("other") is None


def test_a_plan_seen_again_is_newer_and_decoded_once() -> None:
    plans = RememberedPlans(10)
    first = plans.see("grand", encode(snapshot("grand")), 5)
    again = plans.see("grand", encode(snapshot("grand")), 9)
    assert again.snapshot is first.snapshot
    assert again.seen == 9
    assert plans.see("grand", encode(snapshot("grand", "starter")), 10).snapshot.plan == "starter"


def test_who_was_not_asked_for_longest_is_forgotten_first() -> None:
    plans = RememberedPlans(2)
    for tenant in ("a", "b"):
        plans.see(tenant, encode(snapshot(tenant)), 1)
    plans.get("a")
    plans.see("c", encode(snapshot("c")), 1)
    assert plans.get("b") is None
    assert plans.get("a") and plans.get("c")


def test_a_deleted_tenant_is_forgotten() -> None:
    plans = RememberedPlans(2)
    plans.see("a", encode(snapshot("a")), 1)
    plans.forget("a")
    plans.forget("a")
    assert plans.get("a") is None
