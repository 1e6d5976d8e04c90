"""Operations: long work on the ledger that somebody asked for. The workers do it, partition by partition.

Whoever has begun a part holds it on a lease; a part whose holder has gone is taken up by another, who goes on where it
was left. A part may be done twice: all of this work is repeatable.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import and_, insert, or_, select, tuple_, update

from metering.clock import SystemClock
from tenancy import audit
from tenancy.database import Database
from tenancy.tables import operation_parts, operations

Kind = Literal["reconcile", "rebuild", "replay"]
Status = Literal["waiting", "running", "done", "failed"]
LEASE_MS = 15_000

At = tuple[int, int]
"""(epoch, partition)"""


class Part(msgspec.Struct, frozen=True):
    """What an operation does to one partition: `done` of `total` steps, and what came of it."""

    epoch: int
    partition: int
    status: Status
    doing: str
    done: int
    total: int
    result: dict[str, Any]


class Operation(msgspec.Struct, frozen=True):
    """One operation; `asked` in ms UTC, `by` a key's id."""

    id: str
    kind: Kind
    parameters: dict[str, Any]
    by: str
    asked: int
    parts: list[Part]


class Task(msgspec.Struct, frozen=True):
    """A part that this holder may work on."""

    operation: str
    kind: Kind
    parameters: dict[str, Any]
    epoch: int
    partition: int
    holder: str


class Operations:
    """The tables of operations. Every method raises Unavailable when SQL does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ask(self, kind: Kind, parameters: dict[str, Any], by: str, parts: Iterable[At]) -> str:
        """Add an operation; answers its id."""
        id = secrets.token_hex(6)
        asked = SystemClock().now_ms()
        text = msgspec.json.encode(parameters).decode()
        rows = [
            {"operation": id, "epoch": epoch, "partition": partition, "status": "waiting"} for epoch, partition in parts
        ]
        async with self._database.writing() as connection:
            await connection.execute(
                insert(operations).values(id=id, kind=kind, parameters=text, requester=by, asked=asked)
            )
            if rows:
                await connection.execute(insert(operation_parts), rows)
            await audit.record(
                connection, by, f"operation.{kind}", parameters.get("tenant"), id=id, parameters=parameters
            )
        return id

    async def get(self, id: str) -> Operation | None:
        """One operation with its parts in order."""
        part = operation_parts.c
        columns = (part.epoch, part.partition, part.status, part.doing, part.done, part.total, part.result)
        async with self._database.transaction() as connection:
            found = (await connection.execute(select(operations).where(operations.c.id == id))).first()
            rows = await connection.execute(
                select(*columns).where(part.operation == id).order_by(part.epoch, part.partition)
            )
            parts = [Part(*row[:-1], result=msgspec.json.decode(row[-1])) for row in rows.all()]
        if found is None:
            return None
        parameters = msgspec.json.decode(found.parameters)
        return Operation(found.id, found.kind, parameters, found.requester, found.asked, parts)

    async def take(self, mine: Sequence[At], holder: str) -> Task | None:
        """The oldest part of these partitions that nobody holds, held by `holder` from now on."""
        if not mine:
            return None
        now = SystemClock().now_ms()
        part = operation_parts.c
        free = or_(part.status == "waiting", and_(part.status == "running", part.held < now - LEASE_MS))
        query = (
            select(part.operation, part.epoch, part.partition, operations.c.kind, operations.c.parameters)
            .join(operations, operations.c.id == part.operation)
            .where(free, tuple_(part.epoch, part.partition).in_(mine))
            .order_by(operations.c.asked, part.epoch, part.partition)
            .limit(1)
        )
        async with self._database.transaction() as connection:
            if (await connection.execute(query)).first() is None:
                return None  # nearly always: nobody has to wait for the right to write
        async with self._database.writing() as connection:
            row = (await connection.execute(query)).first()
            if row is None:
                return None
            task = Task(row[0], row[3], msgspec.json.decode(row[4]), row[1], row[2], holder)
            values = {"status": "running", "holder": holder, "held": now}
            await connection.execute(update(operation_parts).where(_is(task)).values(values))
        return task

    async def tell(self, task: Task, doing: str, done: int, total: int) -> bool:
        """Say how far a part is and hold it on; False when it is another's by now."""
        values = {"doing": doing, "done": done, "total": total, "held": SystemClock().now_ms()}
        return await self._change(task, values)

    async def end(self, task: Task, status: Status, result: dict[str, Any]) -> bool:
        """What came of a part; False when it is another's by now."""
        return await self._change(task, {"status": status, "result": msgspec.json.encode(result).decode()})

    async def _change(self, task: Task, values: dict[str, Any]) -> bool:
        async with self._database.writing() as connection:
            mine = and_(_is(task), operation_parts.c.holder == task.holder)
            return (await connection.execute(update(operation_parts).where(mine).values(values))).rowcount == 1


def _is(task: Task) -> Any:
    part = operation_parts.c
    return and_(part.operation == task.operation, part.epoch == task.epoch, part.partition == task.partition)
