"""The control plane's store on SQLite, and on PostgreSQL where it is installed."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from local import valkey
from tenancy import migrations
from tenancy.database import Database
from tests.integration.tenancy import postgres
from tests.integration.tenancy.postgres import Postgres
from tests.support import eventually, free_port


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres | None]:
    programs = postgres.find()
    running = Postgres(programs) if programs else None
    yield running
    if running:
        running.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/control.db"
    server: Postgres | None = request.getfixturevalue("server")
    if server is None:
        pytest.skip("PostgreSQL is not installed: only SQLite was tried")
    return server.database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    await asyncio.to_thread(migrations.upgrade, url)
    made = Database(url)
    await made.open()
    yield made
    await made.close()


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    argv = valkey.command(port, tmp_path_factory.mktemp("valkey"))
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield port
    process.kill()
    process.wait()


@pytest.fixture
async def redis(redis_port: int) -> AsyncIterator[Redis]:
    client: Redis = Redis(port=redis_port, protocol=3)
    await eventually(client.ping, what="Valkey answers")
    await client.flushall()
    yield client
    await client.aclose()
