"""The rows, in the order in which they need each other; each yields its values per window."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from redis import Redis

from bench.load import Load
from bench.system import System
from metering import keys

WINDOWS = 5
_MOST_WAITING = 1000  # records; with batches of 100, 100,000 events on their way


class Plan(NamedTuple):
    """How long a row is measured, after a warm-up; how many tenants; how many digests are there before."""

    seconds: float
    warm_up: float
    tenants: int
    digests: int


def create_tenants(system: System, plan: Plan) -> list[str]:
    """The tenants of the load."""
    names = [f"tenant-{number}" for number in range(plan.tenants)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: system.console("POST", "/v1/tenants", {"name": name, "plan": "bench"}), names))
    return names


def load_digests(system: System, plan: Plan) -> float:
    """Fill the current buckets with foreign digests; bytes per digest as Redis tells them."""
    redis: Redis = Redis.from_url(system.facts["redis"])
    facts = system.console("GET", "/v1/applied")
    epoch, partitions = facts["epoch"], facts["count"]
    bucket = int(time.time() * 1000) // (6 * 3_600_000)
    each = plan.digests // partitions
    before = int(redis.info("memory")["used_memory"])
    for partition in range(partitions):
        name = keys.digests(epoch, partition, bucket)
        for first in range(0, each, 20_000):
            base = (partition << 40) + first
            members = [(base + n).to_bytes(16, "big") for n in range(min(20_000, each - first))]
            redis.sadd(name, *members)
    grown = float(redis.info("memory")["used_memory"]) - before
    return float(grown / (each * partitions))


def gateway(system: System, plan: Plan, tenants: list[str], size: int, connections: int) -> list[float]:
    """Events/s through one gateway process while the writer is frozen."""
    load = Load(system.facts["ingest"], system.key, tenants, size, connections)
    system.signal("streams-0", signal.SIGSTOP)
    try:
        return asyncio.run(_windows(load, plan, lambda: load.accepted))
    finally:
        system.signal("streams-0", signal.SIGCONT)


def writer(system: System, size: int) -> list[float]:
    """Events/s of the worker as it works off what gateways left: per window of a second."""
    rates = []
    before, began = system.applied(), time.monotonic()
    idle = 0
    while idle < 3:
        time.sleep(1.0)
        now, applied = time.monotonic(), system.applied()
        if applied == before:
            idle += 1
            began = now
            continue
        rates.append((applied - before) * size / (now - began))
        before, began, idle = applied, now, 0
    return rates[1:-1] or rates


def ingest_to_counters(system: System, plan: Plan, tenants: list[str]) -> list[float]:
    """Events/s from HTTP to ledger and counters, the load pausing while more than 100,000 events wait."""
    load = Load(system.facts["ingest"], system.key, tenants, 100, 8)
    base = system.applied()
    applied = base

    async def follow() -> None:
        nonlocal applied
        while True:
            applied = await asyncio.to_thread(system.applied)
            await asyncio.sleep(0.05)

    load.room = lambda: load.records - (applied - base) < _MOST_WAITING

    async def measure() -> list[float]:
        following = asyncio.create_task(follow())
        try:
            return await _windows(load, plan, lambda: (applied - base) * 100)
        finally:
            following.cancel()

    return asyncio.run(measure())


def freshness(system: System, plan: Plan, tenants: list[str], rate: float) -> list[float]:
    """Milliseconds from the 202 to the counters, 99th percentile per window, at `rate` events/s."""
    load = Load(system.facts["ingest"], system.key, tenants, 100, 4)
    redis: Redis = Redis.from_url(system.facts["redis"])
    facts = system.console("GET", "/v1/applied")
    names = [keys.applied(facts["epoch"], partition) for partition in range(facts["count"])]
    began = time.monotonic()
    load.room = lambda: load.accepted < rate * (time.monotonic() - began)
    values: list[tuple[float, float]] = []

    def offsets() -> list[int]:
        pipe = redis.pipeline(transaction=False)
        for name in names:
            pipe.hget(name, "offset")
        return [int(offset or -1) for offset in pipe.execute()]

    async def follow() -> None:
        while True:
            there = await asyncio.to_thread(offsets)
            now = time.monotonic()
            for position in [p for p in load.answered if p[1] <= there[p[0]]]:
                values.append((now, (now - load.answered.pop(position)) * 1000))
            await asyncio.sleep(0.005)

    async def measure() -> None:
        following = asyncio.create_task(follow())
        await load.run(plan.warm_up + plan.seconds)
        following.cancel()

    asyncio.run(measure())
    return list(_percentiles(values, began + plan.warm_up, plan.seconds / WINDOWS))


def _percentiles(values: list[tuple[float, float]], first: float, width: float) -> Iterator[float]:
    for window in range(WINDOWS):
        start = first + window * width
        inside = sorted(value for at, value in values if start <= at < start + width)
        if inside:
            yield inside[int(len(inside) * 0.99)]


async def _windows(load: Load, plan: Plan, count: object) -> list[float]:
    assert callable(count)
    sending = asyncio.create_task(load.run(plan.warm_up + plan.seconds + 1))
    await asyncio.sleep(plan.warm_up)
    rates = []
    for _ in range(WINDOWS):
        before, began = count(), time.monotonic()
        await asyncio.sleep(plan.seconds / WINDOWS)
        rates.append((count() - before) / (time.monotonic() - began))
    await sending
    return rates
