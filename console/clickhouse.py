"""ClickHouse as the console needs it: the control plane goes on without it, only reading usage does not."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect

from metering.errors import Unavailable


class ClickHouse:
    """A client that connects when it can. `query` and `command` are the driver's own."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client: Any = None

    async def query(self, query: str, parameters: dict[str, Any]) -> Any:
        """Raises Unavailable before the first connection, later what the driver raises."""
        if self._client is None:
            raise Unavailable("ClickHouse has not answered yet")
        return await self._client.query(query, parameters=parameters)

    async def command(self, statement: str, parameters: dict[str, Any]) -> None:
        """A statement that answers nothing. Raises like `query`."""
        if self._client is None:
            raise Unavailable("ClickHouse has not answered yet")
        await self._client.command(statement, parameters=parameters)

    async def ping(self) -> None:
        """Connect if it is not yet, and ask whether it answers. Raises Unavailable, or what the driver raises."""
        if self._client is None:
            self._client = await self._connect()
        if not await self._client.ping():
            raise Unavailable("no answer to a ping")

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
