"""From `usage.decisions` into the ledger's database: a Faust agent that acknowledges by itself, like that of alerts."""

from __future__ import annotations

import asyncio
from typing import Any

import faust
import msgspec
import structlog

from metering import topics
from metering.decided import Decided, decode
from metering.errors import Unavailable
from streams import metrics
from streams.inserts import translated
from streams.ledger import connect

_log = structlog.get_logger(__name__)
_PAUSE_SECONDS = 1.0
_COLUMNS = ("minute", "tenant", "feature", "reason", "source", "allowed", "shadowed", "sender", "number", "checks")


def add_decisions(app: faust.App, clickhouse: str) -> None:
    """Let `app` read what gates have decided; `clickhouse`: where to write it."""
    decisions = app.topic(topics.DECISIONS, key_type=bytes, value_type=bytes, value_serializer="raw")
    table = _Table(clickhouse)

    async def write_decisions(stream: Any) -> None:
        async for event in stream.noack().events():
            # A crash before this is acknowledged writes the rows again: by sender and number they are the same.
            await table.write(event.value)
            event.ack()

    app.agent(decisions, name="decisions")(write_decisions)


class _Table:
    """`gate_decisions`, connected to when there is something to write."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client: Any = None

    async def write(self, message: bytes) -> None:
        """Until ClickHouse has it. What is no message of ours is counted and left."""
        try:
            decided = decode(message)
        except msgspec.DecodeError as error:
            metrics.DECISIONS.labels("invalid").inc()
            _log.error("no decisions", reason=str(error), message=message[:1000])
            return
        while True:
            try:
                await self._insert(decided)
            except Unavailable as away:
                _log.warning("decisions wait", reason=str(away))
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                metrics.DECISIONS.labels("written").inc()
                return

    async def _insert(self, decided: Decided) -> None:
        if self._client is None:
            self._client = await connect(self._address)
        rows = []
        for slot, count in decided.counts:
            minute, *rest = msgspec.structs.astuple(slot)
            rows.append((minute * 60, *rest, decided.sender, decided.number, count))
        async with translated():
            await self._client.insert("gate_decisions", rows, column_names=_COLUMNS)
