"""The embedded ClickHouse for tests that are not async themselves, as Hypothesis wants them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.ledger import connect, migrate
from tests.support import free_port


class Engine:
    """The embedded ClickHouse with the ledger's tables, driven from tests that are not async themselves."""

    def __init__(self, runner: asyncio.Runner, client: Any) -> None:
        self.runner = runner
        self.client = client


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder, port = tmp_path_factory.mktemp("clickhouse"), free_port()
    command = [sys.executable, "-m", "local.clickhouse", "--port", str(port), "--path", str(folder)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[3], stderr=subprocess.DEVNULL)

    async def begin() -> Any:
        async with asyncio.timeout(60):
            while True:
                try:
                    client = await connect(f"http://127.0.0.1:{port}")
                    break
                except Exception:
                    await asyncio.sleep(0.1)
        await migrate(client)
        return client

    with asyncio.Runner() as runner:
        try:
            client = runner.run(begin())
            yield Engine(runner, client)
            runner.run(client.close())
        finally:
            process.terminate()
            process.wait()
