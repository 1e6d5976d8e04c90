"""`/v1/decisions`: what the gates decided for a tenant."""

from __future__ import annotations

from typing import cast

from aiohttp import web

from console.deps import DECISIONS, instant, tenant_of
from metering.clock import iso
from service.problems import Problem
from usage.decisions import Window
from usage.reader import LAST_MS

routes = web.RouteTableDef()


@routes.get("/v1/decisions")
async def list_decisions(request: web.Request) -> web.Response:
    """`?tenant&feature&from&to&window=hour|day`: checks by window (UTC), feature and outcome (scope `read`). What was
    decided is here a few seconds later."""
    _, tenant = await tenant_of(request, request.query.get("tenant"), "read")
    window = request.query.get("window", "day")
    if window not in ("hour", "day"):
        raise Problem(422, "invalid-window", "window is one of: hour, day")
    start, end = instant("from", request.query.get("from")), instant("to", request.query.get("to"))
    span = (max(start or 0, 0), LAST_MS if end is None else min(end, LAST_MS))
    found = await request.app[DECISIONS].of(tenant.name, request.query.get("feature"), *span, cast(Window, window))
    rows = [
        {
            "from": iso(one.since),
            "feature": one.feature,
            "allowed": one.allowed,
            "shadowed": one.shadowed,
            "reason": one.reason,
            "checks": one.checks,
        }
        for one in found
    ]
    return web.json_response({"tenant": tenant.name, "window": window, "rows": rows})
