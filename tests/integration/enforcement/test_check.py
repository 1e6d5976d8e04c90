"""Checks from real counters: every aggregation, every reason, and what happens while Redis can't be trusted."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from metering import keys
from metering.clock import HOUR_MS
from tests.integration.enforcement.conftest import EPOCH, NOW, PARTITIONS, GateClient, State
from tests.support import SetClock, eventually


async def test_a_check_says_everything_the_contract_lists(gate: GateClient, state: State) -> None:
    await state.counter("grand", "voice", "1200.5")
    assert await gate.check("voice", amount="300.5") == {
        "allowed": True,
        "reason": "within-limit",
        "feature": "voice",
        "used": "1200.5",
        "reserved": "0",
        "limit": "36000",
        "remaining": "34799.5",
        "resets_at": "2026-11-30T00:00:00.000Z",
        "policy": "block",
        "source": "redis",
        "as_of": "2026-11-23T10:00:00.000Z",
        "mode": "enforce",
    }


@pytest.mark.parametrize(
    ("feature", "text", "amount", "allowed", "reason", "used", "remaining"),
    [
        ("voice", "35999", 1, True, "within-limit", "35999", "1"),
        ("voice", "35999.001", 1, False, "limit-reached", "35999.001", "0.999"),
        ("voice", "36000", 0, True, "within-limit", "36000", "0"),
        ("voice", "40000", 1, False, "limit-reached", "40000", "0"),
        ("voice", None, 36000, True, "within-limit", "0", "36000"),
        ("voice", None, 36000.5, False, "limit-reached", "0", "36000"),
        ("languages", "2", 1, True, "over-limit", "2", "0"),
        ("peak", "10", 10, True, "within-limit", "10", "0"),
        ("peak", "7", 11, False, "limit-reached", "7", "3"),
        ("wait", "7.5/3", 1, True, "within-limit", "2.5", "0"),
        ("wait", "10/3", 1, False, "limit-reached", "3.3333333", "0"),
        ("seats", "4@1795428000000@3.1.7.0", 1, True, "within-limit", "4", "1"),
        ("seats", "5@1795428000000@3.1.7.0", 1, False, "limit-reached", "5", "0"),
        ("calls", "123456", 1, True, "unlimited", "123456", None),
    ],
)
async def test_every_aggregation_is_judged_by_its_limit(
    gate: GateClient,
    state: State,
    feature: str,
    text: str | None,
    amount: Any,
    allowed: bool,
    reason: str,
    used: str,
    remaining: str | None,
) -> None:
    if text is not None:
        await state.counter("grand", feature, text)
    answer = await gate.check(feature, amount=amount)
    assert (answer["allowed"], answer["reason"], answer["used"], answer["remaining"]) == (
        allowed,
        reason,
        used,
        remaining,
    )


async def test_a_capped_count_of_distinct_values_says_that_it_is_approximate(gate: GateClient, state: State) -> None:
    await state.counter("grand", "languages", "1000000~")
    assert (await gate.check("languages"))["approximate"] is True


async def test_what_needs_no_counter_is_answered_by_the_plan(gate: GateClient, state: State) -> None:
    await state.tenant("gone", status="cancelled")
    await state.tenant("late", status="suspended")
    await state.tenant("free", plan=None)
    granted = await gate.check("cloning")
    assert (granted["allowed"], granted["reason"], granted["used"], granted["limit"]) == (True, "granted", None, None)
    assert (await gate.check("upload"))["value"] == 20
    for feature, tenant, reason in [
        ("white-label", "grand", "not-entitled"),
        ("teleport", "grand", "unknown-feature"),
        ("voice", "nobody", "unknown-tenant"),
        ("voice", "free", "not-entitled"),
        ("cloning", "gone", "tenant-cancelled"),
        ("cloning", "late", "tenant-suspended"),
    ]:
        answer = await gate.check(feature, tenant)
        assert (answer["allowed"], answer["reason"], answer["source"]) == (False, reason, "redis")


async def test_a_new_period_begins_with_nothing_used(gate: GateClient, state: State, clock: SetClock) -> None:
    await state.counter("grand", "calls", "9")
    assert (await gate.check("calls"))["used"] == "9"
    clock.advance(HOUR_MS)
    assert (await gate.check("calls"))["used"] == "0"


async def test_a_changed_plan_is_seen_by_the_next_check(gate: GateClient, state: State) -> None:
    assert (await gate.check("cloning"))["allowed"]
    await state.tenant("grand", plan=None)
    assert not (await gate.check("cloning"))["allowed"]


async def test_a_new_epoch_is_seen_by_the_next_check(gate: GateClient, state: State, redis: Redis) -> None:
    await state.counter("grand", "voice", "5")
    assert (await gate.check("voice"))["used"] == "5"
    await redis.set(keys.EPOCH, f"{EPOCH + 1}:1")
    assert (await gate.check("voice"))["reason"] == "recovering"
    await redis.hset(keys.applied(EPOCH + 1, 0), "offset", "-1")
    assert (await gate.check("voice"))["used"] == "0"


async def test_a_counter_being_rebuilt_never_allows_and_the_features_policy_decides(
    gate: GateClient, state: State
) -> None:
    await state.counter("grand", "voice", "0")
    await state.counter("grand", "languages", "0")
    await state.rebuilding("grand")
    closed = await gate.check("voice")
    assert (closed["allowed"], closed["reason"], closed["source"], closed["policy"], closed["used"]) == (
        False,
        "recovering",
        "fallback",
        "closed",
        None,
    )
    opened = await gate.check("languages")
    assert (opened["allowed"], opened["reason"], opened["source"], opened["policy"]) == (
        True,
        "recovering",
        "fallback",
        "open",
    )
    assert (await gate.check("calls"))["reason"] == "unlimited"
    assert (await gate.check("cloning"))["source"] == "redis"


async def test_after_a_flush_plans_are_remembered_and_counters_are_not_known(
    gate: GateClient, state: State, redis: Redis
) -> None:
    await state.counter("grand", "voice", "0")
    assert (await gate.check("voice"))["allowed"]
    await redis.flushall()
    for feature, allowed in (("voice", False), ("languages", True), ("cloning", True)):
        answer = await gate.check(feature)
        assert (answer["allowed"], answer["source"]) == (allowed, "fallback")
    assert (await gate.check("voice"))["reason"] == "recovering"
    never_seen = await gate.check("voice", "other")
    assert (never_seen["allowed"], never_seen["reason"]) == (False, "recovering")
    assert "counters" in await eventually(gate.failures)
    await state.whole()
    assert (await gate.check("voice"))["source"] == "redis"


async def test_a_batch_is_answered_in_order_as_of_one_reading(gate: GateClient, state: State) -> None:
    for number in range(10):
        await state.tenant(f"hotel-{number}")
        await state.counter(f"hotel-{number}", "voice", str(number))
    await state.rebuilding("hotel-3")
    checks = [{"tenant": f"hotel-{number}", "feature": "voice"} for number in range(10)]
    checks += [{"tenant": "hotel-5", "feature": "cloning"}, {"tenant": "nobody", "feature": "voice"}]
    response = await gate.send("POST", "/v1/check/batch", {"checks": checks})
    results = (await response.json())["results"]
    lost = {f"hotel-{number}" for number in range(10) if _shares_partition(f"hotel-{number}", "hotel-3")}
    for number in range(10):
        expected = None if f"hotel-{number}" in lost else str(number)
        assert results[number]["used"] == expected
    assert [result["reason"] for result in results[10:]] == ["granted", "unknown-tenant"]


def _shares_partition(one: str, other: str) -> bool:
    from metering.partition import partition_of

    return partition_of(one, PARTITIONS) == partition_of(other, PARTITIONS)


async def test_entitlements_list_every_feature_of_the_catalog(gate: GateClient, state: State) -> None:
    await state.counter("grand", "voice", "1200.5")
    response = await gate.send("GET", "/v1/entitlements/grand")
    answer = await response.json()
    assert (answer["tenant"], answer["plan"], answer["status"], answer["source"]) == (
        "grand",
        "starter",
        "active",
        "redis",
    )
    assert answer["features"]["voice"] == {
        "entitled": True,
        "meter": "seconds",
        "limit": "36000",
        "used": "1200.5",
        "remaining": "34799.5",
        "period": "billing",
        "resets_at": "2026-11-30T00:00:00.000Z",
        "on_exceed": "block",
        "on_unknown": "closed",
    }
    assert answer["features"]["seats"]["resets_at"] is None
    assert answer["features"]["upload"] == {"entitled": True, "value": 20}
    assert answer["features"]["cloning"] == {"entitled": True}
    assert answer["features"]["white-label"] == {"entitled": False}
    assert (await gate.send("GET", "/v1/entitlements/nobody")).status == 404


async def test_as_of_is_the_moment_of_reading(gate: GateClient, state: State, clock: SetClock) -> None:
    clock.at = NOW + 1234
    assert (await gate.check("voice"))["as_of"] == "2026-11-23T10:00:01.234Z"
