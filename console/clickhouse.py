"""ClickHouse as the console needs it: the control plane goes on without it, only reading usage does not."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import structlog

from metering.errors import Unavailable

_log = structlog.get_logger(__name__)
_PROBE_SECONDS = 2.0
_SILENT_SECONDS = 6.0


class ClickHouse:
    """A client that connects when it can. `query` is the driver's own."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client: Any = None
        self._answered = time.monotonic()

    def problem(self) -> str | None:
        """Why the ledger cannot be read; None if it can, as far as is known."""
        silent = time.monotonic() - self._answered
        if self._client is None:
            return "ClickHouse has not answered yet"
        return f"ClickHouse has not answered for {silent:.0f} s" if silent > _SILENT_SECONDS else None

    async def query(self, query: str, parameters: dict[str, Any]) -> Any:
        """Raises Unavailable before the first connection, later what the driver raises."""
        if self._client is None:
            raise Unavailable("ClickHouse has not answered yet")
        return await self._client.query(query, parameters=parameters)

    async def run(self) -> None:
        """Connect, and look whether it still answers, until cancelled."""
        while True:
            try:
                if self._client is None:
                    self._client = await self._connect()
                if await self._client.ping():
                    self._answered = time.monotonic()
            except Exception as error:  # of several libraries, and none may end this
                _log.warning("ClickHouse does not answer", reason=str(error))
            await asyncio.sleep(_PROBE_SECONDS if self._client else _PROBE_SECONDS / 4)

    async def _connect(self) -> Any:
        url = urlsplit(self._address)
        return await clickhouse_connect.get_async_client(
            host=url.hostname,
            port=url.port or 8123,
            username=url.username or "default",
            password=url.password or "",
            database=url.path.strip("/") or "default",
            autogenerate_session_id=False,
            form_encode_query_params=True,  # lists of hours may be longer than a URL
            connect_timeout=5,
            send_receive_timeout=10,
        )

    async def close(self) -> None:
        """Let go of its connections."""
        if self._client is not None:
            await self._client.close()
