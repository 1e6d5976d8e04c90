"""`recompute_1m`: an hour window of one tenant with a million events, computed by the rollups' own code."""

from __future__ import annotations

import asyncio
import time
from importlib import resources
from typing import Any

from bench.plan import WINDOWS
from metering.clock import HOUR_MS
from metering.rollup import HourWindow, revision_of
from streams.ledger import connect
from streams.rollups import RollupTables

_EVENTS, _AT_ONCE = 1_000_000, 50_000
"""Twenty inserts: a window that has just sealed lies in several parts."""
_HOURS_AGO = 3
_TENANT = "bench-recompute"
_PATIENCE_SECONDS = 120
_LOOK_SECONDS = 0.5


async def recompute(clickhouse: str, epoch: int) -> list[float]:
    """Seconds of each computation of the window. Raises RuntimeError when one does not count every event."""
    client = await connect(clickhouse, _PATIENCE_SECONDS)
    try:
        hour = int(time.time() * 1000) // HOUR_MS - _HOURS_AGO
        await _fill(client, hour, epoch)
        await _merged(client)
        tables, window = RollupTables(client), HourWindow(_TENANT, hour)
        took = []
        for turn in range(WINDOWS + 1):
            began = time.perf_counter()
            await tables.compute([window], revision_of(epoch, _EVENTS + turn))
            took.append(time.perf_counter() - began)
        counted = await client.query(
            "SELECT sum(events) FROM usage_hourly FINAL WHERE tenant = {tenant:String} AND meter = 'calls'",
            parameters={"tenant": _TENANT},
        )
        if counted.result_rows[0][0] != _EVENTS:
            raise RuntimeError(f"the window counts {counted.result_rows[0][0]} events of {_EVENTS}")
        return took[1:]  # the first reads from disk what the others find in memory
    finally:
        await client.close()


async def _merged(client: Any) -> None:
    """Wait until ClickHouse does not merge any more what the rows before have left: that is not this row's work."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while (await client.query("SELECT count() FROM system.merges")).result_rows[0][0]:  # noqa: ASYNC110 (ClickHouse tells)
            await asyncio.sleep(_LOOK_SECONDS)


async def _fill(client: Any, hour: int, epoch: int) -> None:
    query = resources.files("bench").joinpath("queries/hour_of_events.sql").read_text()
    for first in range(0, _EVENTS, _AT_ONCE):
        at = {"tenant": _TENANT, "start": hour * HOUR_MS, "epoch": epoch}
        await client.command(query, parameters={**at, "first": first, "count": _AT_ONCE})
