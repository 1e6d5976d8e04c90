"""The gate's rule by example; its laws are in tests/properties/test_decision.py."""

from __future__ import annotations

import msgspec
import pytest

from metering.clock import parse_iso
from metering.decision import NOTHING, Decision, Knowledge, Used, decide, not_known, used_of
from metering.entitlement import CompiledEntitlement, TenantSnapshot
from metering.period import BillingTerm
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
