"""Inserts into the ledger: what the partitions of a worker write goes together, one insert a table at a time.

Each insert makes a part, and ClickHouse merges parts again and again: rows that come by 3,000 cost it three times what
rows cost that come by 30,000. So nobody waits for others to come, but what has come while an insert runs goes with the
next one: when the ledger is busy inserts grow by themselves, else they are small and at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from metering.errors import Unavailable

_BLOCKS = 90
"""A block of usage_events is of one month, and ClickHouse refuses an insert that touches more than 100."""
_BYTES = 64_000_000
_SETTINGS = {"optimize_on_insert": 0}
"""The keys of a block are distinct already: merging it while it is inserted costs a quarter and finds nothing."""


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """ClickHouse's failures as Unavailable."""
    try:
        yield
    except (ClickHouseError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(f"ClickHouse: {error}") from error


class _Waiting(NamedTuple):
    block: bytes
    written: asyncio.Future[None]


class Inserts:
    """The inserts of one process, for all its partitions."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def insert(self, table: str, blocks: Sequence[bytes]) -> None:
        """Returns when all Native `blocks` are written. Raises Unavailable when that is not known of each."""
        if not blocks:
            return
        mine = [_Waiting(block, asyncio.get_running_loop().create_future()) for block in blocks]
        self._waiting.setdefault(table, deque()).extend(mine)
        if table not in self._running:
            self._running[table] = asyncio.create_task(self._run(table), name=f"insert-{table}")
        await asyncio.gather(*(waiting.written for waiting in mine))

    async def _run(self, table: str) -> None:
        waiting = self._waiting[table]
        try:
            while waiting:
                taken = [waiting.popleft()]
                size = len(taken[0].block)
                while waiting and len(taken) < _BLOCKS and size < _BYTES:
                    taken.append(waiting.popleft())
                    size += len(taken[-1].block)
                await self._write(table, taken)
        finally:
            del self._running[table]

    async def _write(self, table: str, taken: Sequence[_Waiting]) -> None:
        try:
            async with translated():
                body = b"".join([waiting.block for waiting in taken])
                await self._client.raw_insert(table, insert_block=body, fmt="Native", settings=_SETTINGS)
        except Exception as error:
            if len(taken) > 1 and isinstance(error.__cause__, DatabaseError):
                for alone in taken:  # what ClickHouse refuses of one partition must not hold up the others
                    await self._write(table, [alone])
                return
            for waiting in taken:
                if not waiting.written.done():
                    waiting.written.set_exception(error)
        else:
            for waiting in taken:
                if not waiting.written.done():
                    waiting.written.set_result(None)
