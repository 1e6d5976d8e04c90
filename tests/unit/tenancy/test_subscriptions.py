"""What a tenant's history of subscriptions means, at an instant and for its billing periods."""

from __future__ import annotations

from metering.period import DEFAULT_TERMS, BillingTerm
from tenancy.keys import Principal
from tenancy.subscriptions import Subscription, in_force, terms_of


def on(plan: str, since: int, anchor: int = 100, zone: str = "UTC") -> Subscription:
    return Subscription("grand", plan, since, anchor, zone)


def test_the_newest_subscription_that_has_begun_is_in_force() -> None:
    own = [on("a", 100), on("b", 200), on("c", 200), on("d", 300)]
    plans = {at: getattr(in_force(own, at), "plan", None) for at in (99, 100, 199, 200, 299, 300)}
    assert plans == {99: None, 100: "a", 199: "a", 200: "c", 299: "c", 300: "d"}
    assert in_force([], 100) is None


def test_a_change_of_plan_alone_does_not_cut_a_billing_period() -> None:
    assert terms_of([on("a", 100), on("b", 200), on("c", 300)]) == (BillingTerm(0, 100, "UTC"),)


def test_another_anchor_or_time_zone_is_another_term() -> None:
    own = [on("a", 100), on("a", 200, anchor=150), on("b", 250, anchor=150), on("b", 300, 150, "Europe/Berlin")]
    assert terms_of(own) == (
        BillingTerm(0, 100, "UTC"),
        BillingTerm(200, 150, "UTC"),
        BillingTerm(300, 150, "Europe/Berlin"),
    )


def test_a_tenant_without_subscriptions_has_calendar_months() -> None:
    assert terms_of([]) == DEFAULT_TERMS


def test_a_platform_key_has_every_scope_and_another_only_its_own() -> None:
    platform = Principal("k", None, frozenset({"platform"}))
    admin = Principal("k", "grand", frozenset({"admin"}))
    assert platform.platform
    assert platform.may("ingest")
    assert platform.may("admin")
    assert not admin.platform
    assert admin.may("admin")
    assert not admin.may("read")
    assert not admin.may("platform")
