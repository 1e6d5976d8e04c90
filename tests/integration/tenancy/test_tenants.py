"""Tenants, their plans and the trail of what was changed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from metering.clock import parse_iso
from metering.errors import Refused
from metering.period import DEFAULT_TERMS, BillingTerm
from tenancy import changes, subscriptions, tenants
from tenancy.database import Database
from tenancy.subscriptions import Assignment, SubscriptionView, history
from tenancy.tables import audit

ANCHOR = parse_iso("2026-01-31T00:00:00+01:00")


async def trail(database: Database) -> list[tuple[str, str, str | None, Any]]:
    """(actor, action, tenant, detail) of every audited write."""
    query = select(audit.c.actor, audit.c.action, audit.c.tenant, audit.c.detail).order_by(audit.c.id)
    async with database.transaction() as connection:
        rows = (await connection.execute(query)).all()
    return [(row[0], row[1], row[2], msgspec.json.decode(row[3])) for row in rows]


@pytest.mark.parametrize("name", ["", "Grand", "-grand", "gr and", "grand\n", "größe", "a" * 64, "a:b", "../etc"])
async def test_a_tenants_name_is_from_the_contracts_alphabet(database: Database, name: str) -> None:
    with pytest.raises(Refused) as caught:
        await tenants.create(database, name, "test")
    assert caught.value.code == "invalid-name"
    assert await tenants.every(database) == []


async def test_a_tenant_is_created_once(database: Database) -> None:
    made = await tenants.create(database, "a" * 63, "test")
    assert await tenants.get(database, "a" * 63) == made
    assert await tenants.get(database, "nobody") is None
    with pytest.raises(Refused) as caught:
        await tenants.create(database, "a" * 63, "test")
    assert caught.value.code == "tenant-exists"
    assert await tenants.every(database) == [made]


async def test_a_tenant_whose_first_plan_is_refused_is_not_created(database: Database) -> None:
    with pytest.raises(Refused) as caught:
        await tenants.create(database, "grand", "test", Assignment("small", time_zone="Mars/Olympus"))
    assert caught.value.code == "invalid-time-zone"
    assert await tenants.get(database, "grand") is None
    assert await trail(database) == []
    await tenants.create(database, "grand", "test", Assignment("small", 5, ANCHOR, "Europe/Berlin"))
    assert [one.plan for one in (await history(database, "grand"))["grand"]] == ["small"]


async def test_a_later_subscription_keeps_the_anchor_and_zone_in_force_unless_told_otherwise(
    database: Database,
) -> None:
    await tenants.create(database, "grand", "test", Assignment("small", 1000, time_zone="Europe/Berlin"))
    first, second, third, between = [
        (await history(database, "grand"))["grand"][0],
        await subscriptions.assign(database, "grand", "large", "test", since=2000),
        await subscriptions.assign(database, "grand", "large", "test", since=3000, anchor=2500, time_zone="Asia/Tokyo"),
        await subscriptions.assign(database, "grand", "medium", "test", since=2500),
    ]
    assert (first.anchor, first.time_zone) == (1000, "Europe/Berlin")
    assert (second.anchor, second.time_zone) == (1000, "Europe/Berlin")
    assert (third.anchor, third.time_zone) == (2500, "Asia/Tokyo")
    assert (between.anchor, between.time_zone) == (1000, "Europe/Berlin")
    assert [one.plan for one in (await history(database))["grand"]] == ["small", "large", "medium", "large"]


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"since": -1}, "invalid-time"),
        ({"since": parse_iso("2106-01-01T00:00:00Z")}, "invalid-time"),
        ({"anchor": parse_iso("0001-01-01T00:00:00Z")}, "invalid-time"),
        ({"anchor": parse_iso("9999-12-31T00:00:00Z")}, "invalid-time"),
        ({"time_zone": "../../etc/passwd"}, "invalid-time-zone"),
        ({"time_zone": "Europe"}, "invalid-time-zone"),
        ({"time_zone": "Z" * 500}, "invalid-time-zone"),
        ({"time_zone": "\0"}, "invalid-time-zone"),
    ],
)
async def test_terms_that_periods_cannot_be_counted_by_are_refused(
    database: Database, wanted: dict[str, Any], code: str
) -> None:
    await tenants.create(database, "grand", "test")
    with pytest.raises(Refused) as caught:
        await subscriptions.assign(database, "grand", "small", "test", **wanted)
    assert caught.value.code == code
    assert await history(database, "grand") == {}


async def test_nobody_is_assigned_a_plan_who_is_not_there(database: Database) -> None:
    with pytest.raises(Refused) as caught:
        await subscriptions.assign(database, "nobody", "small", "test")
    assert caught.value.code == "unknown-tenant"
    with pytest.raises(Refused) as caught:
        await tenants.set_status(database, "nobody", "suspended", "test")
    assert caught.value.code == "unknown-tenant"


async def test_every_write_is_audited_and_enters_the_change_log(database: Database) -> None:
    await tenants.create(database, "grand", "key-1", Assignment("small", 5))
    await tenants.set_status(database, "grand", "suspended", "key-2")
    assert await trail(database) == [
        ("key-1", "tenant.create", "grand", {}),
        (
            "key-1",
            "subscription.assign",
            "grand",
            {"plan": "small", "since": 5, "anchor": None, "time_zone": None, "trial_ends": None},
        ),
        ("key-2", "tenant.status", "grand", {"status": "suspended"}),
    ]
    async with database.transaction() as connection:
        number, changed = await changes.since(connection, 0)
        assert (number, changed) == (3, {"grand"})
        assert await changes.since(connection, number) == (number, set())


async def test_a_view_tells_whose_billing_terms_changed(database: Database) -> None:
    view = SubscriptionView(database)
    assert await view.refresh() == set()
    assert view.terms("grand") == DEFAULT_TERMS
    for name in ("grand", "plaza"):
        await tenants.create(database, name, "test", Assignment("small", 5, ANCHOR, "Europe/Berlin"))
    assert await view.refresh() == {"grand", "plaza"}
    assert view.terms("grand") == (BillingTerm(0, ANCHOR, "Europe/Berlin"),)
    assert await view.refresh() == set()
    await subscriptions.assign(database, "grand", "large", "test")
    assert await view.refresh() == set(), "a change of plan is none of terms"
    await subscriptions.assign(database, "plaza", "small", "test", since=9, time_zone="UTC")
    assert await view.refresh() == {"plaza"}
    assert set(view.all_terms()) == {"grand", "plaza"}
