"""Crossings on their way to whoever is to be alerted. Each stands here once, however often it is told."""

from __future__ import annotations

import msgspec
from sqlalchemy import insert, select

from metering.crossing import Crossing
from tenancy.database import Database
from tenancy.tables import alert_outbox

_COLUMNS = [alert_outbox.c[name] for name in Crossing.__struct_fields__]


async def write(database: Database, crossing: Crossing) -> bool:
    """Add a crossing; False if one of its id is there. Raises Unavailable."""
    async with database.writing() as connection:  # one at a time, so that what is not there stays so
        query = select(alert_outbox.c.id).where(alert_outbox.c.id == crossing.id)
        if (await connection.execute(query)).first() is not None:
            return False
        await connection.execute(insert(alert_outbox).values(msgspec.structs.asdict(crossing)))
    return True


async def of(database: Database, tenant: str, at_most: int) -> list[Crossing]:
    """A tenant's crossings, the newest first. Raises Unavailable."""
    query = (
        select(*_COLUMNS)
        .where(alert_outbox.c.tenant == tenant)
        .order_by(alert_outbox.c.at.desc(), alert_outbox.c.id)
        .limit(at_most)
    )
    async with database.transaction() as connection:
        return [Crossing(*row) for row in (await connection.execute(query)).all()]
