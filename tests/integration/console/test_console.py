"""The console as a process of its own, over HTTP, with the real stores behind it."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from metering import entitlement, keys
from metering.clock import iso
from tenancy.keys import ensure_bootstrap_key
from tests.engines import Engines, Program
from tests.support import eventually, free_port

CATALOG = """
meters:
  calls: {event: call, aggregation: count, group_by: {language: $.l}}
features: {calls: {meter: calls}}
plans:
  small: {entitlements: {calls: {limit: 5, period: month}}}
  large: {entitlements: {calls: {limit: 500, period: month}}}
"""
ADMIN = f"tg_{'a' * 12}_{'A' * 32}"


class Console:
    """Calls to the running console; `redis` to look at what it published."""

    def __init__(self, url: str, session: aiohttp.ClientSession, redis: Any, engines: Engines) -> None:
        self.url = url
        self._session = session
        self.redis = redis
        self.engines = engines

    async def ask(self, method: str, path: str, body: Any = None, key: str = ADMIN) -> tuple[int, Any]:
        """(status, JSON)."""
        headers = {"Authorization": f"Bearer {key}"}
        sent: dict[str, Any] = {"data": body} if isinstance(body, str) else {"json": body}
        async with self._session.request(method, self.url + path, headers=headers, **sent) as answer:
            return answer.status, await answer.json(content_type=None)

    async def make_key(self, tenant: str, *scopes: str) -> tuple[str, str]:
        """(text, id) of a new key."""
        status, made = await self.ask("POST", f"/v1/tenants/{tenant}/keys", {"scopes": list(scopes)})
        assert status == 201, made
        return made["key"], made["id"]

    async def plan_at_the_gate(self, tenant: str) -> str | None:
        """The plan that gates read."""
        text = await self.redis.get(keys.snapshot(tenant))
        return None if text is None else entitlement.decode(text).plan


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    engines = Engines(tmp_path, None)
    port = free_port()
    process = Program(
        "console",
        [sys.executable, "-m", "console"],
        tmp_path / "console.log",
        {**engines.environment, "TALLYGATE_CONSOLE_PORT": str(port)},
    )
    try:
        await engines.start(CATALOG, partitions=2)
        await ensure_bootstrap_key(engines.database, ADMIN)
        process.start()
        redis: Redis = Redis(port=engines.redis_port, protocol=3)
        async with aiohttp.ClientSession() as session:
            made = Console(f"http://127.0.0.1:{port}", session, redis, engines)
            await eventually(lambda: _ready(made), timeout=30, what="the console is ready")
            yield made
        await redis.aclose()
    finally:
        process.kill()
        await engines.stop()


async def _ready(console: Console) -> bool:
    status, _ = await console.ask("GET", "/readyz")
    return status == 200


async def test_another_tenants_things_answer_exactly_like_things_that_do_not_exist(console: Console) -> None:
    for name in ("adler", "baer"):
        assert (await console.ask("POST", "/v1/tenants", {"name": name, "plan": "small"}))[0] == 201
    key, _ = await console.make_key("adler", "read", "admin")
    assert (await console.ask("GET", "/v1/tenants/adler", key=key))[0] == 200
    for path in ("/v1/tenants/{}", "/v1/tenants/{}/keys", "/v1/usage?tenant={}"):
        theirs = await console.ask("GET", path.format("baer"), key=key)
        nobodys = await console.ask("GET", path.format("nobody"), key=key)
        assert theirs[0] == nobodys[0] == 404
        assert str(theirs[1]).replace("baer", "nobody") == str(nobodys[1])
    made = await console.ask("POST", "/v1/tenants/baer/keys", {"scopes": ["read"]}, key=key)
    assert made[0] == 404
    assert (await console.ask("GET", "/v1/tenants", key=key))[0] == 403


async def test_a_key_is_shown_once_kept_as_a_hash_and_revocable(console: Console) -> None:
    await console.ask("POST", "/v1/tenants", {"name": "adler"})
    key, key_id = await console.make_key("adler", "read")
    _, listed = await console.ask("GET", "/v1/tenants/adler/keys")
    assert [one["id"] for one in listed["keys"]] == [key_id]
    assert key not in str(listed)
    for file in console.engines.folder.glob("control.db*"):
        assert key.encode() not in file.read_bytes()
    assert (await console.ask("GET", "/v1/tenants/adler", key=key))[0] == 200
    assert (await console.ask("DELETE", f"/v1/tenants/adler/keys/{key_id}"))[0] == 200

    async def refused() -> bool:
        return (await console.ask("GET", "/v1/tenants/adler", key=key))[0] == 401

    await eventually(refused, timeout=5, what="a revoked key stops working within five seconds")


async def test_a_catalog_is_refused_with_every_mistake_and_a_meter_keeps_its_meaning(console: Console) -> None:
    status, problem = await console.ask("PUT", "/v1/catalog", "meters: {a: {aggregation: nope}, B: {event: x}}")
    assert status == 422
    assert {error["path"] for error in problem["errors"]} >= {"meters.a.event", "meters.a.aggregation", "meters.B"}
    changed = CATALOG.replace("aggregation: count", "aggregation: max, value: $.n")
    status, problem = await console.ask("PUT", "/v1/catalog", changed)
    assert (status, problem["errors"][0]["path"]) == (422, "meters.calls.aggregation")
    assert (await console.ask("PUT", "/v1/catalog", CATALOG))[1]["version"] == 1
    _, made = await console.ask("PUT", "/v1/catalog", CATALOG.replace("limit: 5,", "limit: 6,"))
    assert made["version"] == 2
    assert (await console.ask("GET", "/v1/catalog/1"))[1]["catalog"]["plans"]["small"] != made["catalog"]["plans"][
        "small"
    ]


async def test_plans_reach_the_gate_at_once_when_they_begin_later_and_after_a_flush(console: Console) -> None:
    await console.ask("POST", "/v1/tenants", {"name": "adler", "plan": "small"})

    async def plan_is(plan: str) -> bool:
        return await console.plan_at_the_gate("adler") == plan

    await eventually(lambda: plan_is("small"), timeout=5)
    soon = iso(int(time.time() * 1000) + 3000)
    status, _ = await console.ask("PUT", "/v1/tenants/adler/subscription", {"plan": "large", "since": soon})
    assert status == 200
    await eventually(lambda: plan_is("large"), timeout=10, what="a plan that begins later reaches the gate then")
    await console.redis.flushall()
    await eventually(lambda: plan_is("large"), timeout=5)


async def test_usage_refuses_what_it_does_not_understand(console: Console) -> None:
    await console.ask("POST", "/v1/tenants", {"name": "adler", "plan": "small"})
    for query in ("window=hour", "filter[x]=1", "meter=nope", "group_by=nope", "from=yesterday", "source=rumour"):
        status, problem = await console.ask("GET", f"/v1/usage?tenant=adler&{query}")
        assert status == 422, (query, problem)
    status, empty = await console.ask("GET", "/v1/usage?tenant=adler&group_by=language")
    assert (status, empty["meters"]["calls"]) == (200, {"total": "0", "groups": {}})


async def test_the_document_names_every_route(console: Console) -> None:
    _, document = await console.ask("GET", "/openapi.json")
    assert {"/v1/usage", "/v1/catalog", "/v1/tenants/{tenant}/keys/{id}", "/v1/applied"} <= document["paths"].keys()
