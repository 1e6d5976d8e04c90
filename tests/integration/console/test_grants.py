"""Grants and trials over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select

from metering import entitlement, keys
from metering.clock import DAY_MS, SystemClock, iso
from tenancy.tables import audit
from tests.integration.console.conftest import Api
from tests.support import eventually

PATH = "/v1/tenants/grand/grants"


@pytest.fixture
async def grand(api: Api) -> AsyncIterator[Api]:
    for name in ("grand", "plaza"):
        await api.must("POST", "/v1/tenants", {"name": name, "plan": "small"})
    yield api


async def test_a_grant_is_made_once_listed_and_ended(grand: Api) -> None:
    form = {"feature": "voice", "amount": "12.50", "priority": 7, "rollover": 2, "id": "promo"}
    status, made = await grand.ask("POST", PATH, form)
    assert status == 201
    assert {
        name: made[name] for name in ("id", "amount", "priority", "rollover", "until", "ended", "burnt", "left")
    } == {
        "id": "promo",
        "amount": "12.5",
        "priority": 7,
        "rollover": "2",
        "until": None,
        "ended": None,
        "burnt": "0",
        "left": "12.5",
    }
    assert await grand.ask("POST", PATH, form) == (200, made)
    status, answer = await grand.ask("POST", PATH, {**form, "amount": 13})
    assert (status, answer["type"].rpartition("/")[2]) == (409, "id-conflict")
    assert await grand.must("GET", PATH) == {"tenant": "grand", "grants": [made]}
    ended = await grand.must("DELETE", f"{PATH}/promo")
    assert {**ended, "ended": None} == made
    assert await grand.must("DELETE", f"{PATH}/promo") == ended
    assert (await grand.ask("DELETE", "/v1/tenants/plaza/grants/promo"))[0] == 404
    async with grand.database.transaction() as connection:
        rows = await connection.execute(select(audit.c.action).where(audit.c.tenant == "grand").order_by(audit.c.id))
        assert [row[0] for row in rows if row[0].startswith("grant")] == ["grant.create", "grant.end"]


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"feature": "teleport", "amount": 1}, "not-metered"),
        ({"feature": "voice", "amount": "0"}, "invalid-amount"),
        ({"feature": "voice", "amount": -1}, "invalid-amount"),
        ({"feature": "voice", "amount": "0.0001"}, "invalid-amount"),
        ({"feature": "voice", "amount": 1, "rollover": "some"}, "invalid-amount"),
        ({"feature": "voice", "amount": 1, "priority": -1}, "invalid-priority"),
        ({"feature": "voice", "amount": 1, "until": "2020-01-01T00:00:00Z"}, "invalid-time"),
        ({"feature": "voice", "amount": 1, "since": "2020-01-01T00:00:00Z"}, "invalid-time"),
        ({"feature": "voice", "amount": 1, "id": "a b"}, "invalid-id"),
        ({"feature": "voice", "amount": 1, "reason": "x"}, "invalid-body"),
    ],
)
async def test_what_cannot_be_granted_is_refused_with_its_reason(grand: Api, form: Any, code: str) -> None:
    status, answer = await grand.ask("POST", PATH, form)
    assert (status, answer["type"].rpartition("/")[2]) == (422, code)
    assert (await grand.must("GET", PATH))["grants"] == []


async def test_only_the_platform_grants_and_a_tenant_sees_its_own(grand: Api) -> None:
    form = {"feature": "voice", "amount": 1, "id": "one"}
    await grand.must("POST", PATH, form)
    own, other = await grand.key("grand", "admin", "read"), await grand.key("plaza", "read")
    assert (await grand.ask("POST", PATH, form, own))[0] == 403
    assert (await grand.ask("DELETE", f"{PATH}/one", key=own))[0] == 403
    assert [one["id"] for one in (await grand.must("GET", PATH, key=own))["grants"]] == ["one"]
    assert (await grand.ask("GET", PATH, key=other))[0] == 404
    assert (await grand.ask("POST", "/v1/tenants/nobody/grants", form))[0] == 404


async def test_a_trial_is_told_to_gates_until_a_subscription_without_one(grand: Api) -> None:
    now = SystemClock().now_ms()
    ends = now + DAY_MS
    await grand.must("POST", "/v1/tenants", {"name": "fresh", "plan": "small", "trial_ends": iso(ends)})
    shown = await grand.must("GET", "/v1/tenants/fresh")
    assert shown["subscription"]["trial_ends"] == iso(ends)

    async def told() -> Any:
        return entitlement.decode(await grand.redis.get(keys.snapshot("fresh")))

    async def trial(wanted: int | None) -> bool:
        return bool((await told()).trial_ends == wanted)

    await eventually(lambda: trial(ends), timeout=5)
    shown = await grand.must("PUT", "/v1/tenants/fresh/subscription", {"plan": "large"})
    assert "trial_ends" not in shown["subscription"]
    await eventually(lambda: trial(None), timeout=5)
    wrong = {"plan": "large", "since": iso(now), "trial_ends": iso(now)}
    status, answer = await grand.ask("PUT", "/v1/tenants/fresh/subscription", wrong)
    assert (status, answer["type"].rpartition("/")[2]) == (422, "invalid-time")
