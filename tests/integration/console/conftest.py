"""The console in the test's own process, with real stores behind it: quick enough for many small tests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from console.app import build
from console.settings import Settings
from local import valkey
from metering.clock import SystemClock
from streams.ledger import connect, migrate
from tenancy import migrations
from tenancy.catalogs import Catalogs
from tenancy.database import Database
from tenancy.keys import ensure_bootstrap_key
from tests.support import eventually, free_port

ROOT = Path(__file__).parents[3]
PLATFORM = f"tg_{'p' * 12}_{'P' * 32}"
CATALOG = """
meters:
  seconds: {event: call, aggregation: sum, value: $.seconds, scale: 3, group_by: {language: $.language}}
  calls: {event: call, aggregation: count}
  longest: {event: call, aggregation: max, value: $.seconds, scale: 3}
  tokens: {event: prompt, aggregation: sum, value: $.tokens}
features:
  voice: {meter: seconds}
  calls: {meter: calls}
  longest: {meter: longest}
plans:
  small:
    entitlements:
      voice: {limit: 100, period: billing}
      calls: {limit: 5, period: day}
      longest: {limit: 60, period: month}
  large:
    entitlements:
      voice: {limit: 1000, period: month}
"""


class Servers(NamedTuple):
    """Where Valkey and ClickHouse listen."""

    redis: int
    clickhouse: int


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    ports = Servers(free_port(), free_port())
    folder = tmp_path_factory.mktemp("engines")
    clickhouse = [sys.executable, "-m", "local.clickhouse", "--port", str(ports.clickhouse)]
    commands = [valkey.command(ports.redis, folder / "valkey"), [*clickhouse, "--path", str(folder / "clickhouse")]]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    processes = [subprocess.Popen(command, **quiet) for command in commands]
    yield ports
    for process in processes:
        process.kill()
        process.wait()


class Api:
    """Calls to the console, and the stores behind it to look at and to fill."""

    def __init__(self, client: TestClient[Any, Any], database: Database, redis: Any, clickhouse: Any) -> None:
        self._client = client
        self.database, self.redis, self.clickhouse = database, redis, clickhouse

    async def ask(self, method: str, path: str, body: Any = None, key: str | None = PLATFORM) -> tuple[int, Any]:
        """(status, JSON); a body of bytes is sent as it is."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        sent = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self._client.request(method, path, headers=headers, **sent) as answer:
            return answer.status, await answer.json(content_type=None)

    async def must(self, method: str, path: str, body: Any = None, key: str = PLATFORM) -> Any:
        """The JSON of an answer that has to be a good one."""
        status, answer = await self.ask(method, path, body, key)
        assert status < 300, answer
        return answer

    async def key(self, tenant: str, *scopes: str) -> str:
        """A new key's text."""
        made = await self.must("POST", f"/v1/tenants/{tenant}/keys", {"scopes": list(scopes)})
        return str(made["key"])


async def _clickhouse(port: int) -> Any:
    client = await connect(f"http://127.0.0.1:{port}")
    await migrate(client)
    return client


@pytest.fixture
async def api(servers: Servers, tmp_path: Path) -> AsyncIterator[Api]:
    sql = f"sqlite+aiosqlite:///{tmp_path}/control.db"
    await asyncio.to_thread(migrations.upgrade, sql)
    database = Database(sql)
    await database.open()
    await ensure_bootstrap_key(database, PLATFORM)
    await Catalogs(database).apply(CATALOG, SystemClock().now_ms())
    redis: Redis = Redis(port=servers.redis, protocol=3)
    await eventually(redis.ping, what="Valkey answers")
    await redis.flushall()
    clickhouse = await eventually(lambda: _clickhouse(servers.clickhouse), timeout=60, what="ClickHouse answers")
    settings = Settings(
        clickhouse=f"http://127.0.0.1:{servers.clickhouse}", redis=f"redis://127.0.0.1:{servers.redis}/0", sql=sql
    )
    async with TestClient(TestServer(build(settings))) as client:
        made = Api(client, database, redis, clickhouse)

        async def ready() -> bool:
            return (await made.ask("GET", "/readyz"))[0] == 200

        await eventually(ready, what="the console is ready")
        yield made
    await clickhouse.close()
    await redis.aclose()
    await database.close()
