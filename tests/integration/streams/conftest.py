"""The embedded ClickHouse with the ledger's tables."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from streams.ledger import connect, migrate
from tests.engines import Program
from tests.support import eventually, free_port


@pytest_asyncio.fixture
async def clickhouse(tmp_path: Path) -> AsyncIterator[Any]:
    port = free_port()
    argv = [sys.executable, "-m", "local.clickhouse", "--port", str(port), "--path", str(tmp_path / "clickhouse")]
    program = Program("clickhouse", argv, tmp_path / "clickhouse.log")
    program.start()
    try:
        client = await eventually(lambda: connect(f"http://127.0.0.1:{port}"), 30)
        await migrate(client)
        yield client
        await client.close()
    finally:
        program.kill()
