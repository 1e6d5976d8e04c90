"""`python -m enforcement` as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.integration.enforcement.conftest import Valkey
from tests.support import eventually, free_port

ROOT = Path(__file__).parents[3]


def environment(**settings: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TALLYGATE_")}
    return {**plain, **settings}


def test_wrong_settings_are_all_named_and_end_it_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "enforcement"],
        env=environment(TALLYGATE_GATE_PORT="0", TALLYGATE_GATE_REDIS_SECONDS="soon"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    for name in ("TALLYGATE_REDIS", "TALLYGATE_SQL", "TALLYGATE_GATE_PORT", "TALLYGATE_GATE_REDIS_SECONDS"):
        assert name in done.stderr


@pytest.mark.usefixtures("state")
async def test_it_serves_tcp_and_a_unix_socket_and_stops_on_sigterm(server: Valkey, sql: str, tmp_path: Path) -> None:
    socket, port, ops = tmp_path / "gate.sock", free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "enforcement",
        cwd=ROOT,
        env=environment(
            TALLYGATE_REDIS=server.url,
            TALLYGATE_SQL=sql,
            TALLYGATE_GATE_PORT=str(port),
            TALLYGATE_GATE_OPS_PORT=str(ops),
            TALLYGATE_GATE_SOCKET=str(socket),
            TALLYGATE_GATE_REDIS_SECONDS="2",
        ),
    )
    try:
        async with aiohttp.ClientSession() as tcp:

            async def ready() -> bool:
                async with tcp.get(f"http://127.0.0.1:{ops}/readyz") as answer:
                    return answer.status == 200

            await eventually(ready, timeout=30, what="readiness")
            async with tcp.post(f"http://127.0.0.1:{port}/v1/check", json={}) as answer:
                assert answer.status == 401
        assert stat.S_IMODE(socket.stat().st_mode) == 0o660
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as unix:
            question = {"tenant": "grand", "feature": "cloning"}
            async with unix.post("http://gate/v1/check", json=question) as answer:
                assert (await answer.json())["allowed"] is True
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), timeout=20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
