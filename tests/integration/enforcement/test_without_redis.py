"""Redis frozen, dead and back: checks are answered at once from memory, and readiness says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from enforcement.app import build
from enforcement.settings import Settings
from metering.clock import iso
from tenancy.database import Database
from tenancy.keys import create_key
from tests.integration.enforcement.conftest import GateClient, State, Valkey
from tests.support import SetClock, eventually

WAIT = 0.05


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[Valkey]:
    running = Valkey(tmp_path / "valkey")
    client = Redis.from_url(running.url, protocol=3)
    await eventually(client.ping, what="Valkey")
    await State(client).whole()
    await client.aclose()
    yield running
    running.wake()
    running.kill()


@pytest.fixture
async def hasty(own_server: Valkey, sql: str, clock: SetClock) -> AsyncIterator[GateClient]:
    """A gate that waits for Redis as long as the default says."""
    app = build(Settings(redis=own_server.url, sql=sql, redis_seconds=WAIT), clock)
    database = Database(sql)
    await database.open()
    platform, _ = await create_key(database, None, frozenset({"platform"}))
    async with TestClient(TestServer(app)) as client:
        made = GateClient(client, database, platform)
        await eventually(lambda: _knows(made), what="a check from memory")
        yield made
    await database.close()


async def _knows(gate: GateClient) -> bool:
    return bool((await gate.check("voice"))["source"] == "memory" and not await gate.failures())


async def _memory_decides(gate: GateClient) -> None:
    for feature, allowed, reason in [
        ("voice", True, "within-limit"),
        ("calls", True, "unlimited"),
        ("cloning", True, "granted"),
        ("white-label", False, "not-entitled"),
    ]:
        answer = await gate.check(feature)
        assert (answer["allowed"], answer["reason"], answer["source"]) == (allowed, reason, "memory")
    unseen = await gate.check("voice", "never-seen")
    assert (unseen["allowed"], unseen["reason"], unseen["source"]) == (False, "unavailable", "fallback")


async def test_a_frozen_redis_costs_whom_the_gate_does_not_know_no_more_than_the_wait(
    hasty: GateClient, own_server: Valkey
) -> None:
    own_server.freeze()
    began = time.perf_counter()
    await hasty.check("voice", "never-seen")
    first = time.perf_counter() - began
    assert first < WAIT + 1.0  # the machine may be busy; without the bound it would be forever
    await eventually(hasty.failures, what="readiness complains")
    await _memory_decides(hasty)
    own_server.wake()
    await eventually(lambda: _knows(hasty), what="Redis is there again")


async def test_while_redis_is_known_to_be_away_checks_do_not_wait_for_it(hasty: GateClient, own_server: Valkey) -> None:
    own_server.freeze()
    await eventually(hasty.failures, what="readiness complains")
    began = time.perf_counter()
    answers = await asyncio.gather(*(hasty.check("voice", f"never-seen-{number}") for number in range(50)))
    assert {answer["source"] for answer in answers} == {"fallback"}
    assert time.perf_counter() - began < 50 * WAIT
    own_server.wake()


async def test_who_reserves_waits_for_a_frozen_redis_but_not_long(hasty: GateClient, own_server: Valkey) -> None:
    own_server.freeze()
    began = time.perf_counter()
    question = {"tenant": "grand", "feature": "voice", "amount": 1}
    response = await hasty.send("POST", "/v1/reservations", question)
    assert (response.status, (await response.json())["type"].rpartition("/")[2]) == (503, "unavailable")
    assert time.perf_counter() - began < 10 * WAIT + 1.0
    own_server.wake()


async def test_a_dead_redis_is_answered_for_and_found_again(hasty: GateClient, own_server: Valkey) -> None:
    own_server.kill()
    await eventually(hasty.failures, what="readiness complains")
    await _memory_decides(hasty)
    assert "Redis does not answer" in (await hasty.failures())["counters"]
    own_server.start()
    await eventually(lambda: _knows(hasty), what="Redis is there again")
    assert not await hasty.failures()


async def test_as_of_says_how_old_what_decided_is(hasty: GateClient, own_server: Valkey, clock: SetClock) -> None:
    known = (await hasty.check("voice"))["as_of"]
    own_server.freeze()
    await eventually(hasty.failures, what="readiness complains")
    clock.advance(60_000)
    assert (await hasty.check("voice"))["as_of"] == known
    own_server.wake()
    await eventually(lambda: hasty.says("voice", as_of=iso(clock.at)), what="it is fresh again")


async def test_a_gate_starts_without_redis_and_denies_what_it_does_not_know(sql: str, clock: SetClock) -> None:
    app = build(Settings(redis="redis://127.0.0.1:1/0", sql=sql), clock)
    database = Database(sql)
    await database.open()
    platform, _ = await create_key(database, None, frozenset({"platform"}))
    async with TestClient(TestServer(app)) as client:
        gate = GateClient(client, database, platform)
        answer = await gate.check("voice")
        assert (answer["allowed"], answer["reason"], answer["source"]) == (False, "unavailable", "fallback")
        assert await gate.failures()
        assert (await client.get("/livez")).status == 200
        assert (await gate.send("GET", "/v1/entitlements/grand")).status == 503
    await database.close()
