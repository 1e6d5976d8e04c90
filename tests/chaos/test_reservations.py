"""Reservations with everything real: 200 clients on four gates that are killed, the writer, a Redis that is flushed.

TALLYGATE_TEST_RESERVATION_SEEDS says how many seeds; `make reservations` runs 50.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from metering import keys, topics
from metering.catalog import parse_catalog
from metering.clock import parse_iso
from metering.entitlement import compile_snapshot, encode
from metering.partition import partition_of
from metering.period import BillingTerm
from metering.reservation import holds_of
from tests.engines import APACHE, Engines, Worker
from tests.support import eventually, free_port

CATALOG = """
meters: {calls: {event: call, aggregation: sum, value: $.n}}
features: {calls: {meter: calls, reservable: true}}
plans:
  small: {entitlements: {calls: {limit: 10, period: lifetime}}}
  large: {entitlements: {calls: {limit: 1000, period: lifetime}}}
"""
LIMIT, CLIENTS, GATES = 1000, 200, 4
DYING = 0.02
VISIBLE_SECONDS = 5.0
SEEDS = range(int(os.environ.get("TALLYGATE_TEST_RESERVATION_SEEDS", "5")))
TTL = 12.0
FIELD = keys.counter_field("calls", "lifetime", 0)


class Hotel:
    """Engines, a writer and gates; tenants on plans of their own."""

    def __init__(self, engines: Engines, redis: Redis, producer: Any) -> None:
        self.engines = engines
        self.redis = redis
        self.writer = engines.worker("writer")
        self._producer = producer
        self.gates: list[Worker] = []
        self._sessions: list[aiohttp.ClientSession] = []
        for number in range(GATES):
            socket = engines.folder / f"gate-{number}.sock"
            env = {"PORT": str(free_port()), "SOCKET": str(socket), "RESERVATION_SECONDS": str(TTL)}
            env["REDIS_SECONDS"] = "0.2"
            settings = {f"TALLYGATE_GATE_{name}": value for name, value in env.items()}
            self.gates.append(engines.service(f"gate-{number}", ("-m", "enforcement"), "GATE", **settings))
            connector, patience = aiohttp.UnixConnector(str(socket), limit=0), aiohttp.ClientTimeout(total=10)
            self._sessions.append(aiohttp.ClientSession(connector=connector, timeout=patience))

    async def close(self) -> None:
        for session in self._sessions:
            await session.close()

    async def tenant(self, name: str, plan: str) -> None:
        """Publish a tenant's plan, as tenancy does."""
        snapshot = compile_snapshot(name, "active", plan, (BillingTerm(0, 0, "UTC"),), parse_catalog(CATALOG), 1)
        await self.redis.set(keys.snapshot(name), encode(snapshot))
        number = await self.redis.incr(keys.SNAPSHOT_CHANGES)
        await self.redis.zadd(keys.CHANGED_SNAPSHOTS, {name: number})
        await self.redis.set(keys.SNAPSHOTS, "1")

    async def ask(self, gate: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Any request to a gate: status and body; 0 where nobody answers."""
        try:
            async with self._sessions[gate].request(method, f"http://gate{path}", json=body) as answer:
                return answer.status, await answer.json() if answer.content_type.endswith("json") else None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0, None

    async def answers(self, gate: int) -> bool:
        """Whether a gate is up."""
        status, _ = await self.ask(gate, "GET", "/livez")
        return status == 200

    async def reserve(self, gate: int, tenant: str, id: str, amount: int = 1, ttl: float = TTL) -> tuple[int, Any]:
        body = {"tenant": tenant, "feature": "calls", "amount": amount, "id": id, "ttl_seconds": str(ttl)}
        return await self.ask(gate, "POST", "/v1/reservations", body)

    async def use(self, tenant: str, id: str, reservation: str | None, amount: int = 1) -> None:
        """A usage event that names its reservation, if it has one, acknowledged by the broker."""
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": id,
            "source": "/pms",
            "type": "call",
            "data": {"n": amount},
        }
        if reservation is not None:
            event["reservationid"] = reservation
        event["time"] = datetime.now(UTC).isoformat()
        epoch = self.engines.epoch
        await self._producer.send_and_wait(
            topics.events(epoch.epoch),
            json.dumps(event, separators=(",", ":")).encode(),
            key=tenant.encode(),
            partition=partition_of(tenant, epoch.partitions),
        )

    async def standing(self, tenant: str) -> tuple[int, int]:
        """What is used and what is held, at one moment."""
        epoch = self.engines.epoch
        at = epoch.epoch, partition_of(tenant, epoch.partitions)
        pipe = self.redis.pipeline(transaction=True)
        pipe.hget(keys.counters(*at, tenant), FIELD)
        pipe.hgetall(keys.holds(*at, tenant))
        used, found = await pipe.execute()
        now = time.time() * 1000
        holds = holds_of({field.decode(): text.decode() for field, text in found.items()})
        return int(used or 0), sum(hold.units for hold in holds.values() if hold.expires > now)


@pytest.fixture
async def hotel(tmp_path: Path) -> AsyncIterator[Hotel]:
    engines = Engines(tmp_path, APACHE)
    try:
        await engines.start(CATALOG, partitions=2)
        redis: Redis = Redis(port=engines.redis_port, protocol=3)
        producer = AIOKafkaProducer(bootstrap_servers=engines.kafka, acks="all")
        await producer.start()
        made = Hotel(engines, redis, producer)
        for program in (made.writer, *made.gates):
            program.start()
        await made.tenant("probe", "small")
        for gate in (made.writer, *made.gates):
            await eventually(gate.ready, timeout=60)
        yield made
        await made.close()
        await producer.stop()
        await redis.aclose()
    finally:
        await engines.stop()


async def killing(hotel: Hotel, chance: random.Random, over: asyncio.Event) -> None:
    """Kill a gate now and then, and start it again."""
    while not over.is_set():
        await asyncio.sleep(chance.uniform(0.1, 0.5))  # when it strikes must not depend on what it strikes
        number = chance.randrange(GATES)
        hotel.gates[number].kill()
        hotel.gates[number].start()
        await eventually(partial(hotel.answers, number), timeout=60)


async def client(hotel: Hotel, tenant: str, number: int, chance: random.Random, reported: set[str]) -> None:
    """Reserves one after the other until all is used, uses what it got, tells of it before or after a commit, now and
    then twice; or dies with what it holds, which is free again when its time is over. What it did not hear an answer to
    it asks again."""
    turn = 0
    while True:
        turn += 1
        id, doomed = f"{number}-{turn}", chance.random() < DYING
        while True:
            status, body = await hotel.reserve(chance.randrange(GATES), tenant, id, ttl=1.0 if doomed else TTL)
            if status in (201, 409):
                break
            await asyncio.sleep(0.05)
        if status == 201 and doomed:
            return
        if status == 409 and body["type"].endswith("/limit-reached"):
            if body["reserved"] == "0":
                return
            await asyncio.sleep(0.5)  # what others hold may come back
            continue
        if status == 409:
            assert body["type"].endswith("/already-counted")
            continue
        name = body["id"]
        ways = chance.choice(["use commit", "commit use", "use use", "use"])
        for step in ways.split():
            if step == "use":
                await hotel.use(tenant, id, chance.choice([id, name]))
                reported.add(id)
            else:
                await hotel.ask(chance.randrange(GATES), "POST", f"/v1/reservations/{name}/commit")


async def watch(hotel: Hotel, tenant: str, seen: list[int], over: asyncio.Event) -> None:
    """Used and held together, all the time."""
    while not over.is_set():
        seen.append(sum(await hotel.standing(tenant)))
        await asyncio.sleep(0.01)


async def crowd(hotel: Hotel, tenant: str, seed: int, flush: bool = False) -> tuple[set[str], list[int]]:
    """200 clients until the limit is reached, gates killed meanwhile: the ids that were used, and what was seen."""
    chance = random.Random(seed)
    await hotel.tenant(tenant, "large")
    reported: set[str] = set()
    seen: list[int] = []
    over = asyncio.Event()
    others = [asyncio.create_task(killing(hotel, chance, over)), asyncio.create_task(watch(hotel, tenant, seen, over))]
    try:
        clients = [
            asyncio.create_task(client(hotel, tenant, number, random.Random(f"{seed}.{number}"), reported))
            for number in range(CLIENTS)
        ]
        if flush:
            await eventually(lambda: len(reported) > LIMIT // 3, timeout=30, interval=0.005)
            await hotel.redis.flushall()
            await hotel.tenant(tenant, "large")
        await asyncio.gather(*clients)
    finally:
        over.set()
        await asyncio.gather(*others)
    return reported, seen


@pytest.mark.timeout(60 + 30 * len(SEEDS))
async def test_200_clients_on_gates_that_are_killed_are_granted_the_limit_and_no_more(hotel: Hotel) -> None:
    for seed in SEEDS:
        tenant = f"crowd-{seed}"
        reported, seen = await crowd(hotel, tenant, seed)
        assert len(reported) == LIMIT
        assert max(seen) <= LIMIT

        async def counted(tenant: str = tenant) -> bool:
            return await hotel.standing(tenant) == (LIMIT, 0)

        await eventually(counted, timeout=30, what=f"all counted, seed {seed}")


async def test_a_flush_in_between_grants_nothing_twice(hotel: Hotel) -> None:
    reported, _ = await crowd(hotel, "flushed", 99, flush=True)
    assert len(reported) == LIMIT

    async def counted() -> bool:
        return await hotel.standing("flushed") == (LIMIT, 0)

    await eventually(counted, timeout=30, what="all counted")


class Allowed(NamedTuple):
    """A check that was allowed, instants in ms UTC: as of when it was so, and when its use was acknowledged."""

    as_of: int
    acknowledged: float


async def test_plain_checks_overshoot_by_no_more_than_arrives_behind_their_as_of(hotel: Hotel) -> None:
    await hotel.tenant("plain", "large")
    question = {"tenant": "plain", "feature": "calls"}

    async def known() -> bool:
        answers = [await hotel.ask(gate, "POST", "/v1/check", question) for gate in range(GATES)]
        return all(parse_iso(answer["as_of"]) > 0 for _, answer in answers)

    await eventually(known, what="the writer's word to every gate")
    said: list[tuple[int, int]] = []
    allowed: list[Allowed] = []
    ages: list[float] = []

    async def user(number: int) -> None:
        turn = 0
        while True:
            turn += 1
            status, answer = await hotel.ask(number % GATES, "POST", "/v1/check", question)
            assert status == 200
            as_of = parse_iso(answer["as_of"])
            said.append((as_of, int(answer["used"] or 0)))
            ages.append(time.time() - as_of / 1000)
            if not answer["allowed"]:
                return
            await hotel.use("plain", f"{number}-{turn}", None)
            allowed.append(Allowed(as_of, time.time() * 1000))
            await asyncio.sleep(0.1)

    await asyncio.gather(*(user(number) for number in range(40)))

    async def counted() -> bool:
        return await hotel.standing("plain") == (len(allowed), 0)

    await eventually(counted, timeout=30)
    acknowledged = sorted(one.acknowledged for one in allowed)
    for as_of, used in said:
        assert used >= bisect_left(acknowledged, as_of), "what was acknowledged before `as_of` is counted"
    behind = max(bisect_right(acknowledged, one.acknowledged) - bisect_left(acknowledged, one.as_of) for one in allowed)
    print(f"overshoot {len(allowed) - LIMIT} of {LIMIT}; at most {behind} behind an as_of of {max(ages):.3f} s ago")
    assert max(ages) < VISIBLE_SECONDS
    assert 0 <= len(allowed) - LIMIT <= behind


async def test_what_a_flush_lost_and_was_used_in_time_is_counted_before_anything_is_held_again(hotel: Hotel) -> None:
    await hotel.tenant("lost", "small")
    status, body = await hotel.reserve(0, "lost", "all", amount=10)
    assert status == 201
    await hotel.redis.flushall()
    await hotel.tenant("lost", "small")
    flushed = time.monotonic()

    async def recovering() -> bool:
        status, body = await hotel.reserve(1, "lost", "more")
        return status == 503 and body["type"].endswith("/recovering")

    await eventually(recovering)

    async def nothing_until(seconds: float) -> None:
        async def over() -> bool:
            assert (await hotel.reserve(2, "lost", "more"))[0] == 503
            return time.monotonic() > flushed + seconds

        await eventually(over, timeout=TTL + 10, interval=0.2)

    await nothing_until(TTL - 2)
    hotel.writer.send(signal.SIGSTOP)
    await hotel.use("lost", "e1", body["id"], 10)
    await nothing_until(TTL + 3)
    hotel.writer.send(signal.SIGCONT)

    async def known() -> int:
        status, _ = await hotel.reserve(3, "lost", "more")
        return status if status != 503 else 0

    assert await eventually(known, timeout=30) == 409
    assert await hotel.standing("lost") == (10, 0)


async def test_clients_that_die_with_what_they_hold_cost_nobody_anything_for_longer_than_their_time(
    hotel: Hotel,
) -> None:
    await hotel.tenant("dying", "large")
    asked = [
        asyncio.create_task(hotel.reserve(number % GATES, "dying", str(number), amount=5, ttl=1.0))
        for number in range(CLIENTS)
    ]
    _, waiting = await asyncio.wait(asked, timeout=0.2)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert sum(await hotel.standing("dying")) <= LIMIT

    async def free() -> bool:
        status, _ = await hotel.reserve(0, "dying", "last", amount=LIMIT)
        return status == 201

    await eventually(free, timeout=10, what="the end of what the dead held")


@pytest.mark.parametrize("bare", [True, False])
async def test_usage_counts_once_whether_told_before_the_commit_after_it_twice_or_never(
    hotel: Hotel, bare: bool
) -> None:
    tenant = "once"
    await hotel.tenant(tenant, "small")

    async def held(id: str, amount: int) -> str:
        status, body = await hotel.reserve(0, tenant, id, amount)
        assert status == 201, body
        return id if bare else str(body["id"])

    async def commit(id: str, amount: int) -> Any:
        path = f"/v1/reservations/{tenant}.calls.{id}/commit"
        status, body = await hotel.ask(1, "POST", path, {"amount": amount})
        assert status == 200, body
        return body["state"]

    async def stands(used: int, reserved: int) -> None:
        async def so() -> bool:
            assert await hotel.standing(tenant) == (used, reserved)
            return True

        await eventually(so, timeout=20)

    before = await held("before", 4)
    await hotel.use(tenant, "e1", before, 3)
    await stands(3, 0)
    assert await commit("before", 3) == "counted"
    after = await held("after", 3)
    assert await commit("after", 2) == "committed"
    await stands(3, 2)
    await hotel.use(tenant, "e2", after, 2)
    await stands(5, 0)
    twice = await held("twice", 2)
    await hotel.use(tenant, "e3", twice, 2)
    await hotel.use(tenant, "e3", twice, 2)
    await stands(7, 0)
    await held("never", 3)
    status, body = await hotel.reserve(2, tenant, "no-room")
    assert (status, body["used"], body["reserved"]) == (409, "7", "3")
    assert await commit("never", 1) == "committed"
    await stands(7, 1)
    await stands(7, 0)  # its time is over

    async def room() -> bool:
        status, _ = await hotel.reserve(3, tenant, "room", 3)
        return status == 201

    await eventually(room, what="the writer says that its usage is not on its way")


async def test_usage_told_in_time_is_held_until_it_is_counted_however_late_that_is(hotel: Hotel) -> None:
    await hotel.tenant("late", "small")
    status, body = await hotel.reserve(0, "late", "all", amount=10, ttl=1.0)
    assert status == 201
    hotel.writer.send(signal.SIGSTOP)
    stopped = time.monotonic()
    await eventually(lambda: time.monotonic() > stopped + 0.2, what="an answer to what the writer asked before")
    await hotel.use("late", "e1", body["id"], 10)
    told = time.monotonic()
    answers = []

    async def long_over() -> bool:
        answers.append((await hotel.reserve(1, "late", "more", amount=1))[0])
        answers.append((await hotel.reserve(2, "late", "all", amount=10))[0])
        return time.monotonic() > told + 3.0

    await eventually(long_over, interval=0.1)
    assert 201 not in answers[-10:]
    check = {"tenant": "late", "feature": "calls"}
    assert not (await hotel.ask(3, "POST", "/v1/check", check))[1]["allowed"]
    hotel.writer.send(signal.SIGCONT)

    async def counted() -> bool:  # and nothing is granted meanwhile, whatever the writer had heard before it stopped
        assert (await hotel.reserve(1, "late", "more", amount=1))[0] in (409, 503)
        return await hotel.standing("late") == (10, 0)

    await eventually(counted, timeout=30, interval=0.001)
    assert (await hotel.reserve(1, "late", "more", amount=1))[0] == 409
