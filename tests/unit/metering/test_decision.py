"""The gate's rule by example; its laws are in tests/properties/test_decision.py."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from metering.catalog import Limit
from metering.clock import parse_iso
from metering.decision import NOTHING, Decision, Knowledge, Rule, Used, UsedIn, decide, not_known, used_of
from metering.entitlement import CompiledEntitlement, CompiledGrant, TenantSnapshot
from metering.period import BillingTerm, Period
from metering.quantity import ONE

NOW = parse_iso("2026-11-23T10:00:00Z")
VOICE = CompiledEntitlement("seconds", "sum", 3, "10", "billing")
SNAPSHOT = TenantSnapshot(
    "grand",
    "active",
    "starter",
    1,
    (BillingTerm(0, parse_iso("2026-01-15T00:00:00Z"), "UTC"),),
    ("cloning", "seats", "upload", "voice", "white-label"),
    {
        "voice": VOICE,
        "seats": CompiledEntitlement("seats", "latest", 0, "5", "lifetime", on_exceed="warn", on_unknown="open"),
        "cloning": CompiledEntitlement(),
        "upload": CompiledEntitlement(value=20),
    },
)
REDIS = Knowledge("redis", NOW, "recovering")
AWAY = Knowledge("fallback", NOW - 5_000, "unavailable")


def ask(feature: str, used: Used | None = NOTHING, amount: int = ONE, knowledge: Knowledge = REDIS) -> Decision:
    return decide(SNAPSHOT, feature, amount, lambda *_: used, NOW, knowledge)


def test_within_the_limit_the_answer_has_all_numbers() -> None:
    answer = ask("voice", Used(2_500_000_000, 1))
    assert (answer.allowed, answer.reason, answer.feature, answer.policy) == (True, "within-limit", "voice", "block")
    assert (answer.used, answer.reserved, answer.limit, answer.remaining) == ("2.5", "0", "10", "7.5")
    assert (answer.source, answer.as_of, answer.mode) == ("redis", NOW, "enforce")
    assert (answer.period, answer.resets_at) == ("billing", parse_iso("2026-12-15T00:00:00Z"))


def test_the_last_unit_is_allowed_and_the_next_is_not() -> None:
    assert ask("voice", Used(9 * ONE, 1)).allowed
    denied = ask("voice", Used(10 * ONE, 1))
    assert (denied.allowed, denied.reason, denied.remaining) == (False, "limit-reached", "0")


def test_asking_for_nothing_more_is_allowed_up_to_the_limit() -> None:
    assert ask("voice", Used(10 * ONE, 1), amount=0).allowed
    assert not ask("voice", Used(10 * ONE + 1, 1), amount=0).allowed


def test_a_soft_limit_is_passed_and_said_so() -> None:
    answer = ask("seats", Used(9 * ONE, 1))
    assert (answer.allowed, answer.reason, answer.policy, answer.remaining) == (True, "over-limit", "warn", "0")
    assert answer.resets_at is None


def test_plain_features_are_granted_with_their_value() -> None:
    assert ask("cloning", None).reason == "granted"
    assert ask("upload", None).value == 20


@pytest.mark.parametrize(("status", "reason"), [("suspended", "tenant-suspended"), ("cancelled", "tenant-cancelled")])
def test_a_tenant_that_is_not_active_may_nothing(status: str, reason: str) -> None:
    stopped = msgspec.structs.replace(SNAPSHOT, status=status)
    for feature in ("voice", "cloning", "white-label"):
        answer = decide(stopped, feature, 0, lambda *_: NOTHING, NOW, REDIS)
        assert (answer.allowed, answer.reason) == (False, reason)


def test_without_a_counter_the_feature_says_whether_it_is_open() -> None:
    closed, opened = ask("voice", None, knowledge=AWAY), ask("seats", None, knowledge=AWAY)
    assert (closed.allowed, closed.reason, closed.policy, closed.limit) == (False, "unavailable", "closed", "10")
    assert (opened.allowed, opened.reason, opened.policy, opened.source) == (True, "unavailable", "open", "fallback")
    assert closed.as_of == NOW - 5_000


def test_a_tenant_that_cannot_be_known_now_is_not_called_unknown() -> None:
    assert decide(None, "voice", ONE, not_known, NOW, AWAY).reason == "unavailable"
    assert decide(None, "voice", ONE, not_known, NOW, REDIS).reason == "unknown-tenant"


@pytest.mark.parametrize(
    ("aggregation", "text", "used"),
    [
        ("sum", None, NOTHING),
        ("sum", "12.5", Used(12_500_000_000, 1)),
        ("avg", "12.5/3", Used(12_500_000_000, 3)),
        ("unique", "17", Used(17 * ONE, 1)),
        ("unique", "17~", Used(17 * ONE, 1, True)),
        ("latest", "4@1795428000123@1.2.3.4", Used(4 * ONE, 1)),
    ],
)
def test_a_counters_text_is_read(aggregation: str, text: str | None, used: Used) -> None:
    assert used_of(aggregation, text) == used


def with_limits(*limits: tuple[Any, ...], **more: Any) -> TenantSnapshot:
    (main, period, on_exceed), *others = limits
    further = tuple(Limit(*other) for other in others)
    right = CompiledEntitlement("seconds", "sum", 3, main, period, on_exceed, further=further, **more)
    return msgspec.structs.replace(SNAPSHOT, entitlements={"voice": right})


def in_period(**totals: int) -> UsedIn:
    return lambda right, limit, period: Used(totals[limit.period] * ONE, 1) if limit.period in totals else None


def test_of_several_limits_the_one_that_denies_is_shown() -> None:
    snapshot = with_limits(("100", "billing", "block"), ("10", "hour", "block"), ("20", "day", "warn"))
    denied = decide(snapshot, "voice", 2 * ONE, in_period(billing=50, hour=9, day=30), NOW, REDIS)
    assert (denied.allowed, denied.reason, denied.period, denied.used) == (False, "limit-reached", "hour", "9")
    warned = decide(snapshot, "voice", ONE, in_period(billing=50, hour=9, day=30), NOW, REDIS)
    assert (warned.allowed, warned.reason, warned.period, warned.policy) == (True, "over-limit", "day", "warn")
    within = decide(snapshot, "voice", ONE, in_period(billing=95, hour=1, day=1), NOW, REDIS)
    assert (within.allowed, within.reason, within.period, within.remaining) == (True, "within-limit", "billing", "5")


def test_a_limit_that_is_known_denies_whatever_is_not_known_of_another() -> None:
    snapshot = with_limits(("100", "billing", "block"), ("10", "hour", "block"), on_unknown="open")
    assert not decide(snapshot, "voice", ONE, in_period(hour=10), NOW, REDIS).allowed
    opened = decide(snapshot, "voice", ONE, in_period(hour=1), NOW, REDIS)
    assert (opened.allowed, opened.reason, opened.period, opened.source) == (True, "recovering", "billing", "fallback")


def test_grants_add_to_the_main_limit_while_they_are_valid() -> None:
    grants = (CompiledGrant("a", "5", NOW - 1, NOW + 1), CompiledGrant("b", "7", NOW + 1, NOW + 9))
    snapshot = with_limits(("10", "billing", "block"), ("14", "hour", "block"), grants=grants)
    granted = decide(snapshot, "voice", ONE, in_period(billing=14, hour=0), NOW, REDIS)
    assert (granted.allowed, granted.limit, granted.remaining) == (True, "15", "1")
    assert not decide(snapshot, "voice", ONE, in_period(billing=15, hour=0), NOW, REDIS).allowed
    assert decide(snapshot, "voice", ONE, in_period(billing=0, hour=14), NOW, REDIS).period == "hour"


def test_knowledge_that_is_too_old_leaves_it_to_the_policy() -> None:
    snapshot = with_limits(("10", "billing", "block"), max_staleness=5_000)
    old = Knowledge("memory", NOW - 5_001)
    stale = decide(snapshot, "voice", ONE, in_period(billing=0), NOW, old)
    assert (stale.allowed, stale.reason, stale.policy, stale.source) == (False, "stale", "closed", "fallback")
    assert decide(snapshot, "voice", ONE, in_period(billing=0), NOW, Knowledge("memory", NOW - 5_000)).allowed


@pytest.mark.parametrize(("policy", "allowed", "value"), [("closed", False, None), ("open", True, 20)])
def test_knowledge_that_is_too_old_leaves_features_without_a_meter_to_the_policy_too(
    policy: Literal["closed", "open"], allowed: bool, value: int | None
) -> None:
    upload = CompiledEntitlement(value=20, on_unknown=policy, max_staleness=5_000)
    snapshot = msgspec.structs.replace(SNAPSHOT, entitlements={"upload": upload})
    rules: list[Rule] = []
    old = Knowledge("memory", NOW - 5_001)
    stale = decide(snapshot, "upload", 0, not_known, NOW, old, rules=rules)
    assert (stale.allowed, stale.reason, stale.policy, stale.value) == (allowed, "stale", policy, value)
    assert [rule.rule for rule in rules][-2:] == ["staleness", "on_unknown"]
    assert decide(snapshot, "upload", 0, not_known, NOW, Knowledge("memory", NOW - 5_000)).reason == "granted"


def test_in_shadow_mode_what_would_be_denied_is_allowed_and_says_why() -> None:
    shadowed = msgspec.structs.replace(with_limits(("10", "billing", "block")), shadow=("voice", "white-label"))
    for feature, reason in (("voice", "limit-reached"), ("white-label", "not-entitled")):
        answer = decide(shadowed, feature, ONE, in_period(billing=10), NOW, REDIS)
        assert (answer.allowed, answer.reason, answer.mode, answer.shadowed) == (True, reason, "shadow", True)
    within = decide(shadowed, "voice", ONE, in_period(billing=1), NOW, REDIS)
    assert (within.allowed, within.mode, within.shadowed) == (True, "shadow", False)


def test_after_a_trial_nothing_is_granted() -> None:
    over = msgspec.structs.replace(SNAPSHOT, trial_ends=NOW)
    assert decide(over, "cloning", 0, not_known, NOW, REDIS).reason == "trial-ended"
    assert decide(over, "cloning", 0, not_known, NOW - 1, REDIS).reason == "granted"


LANGUAGES = (("language", ("ja", "zh")),)


def test_a_limit_of_some_groups_counts_where_what_is_asked_may_be_of_them() -> None:
    snapshot = with_limits(("100", "billing", "block"), ("10", "hour", "block", "seconds_far", LANGUAGES))
    used = in_period(billing=50, hour=10)
    for groups, allowed in [
        ({"language": "ja"}, False),
        ({"language": "de"}, True),
        ({}, False),
        ({"room": "7"}, False),
    ]:
        rules: list[Rule] = []
        answer = decide(snapshot, "voice", ONE, used, NOW, REDIS, 0, rules, groups)
        assert (answer.allowed, answer.period) == (allowed, "billing" if allowed else "hour")
        assert any(rule.detail.get("groups") == dict(LANGUAGES) for rule in rules) == (not allowed)


def test_a_limit_of_some_groups_is_counted_by_its_own_meter() -> None:
    snapshot = with_limits(("100", "billing", "block"), ("10", "hour", "block", "seconds_far", LANGUAGES))
    asked = []

    def used(right: CompiledEntitlement, limit: Limit, period: Period) -> Used:
        asked.append(limit.meter or right.meter)
        return NOTHING

    decide(snapshot, "voice", ONE, used, NOW, REDIS)
    assert asked == ["seconds", "seconds_far"]


def test_a_right_to_some_groups_is_one_to_no_others() -> None:
    right = CompiledEntitlement(groups=LANGUAGES)
    snapshot = msgspec.structs.replace(SNAPSHOT, entitlements={"cloning": right})
    for groups, reason in [({"language": "ja"}, "granted"), ({"language": "de"}, ""), ({}, ""), ({"floor": "ja"}, "")]:
        rules: list[Rule] = []
        answer = decide(snapshot, "cloning", ONE, not_known, NOW, REDIS, 0, rules, groups)
        assert answer.reason == (reason or "group-not-entitled")
        assert rules[-1] == Rule("groups", bool(reason), {"granted": dict(LANGUAGES), "asked": groups})
