"""The table of grants: made once, kept when ended, and told about."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select

from metering.clock import DAY_MS, SystemClock
from metering.errors import Refused
from metering.grants import Rest
from metering.quantity import ONE
from tenancy import grants, tenants
from tenancy.database import Database
from tenancy.grants import Wanted
from tenancy.tables import changes


async def _changes(database: Database) -> int:
    async with database.transaction() as connection:
        return int((await connection.execute(select(func.max(changes.c.number)))).scalar() or 0)


@pytest.fixture
async def grand(database: Database) -> Database:
    await tenants.create(database, "grand", "test")
    return database


async def test_however_often_a_grant_is_asked_for_it_is_one(grand: Database) -> None:
    wanted = Wanted("voice", "5", id="promo")
    made = await asyncio.gather(*(grants.create(grand, "grand", wanted, "test") for _ in range(5)))
    assert [new for _, new in made].count(True) == 1
    assert len({row for row, _ in made}) == 1
    for other in (Wanted("calls", "5", id="promo"), Wanted("voice", "5", id="promo", since=made[0][0].since - 1)):
        with pytest.raises(Refused, match="id-conflict"):
            await grants.create(grand, "grand", other, "test")
    with pytest.raises(Refused, match="unknown-tenant"):
        await grants.create(grand, "plaza", wanted, "test")


async def test_a_tenant_has_living_grants_until_they_end_or_expire(grand: Database) -> None:
    now = SystemClock().now_ms()
    await grants.create(grand, "grand", Wanted("voice", "5", id="a", until=now + DAY_MS), "test")
    assert await grants.living(grand, now) == {"grand"}
    assert await grants.living(grand, now + DAY_MS) == set()
    ended = await grants.end(grand, "grand", "a", "test")
    assert ended is not None and ended.ended is not None
    assert ended.grant.until == ended.ended
    assert await grants.living(grand, now) == set()
    assert await grants.end(grand, "grand", "a", "test") == ended
    assert await grants.end(grand, "plaza", "a", "test") is None


async def test_a_rest_is_told_about_when_it_is_another_one(grand: Database) -> None:
    await grants.create(grand, "grand", Wanted("voice", "5", id="a"), "test")
    before = await _changes(grand)
    await grants.keep(grand, "grand", {"a": Rest(2 * ONE, 3 * ONE)}, 7)
    assert await _changes(grand) == before + 1
    await grants.keep(grand, "grand", {"a": Rest(2 * ONE, 3 * ONE)}, 7)
    assert await _changes(grand) == before + 1
    (row,) = (await grants.of(grand, "grand"))["grand"]
    assert (row.burnt, row.left, row.rest) == ("2", "3", (7, 3 * ONE))
    await grants.keep(grand, "grand", {"a": Rest(2 * ONE, 3 * ONE)}, 8)
    assert await _changes(grand) == before + 2
