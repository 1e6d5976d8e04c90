"""Who changed what, when: append-only, written in the transaction of the change itself."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from metering.clock import SystemClock
from tenancy.tables import audit


async def record(connection: AsyncConnection, actor: str, action: str, tenant: str | None, **detail: Any) -> None:
    """`actor` is a key's id or `system`; `detail` never holds a secret."""
    await connection.execute(
        insert(audit).values(
            at=SystemClock().now_ms(),
            actor=actor,
            tenant=tenant,
            action=action,
            detail=msgspec.json.encode(detail).decode(),
        )
    )
