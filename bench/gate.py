"""A gate as `tallygate up` starts it, with what it needs: Redis, the embedded broker to which it tells its decisions,
and plans that tenancy published. What a writer would put into Redis stands there: counters, and a beat a second.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import insert

from bench import pace
from bench.pace import Target
from local.instance import new_key
from local.layout import Layout, SystemOptions
from local.probes import http_ok
from local.process import ProcessSpec
from local.supervisor import Supervisor
from metering import keys
from metering.clock import SystemClock
from metering.feed import FeedMessage, encode
from metering.partition import partition_of
from metering.period import BillingTerm, PeriodKind, period_of, terms_text
from streams.epochs import ensure_epoch
from tenancy import migrations, tables
from tenancy.catalogs import Catalogs
from tenancy.database import Database
from tenancy.epochs import Epoch, Epochs
from tenancy.keys import ensure_bootstrap_key
from tenancy.snapshots import Publisher

CATALOG = Path(__file__).with_name("gate_catalog.yaml")
FEATURE, METER, PLAN = "voice", "voice_seconds", "bench"
_GATE = "gate-0"
_BEAT_SECONDS = 1.0
_OFFSET = 1
_AT_ONCE = 1000
_SECONDS_DRAWN = 10
_PATIENCE_SECONDS, _LOOK_SECONDS = 30.0, 0.1
_FRESH_SECONDS = 2.0


def used_by(tenant: str) -> str:
    """What a tenant has used: each its own."""
    return f"{tenant.rpartition('-')[2]}.5"


class GateSystem:
    """A running gate: its address, and what is done to it."""

    def __init__(
        self, url: str, ops: str, key: str, tenants: Sequence[str], supervisor: Supervisor, redis: ProcessSpec
    ) -> None:
        self.url = url
        self.tenants = tenants
        self._ops = ops
        self._key = key
        self._supervisor = supervisor
        self._redis = redis

    @property
    def checks(self) -> Target:
        """Checks of all tenants, each of which is to be answered from memory."""
        return self._target("/v1/check", [{"tenant": name, "feature": FEATURE} for name in self.tenants], 200)

    @property
    def reservations(self) -> Target:
        """Reservations by all tenants."""
        asks = [{"tenant": name, "feature": FEATURE, "amount": 1, "ttl_seconds": 30} for name in self.tenants]
        return self._target("/v1/reservations", asks, 201)

    async def ask(self, path: str, body: Any) -> Any:
        """POST; its JSON."""
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        asked = urllib.request.Request(self.url + path, msgspec.json.encode(body), headers, method="POST")
        return msgspec.json.decode(await asyncio.to_thread(_read, asked))

    def signal_redis(self, number: signal.Signals) -> None:
        """SIGSTOP or SIGCONT to Redis."""
        os.kill(self._supervisor.pids[self._redis.name], number)

    async def kill_redis(self) -> None:
        """SIGKILL; it stays dead."""
        self.signal_redis(signal.SIGKILL)
        await self._supervisor.stop_one(self._redis.name)

    async def start_redis(self) -> None:
        """With what it knew."""
        await self._supervisor.start(self._redis)

    async def fresh(self) -> None:
        """Until the gate follows Redis again and has read what it missed. Raises TimeoutError."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not await self._is_fresh():  # noqa: ASYNC110 (the gate tells only who asks)
                await asyncio.sleep(_LOOK_SECONDS)

    async def _is_fresh(self) -> bool:
        if not await http_ok(f"{self._ops}/readyz"):
            return False
        read = await asyncio.to_thread(_read, urllib.request.Request(f"{self._ops}/metrics"))
        gauge = b"tallygate_gate_staleness_seconds "
        (line,) = [line for line in read.splitlines() if line.startswith(gauge)]
        return float(line.removeprefix(gauge)) < _FRESH_SECONDS

    def cpu_seconds(self) -> float:
        """What the gate has used of a core so far."""
        return sum(psutil.Process(self._supervisor.pids[_GATE]).cpu_times()[:2])

    def _target(self, path: str, bodies: Sequence[Any], status: int) -> Target:
        address = pace.address_of(self.url)
        requests = [pace.request("POST", address, path, msgspec.json.encode(body), self._key) for body in bodies]
        return Target(address, requests, status, '"allowed":true,"reason":"within-limit"')


@asynccontextmanager
async def gate_running(tenants: int) -> AsyncIterator[GateSystem]:
    """Start it, publish `tenants`, let the gate get to know them all; stop it at the end."""
    names = [f"tenant-{number}" for number in range(tenants)]
    with tempfile.TemporaryDirectory(prefix="tallygate-gate-") as folder:
        data = Path(folder)
        layout = await Layout.choose(SystemOptions(data, "auto", None, CATALOG))
        addresses = layout.addresses()
        (gate,) = (spec for spec in layout.services() if spec.name == _GATE)
        engines = {one.name: one for one in layout.engines() if one.name in ("redis", "kafka")}
        supervisor = Supervisor(data / "logs")
        key = new_key()
        async with Redis.from_url(addresses["redis"]) as redis:
            try:
                await supervisor.start(*engines.values())
                await asyncio.to_thread(migrations.upgrade, gate.env["TALLYGATE_SQL"])
                epoch, counters = await _publish(gate.env["TALLYGATE_SQL"], addresses["kafka"], redis, key, names)
                beating = asyncio.create_task(_write(redis, epoch, counters))
                await supervisor.start(gate)
                ops = addresses["ops"][_GATE]
                system = GateSystem(addresses["gate"], ops, key, names, supervisor, engines["redis"])
                await _introduce(system)
                yield system
                beating.cancel()
                await asyncio.gather(beating, return_exceptions=True)
            finally:
                await supervisor.stop()


async def _publish(
    sql: str, kafka: str, redis: Redis, key: str, names: Sequence[str]
) -> tuple[Epoch, dict[str, dict[str, str]]]:
    """The control plane's part, and the counters, which are returned too: by tenant."""
    now = SystemClock().now_ms()
    database = Database(sql)
    await database.open()
    try:
        await ensure_bootstrap_key(database, key)
        await Catalogs(database).apply(CATALOG.read_text(), now)
        epoch = await ensure_epoch(kafka, Epochs(database), redis=redis)
        terms = (BillingTerm(0, now, "Europe/Berlin"),)
        async with database.writing() as connection:
            await connection.execute(
                insert(tables.tenants), [{"name": name, "status": "active", "created": now} for name in names]
            )
            plan = {"plan": PLAN, "since": now, "anchor": now, "time_zone": terms[0].zone}
            await connection.execute(insert(tables.subscriptions), [{"tenant": name, **plan} for name in names])
        await Publisher(database, redis).publish_changed()
    finally:
        await database.close()
    counters = {name: _counters(name, now, terms) for name in names}
    for first in range(0, len(names), _AT_ONCE):
        pipe = redis.pipeline(transaction=False)
        for name in names[first : first + _AT_ONCE]:
            used: dict[Any, Any] = counters[name]
            at_home = (epoch.epoch, partition_of(name, epoch.partitions))
            pipe.hset(keys.counters(*at_home, name), mapping=used)
            pipe.hset(keys.counted_terms(*at_home), name, terms_text(terms))
        await pipe.execute()
    for partition in range(epoch.partitions):
        at: dict[Any, Any] = {"offset": str(_OFFSET), "checksum": "1", "clock": str(now)}
        await redis.hset(keys.applied(epoch.epoch, partition), mapping=at)
        await redis.set(keys.vouched(epoch.epoch, partition), now)
    await redis.set(keys.EPOCH, f"{epoch.epoch}:{epoch.partitions}")
    return epoch, counters


def _counters(name: str, now: int, terms: tuple[BillingTerm, ...]) -> dict[str, str]:
    kinds: tuple[PeriodKind, ...] = ("billing", "day", "hour")
    return {keys.counter_field(METER, kind, period_of(kind, now, terms).start): used_by(name) for kind in kinds}


async def _write(redis: Redis, epoch: Epoch, counters: dict[str, dict[str, str]]) -> None:
    """What writers tell: each second a batch of each partition, one after the other as their writers go, in which a
    twentieth of its tenants have used something.

    At 5,000 checks a second of 10,000 tenants, about every eleventh check is of one who has used something since the
    last. The batches are put together beforehand: a writer has a core of its own, which this process would take from
    the gate.
    """
    drawing = random.Random(7)
    texts = {name: [part for counter in used.items() for part in counter] for name, used in counters.items()}
    seconds = []
    for _ in range(_SECONDS_DRAWN):
        batches: list[dict[str, Sequence[str | None]]] = [{} for _ in range(epoch.partitions)]
        for name in drawing.sample(list(texts), len(texts) // 20):
            batches[partition_of(name, epoch.partitions)][name] = texts[name]
        seconds.append(batches)
    for applied in count(_OFFSET + 1):
        for partition, batch in enumerate(seconds[applied % _SECONDS_DRAWN]):
            now = SystemClock().now_ms()
            message = FeedMessage(applied - 1, applied, now, now, "", batch)
            pipe = redis.pipeline(transaction=False)
            pipe.hset(keys.applied(epoch.epoch, partition), "offset", str(applied))
            pipe.set(keys.vouched(epoch.epoch, partition), now)
            pipe.publish(keys.feed(epoch.epoch, partition), encode(message))
            with suppress(RedisError, OSError):
                await pipe.execute()
            await asyncio.sleep(_BEAT_SECONDS / epoch.partitions)


async def _introduce(system: GateSystem) -> None:
    """Ask about every tenant until the answers come from memory, and look at one. Raises RuntimeError."""
    for first in range(0, len(system.tenants), _AT_ONCE):
        some = system.tenants[first : first + _AT_ONCE]
        wanted = [("memory", used_by(name), True) for name in some]
        checks = [{"tenant": name, "feature": FEATURE} for name in some]
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            results = (await system.ask("/v1/check/batch", {"checks": checks}))["results"]
            if [(one["source"], one["used"], one["allowed"]) for one in results] == wanted:
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"the gate does not know its tenants: {results[0]}")
    explained = await system.ask("/v1/check?explain=1", {"tenant": system.tenants[0], "feature": FEATURE})
    if sum(rule["rule"] == "limit" for rule in explained["rules"]) != 3:
        raise RuntimeError(f"three limits were to be looked at: {explained}")


def _read(asked: urllib.request.Request) -> bytes:
    with urllib.request.urlopen(asked, timeout=30) as answer:
        content: bytes = answer.read()
    return content
