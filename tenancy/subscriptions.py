"""Subscriptions: a tenant's plan with dated history, the anchor of its billing periods and its time zone."""

from __future__ import annotations

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from metering.clock import SystemClock
from metering.errors import Refused
from metering.period import DEFAULT_TERMS, FOREVER, BillingTerm, zone_of
from tenancy import audit, changes
from tenancy.database import Database
from tenancy.tables import subscriptions, tenants

_LAST_MS = 4_291_747_199_000  # 2105-12-31, where the ledger's times end


class Subscription(msgspec.Struct, frozen=True):
    """From `since` (ms UTC) on the tenant is on `plan`; billing months count from `anchor` in `time_zone`.

    On trial it grants nothing more from `trial_ends` (ms UTC) on, until another subscription begins.
    """

    tenant: str
    plan: str
    since: int
    anchor: int
    time_zone: str
    trial_ends: int | None = None

    @property
    def term(self) -> BillingTerm:
        """What periods need of it."""
        return BillingTerm(self.since, self.anchor, self.time_zone)


class Assignment(msgspec.Struct, frozen=True):
    """What is asked for: a plan from `since` (ms UTC, None: now) on; None keeps what the tenant has.

    A trial is not kept: without `trial_ends` the subscription is none.
    """

    plan: str
    since: int | None = None
    anchor: int | None = None
    time_zone: str | None = None
    trial_ends: int | None = None


_COLUMNS = [subscriptions.c[name] for name in Subscription.__struct_fields__]


async def assign(
    database: Database,
    tenant: str,
    plan: str,
    actor: str,
    since: int | None = None,
    anchor: int | None = None,
    time_zone: str | None = None,
    trial_ends: int | None = None,
) -> Subscription:
    """Put a tenant on a plan. Raises Refused (`unknown-tenant`, `invalid-time`, `invalid-time-zone`)."""
    async with database.writing() as connection:
        if (await connection.execute(select(tenants.c.name).where(tenants.c.name == tenant))).first() is None:
            raise Refused("unknown-tenant", f"no tenant {tenant}")
        return await add(connection, tenant, Assignment(plan, since, anchor, time_zone, trial_ends), actor)


async def add(connection: AsyncConnection, tenant: str, wanted: Assignment, actor: str) -> Subscription:
    """`assign` inside a writing transaction, for a tenant that is there.

    A first subscription anchors its billing months at its beginning; another one keeps the anchor and the time zone in
    force when it begins, unless told otherwise. Raises Refused (`invalid-time`, `invalid-time-zone`).
    """
    zone = wanted.time_zone
    try:
        zone_of(zone or "UTC")
    except ValueError as error:
        raise Refused("invalid-time-zone", str(error)) from None
    since = SystemClock().now_ms() if wanted.since is None else wanted.since
    query = (
        select(*_COLUMNS).where(subscriptions.c.tenant == tenant).order_by(subscriptions.c.since, subscriptions.c.id)
    )
    own = [Subscription(*row) for row in (await connection.execute(query)).all()]
    before = in_force(own, since) or (own[0] if own else None)
    anchor = wanted.anchor if wanted.anchor is not None else before.anchor if before else since
    for name, at in (("since", since), ("anchor", anchor)):
        if not 0 <= at <= _LAST_MS:
            raise Refused("invalid-time", f"{name} lies before 1970 or after 2105")
    if wanted.trial_ends is not None and not since < wanted.trial_ends <= _LAST_MS:
        raise Refused("invalid-time", "trial_ends lies after the subscription's beginning, and before 2106")
    zone = zone or (before.time_zone if before else "UTC")
    made = Subscription(tenant, wanted.plan, since, anchor, zone, wanted.trial_ends)
    await connection.execute(insert(subscriptions).values(msgspec.structs.asdict(made)))
    await changes.note(connection, tenant)
    await audit.record(connection, actor, "subscription.assign", tenant, **msgspec.structs.asdict(wanted))
    return made


async def history(database: Database, tenant: str | None = None) -> dict[str, list[Subscription]]:
    """Subscriptions by tenant (of all, or of one), in the order in which they begin."""
    query = select(*_COLUMNS).order_by(subscriptions.c.tenant, subscriptions.c.since, subscriptions.c.id)
    if tenant is not None:
        query = query.where(subscriptions.c.tenant == tenant)
    found: dict[str, list[Subscription]] = {}
    async with database.transaction() as connection:
        for row in (await connection.execute(query)).all():
            found.setdefault(row[0], []).append(Subscription(*row))
    return found


def in_force(own: list[Subscription], at: int) -> Subscription | None:
    """The newest of a tenant's subscriptions that has begun at `at`."""
    return next((one for one in reversed(own) if one.since <= at), None)


def terms_of(own: list[Subscription]) -> tuple[BillingTerm, ...]:
    """Dated billing terms; a plan change alone does not cut a period."""
    terms: list[BillingTerm] = []
    for subscription in own:
        term = subscription.term
        if not terms or (terms[-1].anchor, terms[-1].zone) != (term.anchor, term.zone):
            terms.append(term if terms else term._replace(since=0))
    return tuple(terms) or DEFAULT_TERMS


class SubscriptionView:
    """Billing terms and plans of all tenants, cached in a process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._terms: dict[str, tuple[BillingTerm, ...]] = {}
        self._history: dict[str, list[Subscription]] = {}
        self.number = -1
        """Of the change that was seen last; another one: something may be different."""

    async def refresh(self) -> set[str]:
        """Read anew if anything changed; returns the tenants whose terms differ now. Raises Unavailable."""
        async with self._database.transaction() as connection:
            newest, _ = await changes.since(connection, self.number)
        if newest == self.number:
            return set()
        own_of = await history(self._database)
        fresh = {tenant: terms_of(own) for tenant, own in own_of.items()}
        changed = {name for name in fresh.keys() | self._terms.keys() if fresh.get(name) != self._terms.get(name)}
        self._terms, self._history, self.number = fresh, own_of, newest
        return changed

    def terms(self, tenant: str) -> tuple[BillingTerm, ...]:
        """A tenant's terms; calendar months in UTC for one without a subscription."""
        return self._terms.get(tenant, DEFAULT_TERMS)

    def plans(self, at: int) -> dict[str, str]:
        """Tenant → plan in force at `at` (ms UTC), of those that have one."""
        found = {tenant: in_force(own, at) for tenant, own in self._history.items()}
        return {tenant: one.plan for tenant, one in found.items() if one is not None}

    def next_change(self, at: int) -> int:
        """When the next subscription begins after `at` (ms UTC)."""
        return min((one.since for own in self._history.values() for one in own if one.since > at), default=FOREVER)

    def all_terms(self) -> dict[str, tuple[BillingTerm, ...]]:
        """The tenants that have terms of their own."""
        return self._terms
