"""Grants: who was given what beside the plan. Nothing is deleted; a grant that is taken back has ended."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

import msgspec
from sqlalchemy import insert, or_, select, update

from metering import quantity
from metering.clock import DAY_MS, SystemClock
from metering.errors import Refused
from metering.grants import Grant, Rest
from metering.period import FOREVER
from tenancy import audit, changes
from tenancy.database import Database
from tenancy.tables import grants, tenants

_ID = re.compile(r"[A-Za-z0-9_:-]{1,64}")
_LAST_MS = 4_291_747_199_000  # 2105-12-31, where the ledger's times end
_BACK_MS = 366 * DAY_MS
_PRIORITIES = range(1_000_001)


class GrantRow(msgspec.Struct, frozen=True):
    """One grant as it stands; quantities as decimal strings, instants in ms UTC (`until` None: never expires).

    `rollover`: how much of it goes on at a period's end, None: all. `burnt` and `left`: at `left_at`, the beginning of
    a period; None: no period has ended since it began, or the ledger was not asked yet.
    """

    tenant: str
    id: str
    feature: str
    amount: str
    priority: int
    since: int
    until: int | None = None
    rollover: str | None = None
    ended: int | None = None
    burnt: str | None = None
    left: str | None = None
    left_at: int | None = None

    @property
    def grant(self) -> Grant:
        """What counts of it."""
        rollover = None if self.rollover is None else quantity.from_text(self.rollover)
        until = min(one for one in (self.until, self.ended, FOREVER) if one is not None)
        return Grant(self.id, quantity.from_text(self.amount), self.since, until, self.priority, rollover)

    @property
    def rest(self) -> tuple[int, int] | None:
        """(the beginning of a period, what is left then in nanos), as metering.grants.published takes it."""
        return None if self.left is None or self.left_at is None else (self.left_at, quantity.from_text(self.left))


class Wanted(msgspec.Struct, frozen=True):
    """A grant that is asked for; `since` None: now, `id` None: one is drawn. Amounts are decimal strings, checked."""

    feature: str
    amount: str
    priority: int = 100
    since: int | None = None
    until: int | None = None
    rollover: str | None = None
    id: str | None = None


_COLUMNS = [grants.c[name] for name in GrantRow.__struct_fields__]


async def create(database: Database, tenant: str, wanted: Wanted, actor: str) -> tuple[GrantRow, bool]:
    """Grant it; the same id and content again is the same grant. Answers it, and whether it is new.

    Raises Refused (`unknown-tenant`, `invalid-id`, `invalid-priority`, `invalid-time`, `id-conflict`).
    """
    now = SystemClock().now_ms()
    _check(wanted, now)
    since = now if wanted.since is None else wanted.since
    id = secrets.token_hex(6) if wanted.id is None else wanted.id
    made = GrantRow(tenant, id, wanted.feature, wanted.amount, wanted.priority, since, wanted.until, wanted.rollover)
    async with database.writing() as connection:
        if (await connection.execute(select(tenants.c.name).where(tenants.c.name == tenant))).first() is None:
            raise Refused("unknown-tenant", f"no tenant {tenant}")
        mine = select(*_COLUMNS).where(grants.c.tenant == tenant, grants.c.id == id)
        row = (await connection.execute(mine)).first()
        if row is not None:
            there = GrantRow(*row)
            if not _same(there, wanted):
                raise Refused("id-conflict", f"there is another grant {id} of {tenant}: choose another id")
            return there, False
        await connection.execute(insert(grants).values(msgspec.structs.asdict(made)))
        await changes.note(connection, tenant)
        await audit.record(connection, actor, "grant.create", tenant, **{**msgspec.structs.asdict(wanted), "id": id})
    return made, True


def _check(wanted: Wanted, now: int) -> None:
    if wanted.id is not None and not _ID.fullmatch(wanted.id):
        raise Refused("invalid-id", "an id has 1 to 64 letters, digits, `_`, `-` or `:`")
    if wanted.priority not in _PRIORITIES:
        raise Refused("invalid-priority", f"priority is an integer from 0 to {_PRIORITIES[-1]}; the lowest burns first")
    since = now if wanted.since is None else wanted.since
    if not now - _BACK_MS <= since <= _LAST_MS:
        raise Refused("invalid-time", "since lies at most a year back, and before 2106")
    if wanted.until is not None and not max(since, now) < wanted.until <= _LAST_MS:
        raise Refused("invalid-time", "until lies after since, in the future, and before 2106")


def _same(there: GrantRow, wanted: Wanted) -> bool:
    names = ("feature", "amount", "priority", "until", "rollover")
    equal = all(getattr(there, name) == getattr(wanted, name) for name in names)
    return equal and wanted.since in (None, there.since)


async def of(database: Database, tenant: str | None = None) -> dict[str, list[GrantRow]]:
    """Grants by tenant (of all, or of one), the oldest first; ended ones too."""
    query = select(*_COLUMNS).order_by(grants.c.tenant, grants.c.since, grants.c.id)
    if tenant is not None:
        query = query.where(grants.c.tenant == tenant)
    found: dict[str, list[GrantRow]] = {}
    async with database.transaction() as connection:
        for row in (await connection.execute(query)).all():
            found.setdefault(row[0], []).append(GrantRow(*row))
    return found


async def end(database: Database, tenant: str, id: str, actor: str) -> GrantRow | None:
    """Let a grant end now, if it has not ended before; None: there is none of that id."""
    mine = (grants.c.tenant == tenant, grants.c.id == id)
    async with database.writing() as connection:
        now = SystemClock().now_ms()
        ended = update(grants).where(*mine, grants.c.ended.is_(None)).values(ended=now)
        if (await connection.execute(ended)).rowcount:
            await changes.note(connection, tenant)
            await audit.record(connection, actor, "grant.end", tenant, id=id)
        row = (await connection.execute(select(*_COLUMNS).where(*mine))).first()
    return None if row is None else GrantRow(*row)


async def living(database: Database, now: int) -> set[str]:
    """The tenants that have a grant which has not ended at `now`."""
    query = select(grants.c.tenant).where(grants.c.ended.is_(None), or_(grants.c.until.is_(None), grants.c.until > now))
    async with database.transaction() as connection:
        return {row[0] for row in (await connection.execute(query.distinct())).all()}


async def keep(database: Database, tenant: str, rests: Mapping[str, Rest], left_at: int) -> None:
    """What was left of a tenant's grants when the period that begins at `left_at` began; nothing if it stands there."""
    async with database.writing() as connection:
        changed = 0
        for id, rest in rests.items():
            values = {"burnt": quantity.render(rest.burnt), "left": quantity.render(rest.left), "left_at": left_at}
            mine = (grants.c.tenant == tenant, grants.c.id == id)
            different = or_(*(grants.c[name].is_distinct_from(value) for name, value in values.items()))
            changed += (await connection.execute(update(grants).where(*mine, different).values(values))).rowcount
        if changed:
            await changes.note(connection, tenant)
