"""`/v1/tenants` and their subscriptions."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from aiohttp import web

from console.deps import CATALOGS, DATABASE, body_of, instant, platform, tenant_of
from metering.clock import SystemClock, iso
from metering.entitlement import TenantStatus
from metering.errors import Refused
from service.problems import Problem
from tenancy import subscriptions, tenants
from tenancy.subscriptions import Assignment, Subscription, history, in_force
from tenancy.tenants import Tenant

routes = web.RouteTableDef()


class Terms(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Of a subscription; instants in RFC 3339."""

    since: str | None = None
    anchor: str | None = None
    time_zone: str | None = None
    trial_ends: str | None = None


class PlanForm(Terms, kw_only=True):
    """A subscription."""

    plan: str


class TenantForm(Terms, kw_only=True):
    """A new tenant, with a first subscription or without."""

    name: str
    plan: str | None = None


class StatusForm(msgspec.Struct, forbid_unknown_fields=True):
    """What a tenant is to be."""

    status: TenantStatus


class RetentionForm(msgspec.Struct, forbid_unknown_fields=True):
    """How long payloads are kept, in days; null: as the system is set up."""

    payload_days: Annotated[int, msgspec.Meta(ge=1, le=36_500)] | None


def _view(tenant: Tenant, own: list[Subscription]) -> dict[str, Any]:
    """`plan` and `subscription`: in force now; `upcoming`, if there are: those that begin later."""
    now = SystemClock().now_ms()
    current = in_force(own, now)
    view = {
        "name": tenant.name,
        "status": tenant.status,
        "created": iso(tenant.created),
        "payload_days": tenant.payload_days,
        "plan": current.plan if current else None,
        "subscription": _subscription(current) if current else None,
    }
    upcoming = [_subscription(one) for one in own if one.since > now]
    return {**view, "upcoming": upcoming} if upcoming else view


def _subscription(one: Subscription) -> dict[str, Any]:
    view = {"plan": one.plan, "since": iso(one.since), "anchor": iso(one.anchor), "time_zone": one.time_zone}
    return view if one.trial_ends is None else {**view, "trial_ends": iso(one.trial_ends)}


async def _answer(request: web.Request, tenant: Tenant, status: int = 200) -> web.Response:
    own = (await history(request.app[DATABASE], tenant.name)).get(tenant.name, [])
    return web.json_response(_view(tenant, own), status=status)


async def _assignment(request: web.Request, plan: str, terms: Terms) -> Assignment:
    newest = await request.app[CATALOGS].latest()
    plans = newest.catalog.plans if newest else {}
    if plan not in plans:
        raise Problem(422, "unknown-plan", f"plan must be one of: {', '.join(plans) or 'none yet; apply a catalog'}")
    since, anchor = instant("since", terms.since), instant("anchor", terms.anchor)
    return Assignment(plan, since, anchor, terms.time_zone, instant("trial_ends", terms.trial_ends))


@routes.get("/v1/tenants")
async def list_tenants(request: web.Request) -> web.Response:
    """All tenants (platform)."""
    await platform(request)
    database = request.app[DATABASE]
    subscriptions_of = await history(database)
    found = [_view(tenant, subscriptions_of.get(tenant.name, [])) for tenant in await tenants.every(database)]
    return web.json_response({"tenants": found})


@routes.post("/v1/tenants")
async def create_tenant(request: web.Request) -> web.Response:
    """Add a tenant, with a plan if the body names one: both or neither (platform)."""
    principal = await platform(request)
    form = await body_of(request, TenantForm)
    first = await _assignment(request, form.plan, form) if form.plan is not None else None
    try:
        tenant = await tenants.create(request.app[DATABASE], form.name, principal.key_id, first)
    except Refused as error:
        if error.code != "tenant-exists":
            raise
        raise Problem(409, error.code, error.detail) from None
    return await _answer(request, tenant, 201)


@routes.get("/v1/tenants/{tenant}")
async def show_tenant(request: web.Request) -> web.Response:
    """One tenant."""
    _, tenant = await tenant_of(request, request.match_info["tenant"], "read")
    return await _answer(request, tenant)


@routes.put("/v1/tenants/{tenant}/subscription")
async def put_subscription(request: web.Request) -> web.Response:
    """Put a tenant on a plan (platform)."""
    principal, tenant = await tenant_of(request, request.match_info["tenant"], "platform")
    form = await body_of(request, PlanForm)
    wanted = await _assignment(request, form.plan, form)
    async with request.app[DATABASE].writing() as connection:
        await subscriptions.add(connection, tenant.name, wanted, principal.key_id)
    return await _answer(request, tenant)


@routes.put("/v1/tenants/{tenant}/status")
async def put_status(request: web.Request) -> web.Response:
    """Suspend, cancel or reactivate (platform)."""
    principal, tenant = await tenant_of(request, request.match_info["tenant"], "platform")
    status = (await body_of(request, StatusForm)).status
    await tenants.set_status(request.app[DATABASE], tenant.name, status, principal.key_id)
    return web.json_response({"name": tenant.name, "status": status})


@routes.put("/v1/tenants/{tenant}/retention")
async def put_retention(request: web.Request) -> web.Response:
    """Say how long a tenant's payloads are kept (platform)."""
    principal, tenant = await tenant_of(request, request.match_info["tenant"], "platform")
    days = (await body_of(request, RetentionForm)).payload_days
    await tenants.set_payload_days(request.app[DATABASE], tenant.name, days, principal.key_id)
    return web.json_response({"name": tenant.name, "payload_days": days})
