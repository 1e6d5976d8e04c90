"""The rows, in the order in which they need each other; each yields its values per window."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from redis.asyncio import Redis

from bench.load import Outcome
from bench.plan import WINDOWS, Plan
from bench.system import System
from bench.windows import rates
from metering import keys, topics
from metering.rollup import HourWindow, revision_of
from streams.ledger import connect
from streams.rollups import RollupTables

_MOST_WAITING = 2000
"""Records; with batches of 100, 200,000 events on their way."""
_BATCH, _BATCH_CONNECTIONS = 100, 24
_SINGLE_CONNECTIONS = 64
_RECONCILIATIONS = 3
_FILL_EVENTS = 500_000
_PATIENCE_SECONDS = 300
_WRITER_SHARE = 0.1
"""Left out at both ends of what the writer works off: its start, and partitions that are done before others."""


async def create_tenants(system: System, plan: Plan) -> list[str]:
    """The tenants of the load."""
    names = [f"tenant-{number}" for number in range(plan.tenants)]
    turns = asyncio.Semaphore(4)

    async def create(name: str) -> None:
        async with turns:
            await system.ask("POST", "/v1/tenants", {"name": name, "plan": "bench"})

    await asyncio.gather(*map(create, names))
    return names


async def load_digests(system: System, plan: Plan) -> float:
    """Fill the current buckets with foreign digests; bytes per digest as Redis tells them."""
    bucket = int(time.time() * 1000) // (6 * 3_600_000)
    each = plan.digests // system.partitions
    async with Redis.from_url(system.redis) as redis:
        before = int((await redis.info("memory"))["used_memory"])
        for partition in range(system.partitions):
            name = keys.digests(system.epoch, partition, bucket)
            for first in range(0, each, 20_000):
                base = (partition << 40) + first
                members = [(base + n).to_bytes(16, "big") for n in range(min(20_000, each - first))]
                await redis.sadd(name, *members)
        grown = float((await redis.info("memory"))["used_memory"]) - before
    return grown / (each * system.partitions)


async def gateway(system: System, plan: Plan, tenants: list[str], batches: bool) -> Outcome:
    """The load against one gateway process, the worker away."""
    size, connections = (_BATCH, _BATCH_CONNECTIONS) if batches else (1, _SINGLE_CONNECTIONS)
    return await system.load(
        tenants=tenants,
        size=size,
        connections=connections,
        warm_up=plan.warm_up,
        seconds=plan.seconds,
        windows=WINDOWS,
    )


async def writer(system: System, size: int, before: int, accepted: int) -> list[float]:
    """Events/s of the worker as it works off `accepted` events, from when `before` records were applied."""
    records = accepted // size
    following = asyncio.create_task(system.follow(before + records))
    await system.start_worker()
    samples = await following
    edge = records * _WRITER_SHARE
    inside = [(at, count * size) for at, count in samples if edge <= count - before <= records - edge]
    return rates(inside, inside[0][0], inside[-1][0], WINDOWS) if len(inside) > WINDOWS else []


async def ingest_to_counters(system: System, plan: Plan, tenants: list[str]) -> Outcome:
    """The load from HTTP to ledger and counters, pausing while `_MOST_WAITING` records wait."""
    return await system.load(
        tenants=tenants,
        size=_BATCH,
        connections=_BATCH_CONNECTIONS,
        warm_up=plan.warm_up,
        seconds=plan.seconds,
        windows=WINDOWS,
        most_waiting=_MOST_WAITING,
    )


async def freshness(system: System, plan: Plan, tenants: list[str], rate: float) -> Outcome:
    """The load in an open loop at `rate` events/s, each record watched until it is applied."""
    return await system.load(
        tenants=tenants,
        size=_BATCH,
        connections=_BATCH_CONNECTIONS,
        warm_up=plan.warm_up,
        seconds=plan.seconds,
        windows=WINDOWS,
        rate=rate / _BATCH,
        fresh=True,
    )


async def recompute(system: System, plan: Plan, tenant: str) -> list[float]:
    """Seconds to compute the windows of one tenant with `plan.window` events, by the code of the rollups."""
    await _fill(system, [tenant], plan.window)
    mine = f"tenant = '{tenant}'"
    hours = await system.sql(f"SELECT DISTINCT toInt64(toUnixTimestamp(time) / 3600) FROM usage_events WHERE {mine}")
    windows = [HourWindow(tenant, int(hour)) for hour in hours.split()]
    last = int(await system.sql(f"SELECT max(offset) FROM usage_frames WHERE {mine} AND epoch = {system.epoch}"))
    client = await connect(system.clickhouse, _PATIENCE_SECONDS)
    taken = []
    for _ in range(WINDOWS):
        began = time.monotonic()
        await RollupTables(client).compute(windows, revision_of(system.epoch, last))
        taken.append(time.monotonic() - began)
    await client.close()
    return taken


async def reconcile(system: System, plan: Plan, tenants: list[str]) -> list[float]:
    """Seconds until everything was compared, with `plan.ledger` rows or more, as `tallygate reconcile` asks for it."""
    await _fill(system, tenants, plan.ledger - int(await system.sql("SELECT count() FROM usage_events")))
    taken = []
    for _ in range(_RECONCILIATIONS):
        began = time.monotonic()
        operation = await system.ask("POST", "/v1/operations", {"kind": "reconcile"})
        while operation["status"] in ("waiting", "running"):
            await asyncio.sleep(0.1)
            operation = await system.ask("GET", f"/v1/operations/{operation['id']}")
        if operation["status"] != "done":
            raise RuntimeError(f"reconciliation failed: {operation['parts']}")
        taken.append(time.monotonic() - began)
    return taken


async def _fill(system: System, tenants: list[str], events: int) -> None:
    """Send distinct events until there are so many more, in loads whose bodies fit into memory."""
    while events > 0:
        some = min(events, _FILL_EVENTS)
        events -= some
        await system.load(
            tenants=tenants,
            size=_BATCH,
            connections=_BATCH_CONNECTIONS,
            warm_up=0,
            seconds=0,
            windows=1,
            requests=-(-some // _BATCH),
            most_waiting=_MOST_WAITING,
        )


async def sample_bytes(system: System, plan: Plan, tenants: list[str]) -> tuple[float | None, float]:
    """Bytes on disk per event of the log (None: it is kept in memory) and of the ledger, from distinct events."""
    logged, before = _log_bytes(system), await _ledger_bytes(system)
    outcome = await system.load(
        tenants=tenants,
        size=_BATCH,
        connections=_BATCH_CONNECTIONS,
        warm_up=0,
        seconds=0,
        windows=1,
        requests=plan.sample // _BATCH,
        most_waiting=_MOST_WAITING,
    )
    after = await _ledger_bytes(system)
    log = (_log_bytes(system) - logged) / outcome.accepted if system.on_disk else None
    return log, (after - before) / outcome.accepted


def _log_bytes(system: System) -> int:
    name = topics.events(system.epoch)
    return sum(file.stat().st_size for file in Path(system.folder).glob(f"kafka/log/{name}-*/*.log"))


async def _ledger_bytes(system: System) -> int:
    await system.sql("OPTIMIZE TABLE usage_events FINAL")
    query = "SELECT sum(bytes_on_disk) FROM system.parts WHERE table = 'usage_events' AND active"
    return int(await system.sql(query) or 0)
