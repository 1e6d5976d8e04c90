"""A service whose event loop stands while the file `hold` is there, as if a handler computed without end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from service.health import Health
from service.run import new_app, serve
from tests.support import free_port

HOLD = Path(os.environ["TALLYGATE_DATA_DIR"]) / "hold"


async def _holding(app: web.Application) -> AsyncIterator[None]:
    async def hold() -> None:
        while True:
            while HOLD.exists():
                time.sleep(0.01)  # noqa: ASYNC251 (this is what is tested)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(hold())
    yield
    task.cancel()


if __name__ == "__main__":
    made = new_app(Health(), [])
    made.cleanup_ctx.append(_holding)
    serve("held-up", made, "127.0.0.1", free_port(), int(os.environ["TALLYGATE_TEST_OPS_PORT"]))
