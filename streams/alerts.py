"""From `usage.crossings` into the table that alerts are sent from: a Faust agent that acknowledges by itself.

Faust acknowledges an event for which an agent raises, and what it buffered (docs/adr/0003). So the stream acknowledges
nothing, this agent takes one event after the other, and says that it is done with one only when the table has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import faust
import msgspec
import structlog

from metering import topics
from metering.crossing import decode
from metering.errors import Unavailable
from streams import metrics
from tenancy import alerts
from tenancy.database import Database

_log = structlog.get_logger(__name__)
_PAUSE_SECONDS = 1.0


def add_alerts(app: faust.App, database: Database, probe: Callable[[str], Awaitable[None]]) -> None:
    """Let `app` read crossings; `database` is to be open while it runs."""
    crossings = app.topic(topics.CROSSINGS, key_type=bytes, value_type=bytes, value_serializer="raw")

    async def write_alerts(stream: Any) -> None:
        async for event in stream.noack().events():
            # 6. Write the alert. A crash before it is acknowledged writes it again: by its id that changes nothing.
            await probe("6")
            await _write(database, event.value)
            await probe("6a")
            event.ack()

    app.agent(crossings, name="alerts")(write_alerts)


async def _write(database: Database, message: bytes) -> None:
    try:
        crossing = decode(message)
    except msgspec.DecodeError as error:
        # Only writers of ours write here; what isn't theirs names no tenant whom it could be kept for.
        metrics.ALERTS.labels("invalid").inc()
        _log.error("no crossing", reason=str(error), message=message[:1000])
        return
    while True:
        try:
            written = await alerts.write(database, crossing)
        except Unavailable as away:
            _log.warning("alerts wait", reason=str(away))
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            metrics.ALERTS.labels("written" if written else "known").inc()
            return
