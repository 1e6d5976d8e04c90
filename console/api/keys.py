"""`/v1/tenants/{tenant}/keys`, and `/v1/keys`: those of the platform."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from console.deps import DATABASE, body_of, instant, platform, tenant_of
from metering.clock import iso
from service.problems import Problem
from tenancy import keys
from tenancy.keys import KeyInfo

routes = web.RouteTableDef()


class KeyForm(msgspec.Struct, forbid_unknown_fields=True):
    """A key that is asked for; `expires` in RFC 3339."""

    scopes: list[str]
    expires: str | None = None


async def _owner(request: web.Request) -> tuple[str, str | None]:
    """Who acts (a key's id), and whose keys are meant: a tenant's, or None for the platform's."""
    if "tenant" not in request.match_info:
        return (await platform(request)).key_id, None
    principal, tenant = await tenant_of(request, request.match_info["tenant"], "admin")
    return principal.key_id, tenant.name


def _view(key: KeyInfo) -> dict[str, Any]:
    instants = {name: getattr(key, name) for name in ("created", "expires", "revoked")}
    told = {name: None if at is None else iso(at) for name, at in instants.items()}
    return {**msgspec.structs.asdict(key), **told}


@routes.get("/v1/keys")
@routes.get("/v1/tenants/{tenant}/keys")
async def list_keys(request: web.Request) -> web.Response:
    """The keys, without their secrets."""
    _, owner = await _owner(request)
    return web.json_response({"keys": [_view(key) for key in await keys.list_keys(request.app[DATABASE], owner)]})


@routes.post("/v1/keys")
@routes.post("/v1/tenants/{tenant}/keys")
async def create_key(request: web.Request) -> web.Response:
    """Make a key; its text is answered this once."""
    actor, owner = await _owner(request)
    form = await body_of(request, KeyForm)
    expires = instant("expires", form.expires)
    text, key_id = await keys.create_key(request.app[DATABASE], owner, frozenset(form.scopes), expires, actor)
    made = {"key": text, "id": key_id, "scopes": sorted(set(form.scopes))}
    return web.json_response(made, status=201, headers={"Cache-Control": "no-store"})


@routes.delete("/v1/keys/{id}")
@routes.delete("/v1/tenants/{tenant}/keys/{id}")
async def revoke_key(request: web.Request) -> web.Response:
    """Revoke a key; it stops working within seconds."""
    actor, owner = await _owner(request)
    key_id = request.match_info["id"]
    if not await keys.revoke_key(request.app[DATABASE], key_id, owner, actor):
        raise Problem(404, "not-found", f"no key {key_id} that could be revoked")
    return web.json_response({"id": key_id, "revoked": True})
