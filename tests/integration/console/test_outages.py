"""What the console goes on doing while a store is away."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from console.app import build
from console.settings import Settings
from local import valkey
from metering import keys
from metering.clock import SystemClock
from metering.partition import partition_of
from tenancy import migrations
from tenancy.catalogs import Catalogs
from tenancy.database import Database
from tenancy.keys import ensure_bootstrap_key
from tests.integration.console.conftest import CATALOG, PLATFORM, ROOT, Api
from tests.support import eventually, free_port


class Outage:
    """A console none of whose stores but SQL runs yet."""

    def __init__(self, folder: Path, api: Api, ports: tuple[int, int]) -> None:
        self.folder, self.api = folder, api
        self._ports = ports
        self._processes: list[subprocess.Popen[bytes]] = []

    async def failures(self) -> set[str]:
        """What readiness complains of."""
        _, answer = await self.api.ask("GET", "/readyz")
        return set(answer["failures"])

    def start_redis(self) -> None:
        self._start(valkey.command(self._ports[0], self.folder / "valkey"))

    def start_clickhouse(self) -> None:
        port, path = str(self._ports[1]), str(self.folder / "clickhouse")
        self._start([sys.executable, "-m", "local.clickhouse", "--port", port, "--path", path])

    def _start(self, command: list[str]) -> None:
        quiet = subprocess.DEVNULL
        self._processes.append(subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=ROOT))

    def stop(self) -> None:
        """Leave nothing running."""
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
async def outage(tmp_path: Path) -> AsyncIterator[Outage]:
    sql = f"sqlite+aiosqlite:///{tmp_path}/control.db"
    ports = (free_port(), free_port())
    await asyncio.to_thread(migrations.upgrade, sql)
    database = Database(sql)
    await database.open()
    await ensure_bootstrap_key(database, PLATFORM)
    await Catalogs(database).apply(CATALOG, SystemClock().now_ms())
    settings = Settings(clickhouse=f"http://127.0.0.1:{ports[1]}", redis=f"redis://127.0.0.1:{ports[0]}/0", sql=sql)
    redis: Redis = Redis(port=ports[0], protocol=3)
    async with TestClient(TestServer(build(settings))) as client:
        made = Outage(tmp_path, Api(client, database, redis, None), ports)
        yield made
    made.stop()
    await redis.aclose()
    await database.close()


async def test_the_control_plane_works_without_redis_and_clickhouse_and_says_what_is_missing(outage: Outage) -> None:
    await eventually(lambda: _is(outage, {"clickhouse", "redis", "snapshots"}))
    made = await outage.api.must("POST", "/v1/tenants", {"name": "grand", "plan": "small"})
    assert made["plan"] == "small"
    assert (await outage.api.ask("GET", "/v1/usage?tenant=grand"))[0] == 503
    assert (await outage.api.ask("GET", "/v1/usage?tenant=grand&source=counters"))[0] == 503
    outage.start_redis()
    outage.start_clickhouse()
    await eventually(lambda: _is(outage, set()), timeout=60)
    assert await outage.api.redis.get(keys.snapshot("grand")) is not None


async def test_counters_are_told_without_clickhouse(outage: Outage) -> None:
    outage.start_redis()
    await eventually(outage.api.redis.ping)
    await outage.api.must("POST", "/v1/tenants", {"name": "grand", "plan": "small"})
    await outage.api.redis.set(keys.EPOCH, "1:4")
    await outage.api.redis.hset(keys.applied(1, partition_of("grand", 4)), "offset", 5)
    answer: Any = await outage.api.must("GET", "/v1/usage?tenant=grand&source=counters&meter=calls")
    assert answer["meters"]["calls"]["total"] == "0"
    assert (answer["events"], answer["duplicates"], answer["dead"]) == (None, None, None)


async def _is(outage: Outage, failures: set[str]) -> bool:
    return await outage.failures() == failures
