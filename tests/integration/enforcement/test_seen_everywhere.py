"""What the control plane changes is seen by every gate within two seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from enforcement.app import build
from enforcement.settings import Settings
from metering import keys
from metering.clock import SystemClock
from tenancy import grants, migrations, subscriptions, tenants
from tenancy.catalogs import Catalogs
from tenancy.database import Database
from tenancy.grants import Wanted
from tenancy.keys import create_key, revoke_key
from tenancy.snapshots import Publisher
from tests.integration.enforcement.conftest import GateClient, Valkey
from tests.support import eventually

GATES = 4
SEEN_SECONDS = 2
CATALOG = """
meters: {calls: {event: call, aggregation: count}}
features: {calls: {meter: calls}, cloning: {}}
plans:
  small: {entitlements: {calls: {limit: LIMIT, period: day}}}
  large: {entitlements: {calls: {limit: 1000, period: day}, cloning: true}}
"""


class Fleet(NamedTuple):
    """Gates that share stores, and the control plane's database."""

    gates: list[GateClient]
    database: Database

    async def all_say(self, feature: str, **wanted: Any) -> None:
        """Within the time, all at once."""

        async def say() -> bool:
            return all([await gate.says(feature, **wanted) for gate in self.gates])

        await eventually(say, timeout=SEEN_SECONDS, what=f"{feature}: {wanted}")


@pytest.fixture
async def fleet(server: Valkey, redis: Redis, tmp_path: Path) -> AsyncIterator[Fleet]:
    sql = f"sqlite+aiosqlite:///{tmp_path / 'control.db'}"
    await asyncio.to_thread(migrations.upgrade, sql)
    database = Database(sql)
    await database.open()
    await redis.set(keys.EPOCH, "1:1")
    await redis.hset(keys.applied(1, 0), "offset", "0")
    await Catalogs(database).apply(CATALOG.replace("LIMIT", "10"), 0)
    await tenants.create(database, "grand", "test")
    await subscriptions.assign(database, "grand", "small", "test")
    platform, _ = await create_key(database, None, frozenset({"platform"}))
    publishing = asyncio.create_task(Publisher(database, redis).run())
    async with AsyncExitStack() as stack:
        gates = []
        for _ in range(GATES):
            app = build(Settings(redis=server.url, sql=sql, redis_seconds=1.0), SystemClock())
            client = await stack.enter_async_context(TestClient(TestServer(app)))
            gates.append(GateClient(client, database, platform))
        made = Fleet(gates, database)

        async def known() -> bool:
            return all([(await gate.check("calls"))["source"] == "memory" for gate in gates])

        await eventually(known, timeout=20)
        yield made
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    await database.close()


def _plan(fleet: Fleet) -> Awaitable[object]:
    return subscriptions.assign(fleet.database, "grand", "large", "test")


def _catalog(fleet: Fleet) -> Awaitable[object]:
    return Catalogs(fleet.database).apply(CATALOG.replace("LIMIT", "20"), 0)


def _suspended(fleet: Fleet) -> Awaitable[object]:
    return tenants.set_status(fleet.database, "grand", "suspended", "test")


def _trial_over(fleet: Fleet) -> Awaitable[object]:
    now = SystemClock().now_ms()
    return subscriptions.assign(fleet.database, "grand", "small", "test", since=now - 2, trial_ends=now - 1)


def _granted(fleet: Fleet) -> Awaitable[object]:
    return grants.create(fleet.database, "grand", Wanted("calls", "7", id="more"), "test")


@pytest.mark.parametrize(
    ("change", "feature", "before", "after"),
    [
        (_plan, "cloning", {"reason": "not-entitled"}, {"reason": "granted"}),
        (_catalog, "calls", {"limit": "10"}, {"limit": "20"}),
        (_granted, "calls", {"limit": "10"}, {"limit": "17"}),
        (_trial_over, "calls", {"allowed": True}, {"allowed": False, "reason": "trial-ended"}),
        (_suspended, "calls", {"allowed": True}, {"allowed": False, "reason": "tenant-suspended"}),
    ],
)
async def test_a_change_is_seen_by_every_gate(
    fleet: Fleet,
    change: Callable[[Fleet], Awaitable[object]],
    feature: str,
    before: dict[str, Any],
    after: dict[str, Any],
) -> None:
    await fleet.all_say(feature, **before)
    await change(fleet)
    await fleet.all_say(feature, **after)


async def test_a_grant_that_was_taken_back_counts_at_no_gate(fleet: Fleet) -> None:
    await _granted(fleet)
    await fleet.all_say("calls", limit="17")
    await grants.end(fleet.database, "grand", "more", "test")
    await fleet.all_say("calls", limit="10")


async def test_a_tenant_whose_trial_was_converted_is_allowed_by_every_gate(fleet: Fleet) -> None:
    await _trial_over(fleet)
    await fleet.all_say("calls", reason="trial-ended")
    await subscriptions.assign(fleet.database, "grand", "small", "test")
    await fleet.all_say("calls", allowed=True, reason="within-limit")


async def test_a_revoked_key_opens_no_gate(fleet: Fleet) -> None:
    text, id = await create_key(fleet.database, "grand", frozenset({"check"}))
    for gate in fleet.gates:
        assert (await gate.check("calls", key=text))["allowed"]
    await revoke_key(fleet.database, id, "grand", "test")

    async def refused() -> bool:
        question = {"tenant": "grand", "feature": "calls"}
        answers = [await gate.send("POST", "/v1/check", question, text) for gate in fleet.gates]
        return all(answer.status == 401 for answer in answers)

    await eventually(refused, timeout=SEEN_SECONDS)
