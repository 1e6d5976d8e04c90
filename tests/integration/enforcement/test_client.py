"""The client against a real gate: answers, its budget, what stands in for a gate that is away, what is built on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from enforcement.client import Answer, Gate, GateASGI, Question, gated, middleware
from enforcement.client.web import ANSWER
from metering import keys
from metering.errors import Refused, Unavailable
from tests.integration.enforcement.conftest import EPOCH, PARTITIONS, GateClient, State
from tests.support import SetClock

BUDGET = 0.2


@pytest.fixture
async def asker(gate: GateClient) -> AsyncIterator[Gate]:
    async with Gate(str(gate.client.make_url("/")), gate.platform, budget=5.0) as made:
        yield made


class Silent:
    """Something that takes connections and never answers."""

    def __init__(self) -> None:
        self.connections = 0

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.read()
        writer.close()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


async def test_an_answer_is_the_gates(asker: Gate, gate: GateClient, state: State) -> None:
    await state.counter("grand", "voice", "35999.5")
    denied = await asker.check("grand", "voice", 1)
    assert (denied.allowed, denied.reason, denied.used, denied.remaining) == (False, "limit-reached", "35999.5", "0.5")
    assert (await asker.check("grand", "voice", "0.5")).allowed
    assert (await asker.check("grand", "upload")).value == 20
    answers = await asker.check_all([Question("grand", "cloning"), Question("nobody", "voice", 2)])
    assert [(answer.allowed, answer.reason) for answer in answers] == [(True, "granted"), (False, "unknown-tenant")]
    assert await asker.check_all([]) == []
    entitlements = await asker.entitlements("grand")
    assert entitlements is not None and entitlements["features"]["cloning"] == {"entitled": True}


async def test_what_the_gate_refuses_is_raised_and_not_fallen_back_on(asker: Gate, gate: GateClient) -> None:
    with pytest.raises(Refused, match="negative"):
        await asker.check("grand", "voice", -1)
    with pytest.raises(Refused, match="unknown-tenant"):
        await asker.entitlements("nobody")
    async with Gate(str(gate.client.make_url("/")), "tg_wrong", budget=5.0) as stranger:
        with pytest.raises(Refused):
            await stranger.check("grand", "voice")


async def test_connections_are_used_again(asker: Gate, gate: GateClient) -> None:
    server: Any = gate.client.server
    before = len(server.handler.connections)
    for _ in range(20):
        await asker.check("grand", "voice")
    assert len(server.handler.connections) == before + 1


async def test_a_gate_that_does_not_answer_costs_the_budget_once_and_then_nothing() -> None:
    silent = Silent()
    async with silent as url, Gate(url, "tg_key", budget=BUDGET) as asker:
        began = time.perf_counter()
        first = await asker.check("grand", "voice")
        took = time.perf_counter() - began
        others = [await asker.check("grand", "voice", on_unknown="open") for _ in range(50)]
        assert BUDGET <= took < BUDGET + 1.0
        assert time.perf_counter() - began < 5 * BUDGET + 1.0
        assert (first.allowed, first.reason, first.source, first.policy) == (False, "unavailable", "fallback", "closed")
        assert all(answer.allowed and answer.policy == "open" for answer in others)


async def test_the_last_answer_stands_in_for_a_gate_that_is_gone(gate: GateClient, state: State) -> None:
    await state.counter("grand", "voice", "35990")
    async with Gate(str(gate.client.make_url("/")), gate.platform, budget=5.0) as asker:
        known = await asker.check("grand", "voice")
        assert not (await asker.check("grand", "white-label")).allowed
        await gate.client.close()
        few, many = await asker.check("grand", "voice", 10), await asker.check("grand", "voice", 11)
        assert (few.allowed, few.source, few.as_of, few.used) == (True, "fallback", known.as_of, "35990")
        assert not many.allowed
        assert not (await asker.check("grand", "white-label", on_unknown="open")).allowed
        assert (await asker.check("grand", "never-asked", on_unknown="open")).allowed


async def test_answers_are_remembered_for_a_time_and_no_more_than_so_many(gate: GateClient) -> None:
    url = str(gate.client.make_url("/"))
    async with (
        Gate(url, gate.platform, budget=5.0, remembered=1) as small,
        Gate(url, gate.platform, budget=5.0, remembered_seconds=0.0) as forgetful,
    ):
        for asker in (small, forgetful):
            await asker.check("grand", "cloning")
            await asker.check("grand", "upload")
        await gate.client.close()
        assert (await small.check("grand", "upload")).allowed
        assert not (await small.check("grand", "cloning")).allowed
        assert not (await forgetful.check("grand", "upload")).allowed


def _asked(request: web.Request) -> Question | None:
    if request.path == "/free":
        return None
    return Question("grand", "voice", request.query.get("seconds", 1))


async def _served(request: web.Request) -> web.Response:
    answer = request.get(ANSWER)
    return web.Response(text="nothing asked" if answer is None else str(answer.remaining))


async def test_an_aiohttp_application_serves_what_the_gate_allows(asker: Gate, state: State) -> None:
    await state.counter("grand", "voice", "35000")
    whole = web.Application(middlewares=[middleware(asker, _asked)])
    whole.router.add_get("/{path:.*}", _served)
    one = web.Application()
    one.router.add_get("/free", _served)
    one.router.add_get("/call", gated(asker, _asked)(_served))
    for app in (whole, one):
        async with TestClient(TestServer(app)) as client:
            assert await (await client.get("/free")).text() == "nothing asked"
            assert await (await client.get("/call?seconds=1000")).text() == "1000"
            denied = await client.get("/call?seconds=1001")
            assert (denied.status, denied.content_type) == (403, "application/problem+json")
            assert denied.headers["X-Tallygate-Reason"] == "limit-reached"
            problem = await denied.json()
            assert (problem["type"].rsplit("/", 1)[1], problem["limit"]) == ("limit-reached", "36000")


async def test_an_asgi_application_serves_what_the_gate_allows(asker: Gate, state: State) -> None:
    await state.counter("grand", "voice", "36000")
    reached: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append((scope["type"], scope.get("state", {}).get("tallygate")))

    def asks(scope: Any) -> Question | None:
        return None if scope["path"] == "/free" else Question("grand", scope["path"][1:])

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    wrapped = GateASGI(app, asker, asks)
    for scope in ({"type": "lifespan"}, {"type": "http", "path": "/free"}, {"type": "http", "path": "/cloning"}):
        await wrapped(scope, receive, send)
    assert [kind for kind, _ in reached] == ["lifespan", "http", "http"]
    assert isinstance(reached[2][1], Answer) and reached[2][1].reason == "granted"
    assert not sent
    await wrapped({"type": "http", "path": "/voice"}, receive, send)
    assert len(reached) == 3
    start, body = sent
    assert start["status"] == 403
    assert (b"x-tallygate-reason", b"limit-reached") in start["headers"]
    assert b"limit-reached" in body["body"]


@pytest.fixture
async def holder(asker: Gate, state: State, redis: Redis) -> Gate:
    """Of a gate that knows of every hold; tenant `tight` may use 10 s in its billing period, 4.5 in the hour."""
    await state.tenant("tight", "tight")
    run = (await redis.info("server"))["run_id"]
    for partition in range(PARTITIONS):
        await redis.hset(keys.holding(EPOCH, partition), mapping={"run": run, "since": "0", "latest": "0"})
    return asker


async def test_what_is_held_is_committed_or_given_back(holder: Gate, state: State, clock: SetClock) -> None:
    first = await holder.reserve("tight", "voice", "4", id="call-1", seconds=60)
    assert (first.held, first.id, first.answer.reserved, first.answer.remaining) == (
        True,
        "tight.voice.call-1",
        "4",
        "0.5",
    )
    again = await holder.reserve("tight", "voice", 4, id="call-1", seconds=60)
    assert (again.id, again.expires_at, again.answer.reserved) == (first.id, first.expires_at, "4")
    refused = await holder.reserve("tight", "voice", 1)
    assert (refused.held, refused.answer.allowed, refused.answer.reason) == (False, False, "limit-reached")
    assert (await holder.reserve("tight", "voice", 3, id="call-1")).answer.reason == "id-conflict"
    assert first.id is not None
    assert await holder.commit(first.id, "3.5") == "committed"
    await state.counts("tight", "call-1", "3.5", clock.at)
    assert await holder.commit(first.id) == "counted"
    second = await holder.reserve("tight", "voice", 1)
    assert second.id is not None
    await holder.release(second.id)
    assert await holder.commit(second.id) == "unknown"
    with pytest.raises(Refused, match="negative"):
        await holder.reserve("tight", "voice", -1)


async def test_without_a_gate_nothing_is_held_and_the_caller_says_what_then(gate: GateClient) -> None:
    silent = Silent()
    async with silent as url, Gate(url, "tg_key", reserve_budget=BUDGET) as asker:
        closed, opened = (
            await asker.reserve("grand", "voice", 1),
            await asker.reserve("grand", "voice", 1, on_unknown="open"),
        )
        assert (closed.held, closed.answer.allowed, closed.answer.source) == (False, False, "fallback")
        assert (opened.held, opened.answer.allowed) == (False, True)
        with pytest.raises(Unavailable):
            await asker.commit("grand.voice.x")


async def test_who_is_too_fast_is_told_when_to_come_again(asker: Gate, state: State) -> None:
    await state.tenant("quick", "quick")

    async def door(request: web.Request) -> web.Response:
        return web.json_response({})

    app = web.Application(middlewares=[middleware(asker, lambda request: Question("quick", "cloning"))])
    app.router.add_get("/", door)
    async with TestClient(TestServer(app)) as client:
        statuses = [(await client.get("/")).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        response = await client.get("/")
        assert 1 <= int(response.headers["Retry-After"]) <= 1800
        assert (await response.json())["type"].endswith("/rate-limited")


async def test_what_stands_in_for_the_gate_is_of_the_same_groups(gate: GateClient, state: State) -> None:
    await state.tenant("quick", "quick")
    async with Gate(str(gate.client.make_url("/")), gate.platform, budget=5.0) as asker:
        japanese, german = {"language": "ja"}, {"language": "de"}
        assert (await asker.check("quick", "speak", groups=japanese)).allowed
        assert (await asker.check("quick", "speak", groups=german)).reason == "group-not-entitled"
        await gate.client.close()
        assert (await asker.check("quick", "speak", groups=japanese)).allowed
        assert not (await asker.check("quick", "speak", groups=german, on_unknown="open")).allowed
        assert not (await asker.check("quick", "speak")).allowed
