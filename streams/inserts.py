"""Inserts into the ledger: what the partitions of a worker write goes together, one insert a table at a time.

Each insert makes a part: a dozen files, which cost more than a thousand rows, and parts are merged again and again.
Rows that come by 3,000 cost ClickHouse three times what rows cost that come by 30,000. So what has come while an insert
ran goes with the next one, and large inserts rest as long as the last one took: when the ledger is busy they grow by
themselves, else they are small and at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from metering.errors import Unavailable

_BLOCKS = 90
"""A block of usage_events is of one month, and ClickHouse refuses an insert that touches more than 100."""
_GATHER_SECONDS = 0.002
_LONGEST_REST = 0.2
_SMALL_BYTES = 3_000_000
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


async def _body(taken: Sequence[_Waiting]) -> AsyncIterator[bytes]:
    """Sent as they are: clients put several megabytes of bytes into one piece three times before they send them."""
    for waiting in taken:
        yield waiting.block


class Inserts:
    """The inserts of one process, for all its partitions."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._rests_until: dict[str, float] = {}
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
                await asyncio.sleep(self._resting(table))
                taken = [waiting.popleft()]
                size = len(taken[0].block)
                while waiting and len(taken) < _BLOCKS and size < _BYTES:
                    taken.append(waiting.popleft())
                    size += len(taken[-1].block)
                began = time.monotonic()
                await self._write(table, taken)
                ended = time.monotonic()
                self._rests_until[table] = ended + min(ended - began, _LONGEST_REST) if size > _SMALL_BYTES else ended
        finally:
            del self._running[table]

    def _resting(self, table: str) -> float:
        """Seconds until its next insert: at the least what writers take to come that another insert has let go on."""
        return max(_GATHER_SECONDS, self._rests_until.get(table, 0.0) - time.monotonic())

    async def _write(self, table: str, taken: Sequence[_Waiting]) -> None:
        try:
            async with translated():
                await self._client.raw_insert(table, insert_block=_body(taken), fmt="Native", settings=_SETTINGS)
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
