"""Tenants: who pays and is isolated."""

from __future__ import annotations

import msgspec
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from metering.catalog import TENANT_NAME
from metering.clock import SystemClock
from metering.entitlement import TenantStatus
from metering.errors import Refused
from tenancy import audit, changes, subscriptions
from tenancy.database import Database
from tenancy.subscriptions import Assignment
from tenancy.tables import tenants


class Tenant(msgspec.Struct, frozen=True):
    """One tenant; `created` in ms UTC. Payloads are kept for `payload_days`, None: as the system is set up."""

    name: str
    status: TenantStatus
    created: int
    payload_days: int | None = None


async def create(database: Database, name: str, actor: str, first: Assignment | None = None) -> Tenant:
    """Add a tenant, on its first plan if there is one: both or neither.

    Raises Refused (`invalid-name`, `tenant-exists`, and those of a subscription).
    """
    if not TENANT_NAME.fullmatch(name):
        raise Refused("invalid-name", f"a tenant's name must match {TENANT_NAME.pattern}")
    tenant = Tenant(name, "active", SystemClock().now_ms())
    try:
        async with database.writing() as connection:
            await connection.execute(insert(tenants).values(msgspec.structs.asdict(tenant)))
            await changes.note(connection, name)
            await audit.record(connection, actor, "tenant.create", name)
            if first is not None:
                await subscriptions.add(connection, name, first, actor)
    except IntegrityError:
        raise Refused("tenant-exists", f"there is a tenant {name} already") from None
    return tenant


async def get(database: Database, name: str) -> Tenant | None:
    """One tenant by name."""
    async with database.transaction() as connection:
        row = (await connection.execute(select(tenants).where(tenants.c.name == name))).first()
    return Tenant(*row) if row else None


async def every(database: Database) -> list[Tenant]:
    """All tenants by name."""
    async with database.transaction() as connection:
        rows = (await connection.execute(select(tenants).order_by(tenants.c.name))).all()
    return [Tenant(*row) for row in rows]


async def set_status(database: Database, name: str, status: TenantStatus, actor: str) -> None:
    """Suspend, cancel or reactivate. Raises Refused (`unknown-tenant`)."""
    async with database.writing() as connection:
        result = await connection.execute(update(tenants).where(tenants.c.name == name).values(status=status))
        if result.rowcount == 0:
            raise Refused("unknown-tenant", f"no tenant {name}")
        await changes.note(connection, name)
        await audit.record(connection, actor, "tenant.status", name, status=status)


async def set_payload_days(database: Database, name: str, days: int | None, actor: str) -> None:
    """How long a tenant's payloads are kept. Raises Refused (`unknown-tenant`)."""
    async with database.writing() as connection:
        result = await connection.execute(update(tenants).where(tenants.c.name == name).values(payload_days=days))
        if result.rowcount == 0:
            raise Refused("unknown-tenant", f"no tenant {name}")
        await audit.record(connection, actor, "tenant.payload-days", name, days=days)


async def payload_days(database: Database) -> dict[str, int]:
    """Of the tenants that have their own."""
    query = select(tenants.c.name, tenants.c.payload_days).where(tenants.c.payload_days.is_not(None))
    async with database.transaction() as connection:
        return {row.name: row.payload_days for row in (await connection.execute(query)).all()}
