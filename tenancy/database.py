"""The connection to SQL: SQLite by default, PostgreSQL in production."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from metering.errors import Unavailable


class Database:
    """One engine. `transaction` commits at its end; every failure to reach SQL is Unavailable."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine: AsyncEngine | None = None

    async def open(self) -> None:
        """Make the engine; connects on first use."""
        self._engine = create_async_engine(self._url)
        if self._url.startswith("sqlite"):
            event.listen(self._engine.sync_engine, "connect", _set_up_sqlite)

    async def close(self) -> None:
        """Let go of all connections."""
        if self._engine is not None:
            await self._engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One short transaction. Raises Unavailable."""
        if self._engine is None:
            raise Unavailable("SQL: the database is not open")
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (DBAPIError, PoolTimeout, OSError) as error:
            if isinstance(error, DBAPIError) and _is_mistake(error):
                raise
            raise Unavailable(f"SQL: {error}") from error


def _is_mistake(error: DBAPIError) -> bool:
    """Constraint violations and wrong statements are answers, not absences."""
    return type(error).__name__ in ("IntegrityError", "ProgrammingError", "DataError", "NotSupportedError")


def _set_up_sqlite(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "busy_timeout=5000", "foreign_keys=ON", "synchronous=NORMAL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
