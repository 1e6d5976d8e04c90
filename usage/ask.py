"""One question to ClickHouse."""

from __future__ import annotations

from importlib import resources
from typing import Any

import aiohttp
from clickhouse_connect.driver.exceptions import ClickHouseError

from metering.errors import Unavailable


def query(name: str) -> str:
    """The text of usage/queries/NAME.sql."""
    return resources.files("usage").joinpath(f"queries/{name}.sql").read_text()


async def ask(client: Any, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """The rows that `query` gives. Raises Unavailable when ClickHouse does not answer."""
    try:
        return list((await client.query(query, parameters=parameters)).result_rows)
    except (ClickHouseError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(f"ClickHouse: {error}") from error
