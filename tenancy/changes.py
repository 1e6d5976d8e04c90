"""The change log: tells the snapshot publisher and the writer's views what to look at again."""

from __future__ import annotations

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tenancy.tables import changes


async def note(connection: AsyncConnection, tenant: str | None) -> None:
    """Something about `tenant` changed (None: about all), in the transaction of the change."""
    await connection.execute(insert(changes).values(tenant=tenant))


async def since(connection: AsyncConnection, number: int) -> tuple[int, set[str | None]]:
    """The newest change number, and what changed after `number`."""
    newest = (await connection.execute(select(func.max(changes.c.number)))).scalar() or 0
    if newest == number:
        return newest, set()
    rows = await connection.execute(select(changes.c.tenant).where(changes.c.number > number).distinct())
    return newest, {row[0] for row in rows.all()}
