"""Epochs of the log: which topic gateways write to, and which are closed (streams/epochs.py begins and closes them)."""

from __future__ import annotations

from typing import Literal

import msgspec
from sqlalchemy import func, insert, select, update

from metering.clock import SystemClock
from tenancy import audit
from tenancy.database import Database
from tenancy.tables import epochs

Status = Literal["open", "closing", "closed"]


class Epoch(msgspec.Struct, frozen=True):
    """One epoch of the log."""

    epoch: int
    partitions: int
    status: Status


class Epochs:
    """The table of epochs. Every method raises Unavailable when SQL does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[Epoch]:
        """Every epoch, oldest first."""
        query = select(epochs.c.epoch, epochs.c.partitions, epochs.c.status).order_by(epochs.c.epoch)
        async with self._database.transaction() as connection:
            return [Epoch(*row) for row in (await connection.execute(query)).all()]

    async def current(self) -> Epoch | None:
        """The newest one, to which gateways write."""
        every = await self.all()
        return every[-1] if every else None

    async def begin(self, partitions: int, number: int | None = None) -> Epoch:
        """Add the next epoch, or `number` behind all there are; its topic is there already."""
        async with self._database.writing() as connection:
            if number is None:
                number = 1 + ((await connection.execute(select(func.max(epochs.c.epoch)))).scalar() or 0)
            await connection.execute(
                insert(epochs).values(
                    epoch=number, partitions=partitions, status="open", created=SystemClock().now_ms()
                )
            )
            await audit.record(connection, "system", "epoch.begin", None, epoch=number, partitions=partitions)
        return Epoch(number, partitions, "open")

    async def mark(self, epoch: int, status: Status) -> None:
        """Change an epoch's status."""
        async with self._database.writing() as connection:
            await connection.execute(update(epochs).where(epochs.c.epoch == epoch).values(status=status))
            await audit.record(connection, "system", "epoch.mark", None, epoch=epoch, status=status)
