"""Checks from real counters: every aggregation, every reason, what is heard of changes, and what a flush leaves."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from metering import keys
from metering.clock import DAY_MS, HOUR_MS
from metering.partition import partition_of
from metering.period import BillingTerm, terms_text
from tests.integration.enforcement.conftest import EPOCH, NOW, PARTITIONS, TERMS, GateClient, State
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
        "period": "billing",
        "resets_at": "2026-11-30T00:00:00.000Z",
        "policy": "block",
        "policy_version": 1,
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
        assert (answer["allowed"], answer["reason"]) == (False, reason)


async def test_a_new_period_begins_with_nothing_used(gate: GateClient, state: State, clock: SetClock) -> None:
    await state.counter("grand", "calls", "9")
    assert (await gate.check("calls"))["used"] == "9"
    clock.advance(HOUR_MS)
    assert (await gate.check("calls"))["used"] == "0"


async def test_whom_it_was_asked_about_before_the_gate_answers_for_from_memory(gate: GateClient, state: State) -> None:
    await state.counter("grand", "voice", "5")
    assert (await gate.check("voice"))["source"] == "redis"
    assert (await gate.check("voice"))["source"] == "memory"
    await state.counter("grand", "voice", "7.25")
    await eventually(lambda: gate.says("voice", used="7.25", source="memory"), what="the feed")


async def test_a_counter_that_was_not_told_is_read_again(gate: GateClient, state: State, redis: Redis) -> None:
    await state.counter("grand", "voice", "5")
    await gate.check("voice")
    await state.counter("grand", "voice", "6", told=False)
    await state.counter("grand", "languages", "1")
    await eventually(lambda: gate.says("voice", used="6"), timeout=2, what="the gap is seen")


async def test_counters_that_were_replaced_are_read_again(gate: GateClient, state: State, redis: Redis) -> None:
    await state.counter("grand", "voice", "5")
    await gate.check("voice")
    await state.counter("grand", "voice", "3", told=False)
    await redis.set(keys.sequence(EPOCH, partition_of("grand", PARTITIONS)), "another")
    await state.beat("grand")
    await eventually(lambda: gate.says("voice", used="3"), what="the other sequence is seen")


async def test_a_changed_plan_is_seen(gate: GateClient, state: State) -> None:
    assert (await gate.check("cloning"))["allowed"]
    await state.tenant("grand", plan=None)
    await eventually(lambda: gate.says("cloning", reason="not-entitled"), timeout=2)
    assert (await gate.check("cloning", "new"))["reason"] == "unknown-tenant"
    came = (BillingTerm(0, NOW, "UTC"),)
    await state.plan("new", terms=came)
    await eventually(lambda: gate.says("cloning", "new", reason="granted"), timeout=2)
    assert await gate.says("voice", "new", reason="within-limit", used="0")
    await state.count_by("new", came, {keys.counter_field("seconds", "billing", NOW): "12"})
    await eventually(lambda: gate.says("voice", "new", used="12"), timeout=2)


async def test_a_moved_anchor_is_not_taken_for_nothing_used(gate: GateClient, state: State) -> None:
    await state.counter("grand", "voice", "36000")
    assert (await gate.check("voice"))["reason"] == "limit-reached"
    moved = (BillingTerm(0, NOW - DAY_MS, "UTC"),)
    await state.plan("grand", terms=moved)
    await eventually(lambda: gate.says("voice", allowed=False, reason="recovering", policy="closed"), timeout=2)
    assert await gate.says("languages", reason="within-limit")
    await state.count_by("grand", moved, {keys.counter_field("seconds", "billing", NOW - DAY_MS): "35999"})
    await eventually(lambda: gate.says("voice", allowed=True, used="35999"), timeout=2)


async def test_a_new_epoch_is_followed(gate: GateClient, state: State, redis: Redis) -> None:
    await state.counter("grand", "voice", "5")
    assert (await gate.check("voice"))["used"] == "5"
    await redis.set(keys.EPOCH, f"{EPOCH + 1}:1")
    await redis.hset(keys.counted_terms(EPOCH + 1, 0), "grand", terms_text(TERMS))
    await redis.hset(keys.applied(EPOCH + 1, 0), "offset", "-1")
    await eventually(lambda: gate.says("voice", used="0"), timeout=2)


async def test_a_counter_being_rebuilt_never_allows_whom_the_gate_does_not_know(gate: GateClient, state: State) -> None:
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
    assert (await gate.check("cloning"))["source"] == "memory"
    await state.applied(partition_of("grand", PARTITIONS), "rebuilt")
    await eventually(lambda: gate.says("voice", reason="within-limit", used="0"), timeout=2)


async def test_after_a_flush_the_gate_goes_by_what_it_knew(
    gate: GateClient, state: State, redis: Redis, clock: SetClock
) -> None:
    await state.counter("grand", "voice", "12")
    before = await gate.check("voice")
    await redis.flushall()
    clock.advance(5_000)
    await eventually(lambda: gate.says("voice", used="12", source="memory"))
    assert (await gate.check("voice"))["as_of"] <= before["as_of"]
    never_seen = await gate.check("voice", "other")
    assert (never_seen["allowed"], never_seen["reason"], never_seen["source"]) == (False, "unavailable", "fallback")
    await state.whole("rebuilt")
    await state.counter("grand", "voice", "13")
    await eventually(lambda: gate.says("voice", used="13", source="memory"), timeout=2)


async def test_a_batch_is_answered_in_order(gate: GateClient, state: State) -> None:
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
    return partition_of(one, PARTITIONS) == partition_of(other, PARTITIONS)


async def test_entitlements_list_every_feature_of_the_catalog(gate: GateClient, state: State) -> None:
    await state.counter("grand", "voice", "1200.5")
    response = await gate.send("GET", "/v1/entitlements/grand")
    answer = await response.json()
    assert (answer["tenant"], answer["plan"], answer["status"], answer["source"]) == (
        "grand",
        "starter",
        "active",
        "memory",
    )
    assert answer["features"]["voice"] == {
        "entitled": True,
        "meter": "seconds",
        "limit": "36000",
        "used": "1200.5",
        "reserved": "0",
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


async def test_an_explained_answer_shows_each_rule_and_agrees_with_them(gate: GateClient, state: State) -> None:
    await state.counter("grand", "voice", "36000")
    response = await gate.send("POST", "/v1/check?explain=1", {"tenant": "grand", "feature": "voice"})
    answer = await response.json()
    assert not answer["allowed"]
    assert [(rule["rule"], rule["allows"]) for rule in answer["rules"]] == [
        ("tenant", True),
        ("plan", True),
        ("limit", False),
    ]
    assert (answer["rules"][2]["used"], answer["rules"][2]["limit"]) == ("36000", "36000")


async def test_a_change_of_very_many_plans_is_seen_of_each(gate: GateClient, state: State, redis: Redis) -> None:
    await state.tenant("zzz-last")
    assert (await gate.check("cloning", "zzz-last"))["allowed"]
    await state.tenant("zzz-last", plan=None)
    numbers = [await redis.incr(keys.SNAPSHOT_CHANGES) for _ in range(13)]
    many = {f"hotel-{number}": numbers[number // 1000] for number in range(12_500)}
    await redis.zadd(keys.CHANGED_SNAPSHOTS, {**many, "zzz-last": numbers[-1]})
    await eventually(lambda: gate.says("cloning", "zzz-last", reason="not-entitled"), timeout=5)
