"""The connection to SQL: SQLite by default, PostgreSQL in production."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, event, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from metering.errors import Unavailable
from tenancy import tables

_PATIENCE_SECONDS = 5
_WRITER_LOCK = 0x7A11_96A7E
"""Any number; advisory locks of one PostgreSQL database share a space."""


class Database:
    """One engine. Transactions commit at their end; every failure to reach SQL is Unavailable."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._engine: AsyncEngine | None = None

    async def open(self) -> None:
        """Make the engine; connects on first use."""
        if self._url.get_backend_name() == "sqlite":
            # aiosqlite's own `timeout` is SQLite's busy timeout.
            limits: dict[str, Any] = {"connect_args": {"timeout": _PATIENCE_SECONDS}}
        else:
            connect_args = {"timeout": _PATIENCE_SECONDS, "command_timeout": 2 * _PATIENCE_SECONDS}
            limits = {"connect_args": connect_args, "pool_pre_ping": True}
        # Parameters would put digests of keys into errors, and those into logs.
        self._engine = create_async_engine(self._url, hide_parameters=True, pool_timeout=_PATIENCE_SECONDS, **limits)
        if self._url.get_backend_name() == "sqlite":
            event.listen(self._engine.sync_engine, "connect", _set_up_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)

    async def close(self) -> None:
        """Let go of all connections."""
        if self._engine is not None:
            await self._engine.dispose()

    async def ping(self) -> None:
        """Whether SQL answers and has our schema. Raises Unavailable."""
        async with self.transaction() as connection:
            await connection.execute(select(tables.tenants.c.name).limit(1))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One short transaction that reads. Raises Unavailable."""
        async with self._begin(writes=False) as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """One short transaction that may write: one at a time, over all processes. Raises Unavailable.

        So what it read stays true until it commits, and numbers that it hands out are committed in their order: who
        follows the change log misses none.
        """
        async with self._begin(writes=True) as connection:
            yield connection

    @asynccontextmanager
    async def _begin(self, writes: bool) -> AsyncIterator[AsyncConnection]:
        if self._engine is None:
            raise Unavailable("SQL: the database is not open")
        try:
            async with self._engine.execution_options(tallygate_writes=writes).begin() as connection:
                if writes and connection.dialect.name == "postgresql":
                    await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _WRITER_LOCK})
                yield connection
        except (DBAPIError, PoolTimeout, OSError) as error:
            if isinstance(error, DBAPIError) and _is_mistake(error):
                raise
            raise Unavailable(f"SQL: {error}") from error


def _is_mistake(error: DBAPIError) -> bool:
    """Constraint violations are answers, not absences. A missing table is one: the schema is still being migrated."""
    return isinstance(error, IntegrityError | DataError)


def _set_up_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # else the driver begins transactions where it likes, and none for DDL
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=NORMAL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that read before it writes is refused at once, whatever the timeout, if another wrote in between.
    writes = connection.get_execution_options().get("tallygate_writes", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
