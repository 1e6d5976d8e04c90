"""Run by Alembic. Connects as the application does: of several that migrate at once one does it, the others see it."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection

from tenancy.database import Database
from tenancy.tables import metadata


def migrate(connection: Connection) -> None:
    """Run what is missing in one transaction."""
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    """Connect and migrate."""
    database = Database(context.config.attributes["url"])
    await database.open()
    try:
        async with database.writing() as connection:
            await connection.run_sync(migrate)
    finally:
        await database.close()


asyncio.run(main())
