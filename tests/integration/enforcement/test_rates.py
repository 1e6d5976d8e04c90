"""Rates and groups over HTTP."""

from __future__ import annotations

import pytest

from metering.clock import HOUR_MS
from tests.integration.enforcement.conftest import GateClient, State
from tests.support import SetClock


@pytest.fixture(autouse=True)
async def quick(state: State) -> None:
    """Tenants who may clone twice an hour, and call once a second each of their guests."""
    await state.tenant("quick", "quick")
    await state.tenant("swift", "quick")


async def test_a_rate_denies_who_comes_too_fast_and_says_when_one_more_fits(gate: GateClient, clock: SetClock) -> None:
    for used in range(2):
        assert (await gate.check("cloning", "quick"))["allowed"], used
    denied = await gate.check("cloning", "quick")
    wanted = {"allowed": False, "reason": "rate-limited", "used": "2", "limit": "2", "remaining": "0", "period": "hour"}
    assert denied | wanted == denied
    assert denied["resets_at"] == "2026-11-23T10:30:00.000Z"
    assert (await gate.check("cloning", "swift"))["allowed"]
    clock.advance(HOUR_MS // 2 - 1)
    assert not (await gate.check("cloning", "quick"))["allowed"]
    clock.advance(1)
    assert (await gate.check("cloning", "quick"))["allowed"]
    assert not (await gate.check("cloning", "quick"))["allowed"]


async def test_who_asks_for_nothing_or_is_denied_anyhow_uses_up_no_rate(gate: GateClient, state: State) -> None:
    await state.counter("quick", "calls", "10")
    for _ in range(3):
        assert (await gate.check("cloning", "quick", 0))["allowed"]
        assert (await gate.check("calls", "quick"))["reason"] == "limit-reached"
    await state.counter("quick", "calls", "9")
    assert (await gate.check("calls", "quick"))["allowed"]


async def test_a_rate_by_subject_is_one_for_each_of_them(gate: GateClient) -> None:
    async def ask(subject: str | None) -> bool:
        question = {"tenant": "quick", "feature": "calls", "amount": 1}
        response = await gate.send("POST", "/v1/check?explain=1", question | ({"subject": subject} if subject else {}))
        answer = await response.json()
        assert (
            answer["rules"][-1] | {"rule": "rate", "by": "subject", "allows": answer["allowed"]} == answer["rules"][-1]
        )
        return bool(answer["allowed"])

    assert [await ask(who) for who in ("room-7", "room-7", "room-8", "room-8", None, None)] == [True, False] * 3


async def test_shadow_mode_lets_through_who_is_too_fast_and_says_so(gate: GateClient) -> None:
    for _ in range(2):
        answer = await gate.check("tried", "quick")
    assert (answer["allowed"], answer["reason"], answer["mode"]) == (True, "rate-limited", "shadow")


async def test_a_right_to_some_groups_and_a_limit_of_a_part(gate: GateClient, state: State) -> None:
    await state.counter("quick", "far", "60", meter="far_seconds")

    async def ask(feature: str, **groups: str) -> str:
        query = {"tenant": "quick", "feature": feature, **{f"group.{name}": text for name, text in groups.items()}}
        response = await gate.send("GET", "/v1/check", params=query)
        answer = await response.json()
        assert (response.status == 200) == answer["allowed"]
        return str(answer["reason"])

    assert await ask("speak", language="ja") == "granted"
    assert await ask("speak", language="de") == await ask("speak") == "group-not-entitled"
    assert await ask("far", language="de") == "within-limit"
    assert await ask("far", language="ja") == await ask("far") == "limit-reached"
