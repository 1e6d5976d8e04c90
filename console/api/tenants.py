"""`/v1/tenants`, their subscription and their keys."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from console.deps import CATALOGS, DATABASE, body_of, platform, tenant_of
from metering.clock import iso, parse_iso
from service.problems import Problem
from tenancy import keys, subscriptions, tenants
from tenancy.keys import KeyInfo
from tenancy.subscriptions import Subscription, history
from tenancy.tenants import Tenant

routes = web.RouteTableDef()


def _view(tenant: Tenant, own: list[Subscription]) -> dict[str, Any]:
    view: dict[str, Any] = {"name": tenant.name, "status": tenant.status, "created": iso(tenant.created)}
    view["plan"] = own[-1].plan if own else None
    if own:
        last = own[-1]
        view["subscription"] = {
            "plan": last.plan,
            "since": iso(last.since),
            "anchor": iso(last.anchor),
            "time_zone": last.time_zone,
        }
    return view


def _instant(body: dict[str, Any], name: str) -> int | None:
    if body.get(name) is None:
        return None
    try:
        return parse_iso(str(body[name]))
    except ValueError as error:
        raise Problem(422, "invalid-time", f"{name}: {error}") from None


async def _assign(request: web.Request, tenant: str, body: dict[str, Any], actor: str) -> None:
    newest = await request.app[CATALOGS].latest()
    plans = newest.catalog.plans if newest else {}
    if body.get("plan") not in plans:
        raise Problem(422, "unknown-plan", f"plan must be one of: {', '.join(plans) or 'none yet; apply a catalog'}")
    await subscriptions.assign(
        request.app[DATABASE],
        tenant,
        body["plan"],
        actor,
        since=_instant(body, "since"),
        anchor=_instant(body, "anchor"),
        time_zone=body.get("time_zone"),
    )


@routes.get("/v1/tenants")
async def list_tenants(request: web.Request) -> web.Response:
    """All tenants (platform)."""
    await platform(request)
    database = request.app[DATABASE]
    every = await history(database)
    found = [_view(tenant, every.get(tenant.name, [])) for tenant in await tenants.every(database)]
    return web.json_response({"tenants": found})


@routes.post("/v1/tenants")
async def create_tenant(request: web.Request) -> web.Response:
    """Add a tenant, with a plan if the body names one (platform)."""
    principal = await platform(request)
    body = await body_of(request)
    database = request.app[DATABASE]
    if body.get("plan") is not None:
        newest = await request.app[CATALOGS].latest()
        if newest is None or body["plan"] not in newest.catalog.plans:
            raise Problem(422, "unknown-plan", f"no plan {body['plan']!r} in the catalog")
    tenant = await tenants.create(database, str(body.get("name", "")), principal.key_id)
    if body.get("plan") is not None:
        await _assign(request, tenant.name, body, principal.key_id)
    own = (await history(database)).get(tenant.name, [])
    return web.json_response(_view(tenant, own), status=201)


@routes.get("/v1/tenants/{tenant}")
async def show_tenant(request: web.Request) -> web.Response:
    """One tenant."""
    _, tenant = await tenant_of(request, request.match_info["tenant"], "read")
    own = (await history(request.app[DATABASE])).get(tenant.name, [])
    return web.json_response(_view(tenant, own))


@routes.put("/v1/tenants/{tenant}/subscription")
async def put_subscription(request: web.Request) -> web.Response:
    """Put a tenant on a plan: `{plan, since?, anchor?, time_zone?}` (platform)."""
    principal = await platform(request)
    _, tenant = await tenant_of(request, request.match_info["tenant"], "platform")
    await _assign(request, tenant.name, await body_of(request), principal.key_id)
    own = (await history(request.app[DATABASE])).get(tenant.name, [])
    return web.json_response(_view(tenant, own))


@routes.put("/v1/tenants/{tenant}/status")
async def put_status(request: web.Request) -> web.Response:
    """Suspend, cancel or reactivate: `{status}` (platform)."""
    principal = await platform(request)
    _, tenant = await tenant_of(request, request.match_info["tenant"], "platform")
    status = (await body_of(request)).get("status")
    if status not in ("active", "suspended", "cancelled"):
        raise Problem(422, "invalid-status", "status is active, suspended or cancelled")
    await tenants.set_status(request.app[DATABASE], tenant.name, status, principal.key_id)
    return web.json_response({"name": tenant.name, "status": status})


def _key_view(key: KeyInfo) -> dict[str, Any]:
    instants = {name: getattr(key, name) for name in ("created", "expires", "revoked")}
    told = {name: None if at is None else iso(at) for name, at in instants.items()}
    return {**msgspec.structs.asdict(key), **told}


@routes.get("/v1/tenants/{tenant}/keys")
async def list_keys(request: web.Request) -> web.Response:
    """A tenant's keys, without their secrets."""
    _, tenant = await tenant_of(request, request.match_info["tenant"], "admin")
    found = await keys.list_keys(request.app[DATABASE], tenant.name)
    return web.json_response({"keys": [_key_view(key) for key in found]})


@routes.post("/v1/tenants/{tenant}/keys")
async def create_key(request: web.Request) -> web.Response:
    """Make a key: `{scopes, expires?}`; its text is answered this once."""
    principal, tenant = await tenant_of(request, request.match_info["tenant"], "admin")
    body = await body_of(request)
    scopes = body.get("scopes")
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise Problem(422, "invalid-scope", "scopes is a list of names")
    text, key_id = await keys.create_key(
        request.app[DATABASE], tenant.name, frozenset(scopes), _instant(body, "expires"), principal.key_id
    )
    return web.json_response({"key": text, "id": key_id, "scopes": sorted(scopes)}, status=201)


@routes.delete("/v1/tenants/{tenant}/keys/{id}")
async def revoke_key(request: web.Request) -> web.Response:
    """Revoke a key; it stops working within seconds."""
    principal, tenant = await tenant_of(request, request.match_info["tenant"], "admin")
    key_id = request.match_info["id"]
    if not await keys.revoke_key(request.app[DATABASE], key_id, tenant.name, principal.key_id):
        raise Problem(404, "not-found", f"no key {key_id} that could be revoked")
    return web.json_response({"id": key_id, "revoked": True})
