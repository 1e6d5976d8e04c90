"""`/v1/alerts`: the thresholds that a tenant's counters came to."""

from __future__ import annotations

from aiohttp import web

from console.deps import DATABASE, tenant_of
from metering.clock import iso
from metering.period import FOREVER
from service.problems import Problem
from tenancy import alerts

routes = web.RouteTableDef()
_LIMIT = 100
_MOST = 1000


@routes.get("/v1/alerts")
async def list_alerts(request: web.Request) -> web.Response:
    """`?tenant&limit=100`: the newest first (scope `read`)."""
    _, tenant = await tenant_of(request, request.query.get("tenant"), "read")
    text = request.query.get("limit", str(_LIMIT))
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise Problem(422, "invalid-query", f"limit must be a number from 1 to {_MOST}")
    found = await alerts.of(request.app[DATABASE], tenant.name, int(text))
    listed = [
        {
            "id": one.id,
            "feature": one.feature,
            "meter": one.meter,
            "period": one.period,
            "from": iso(one.start),
            "to": None if one.end >= FOREVER else iso(one.end),
            "threshold": one.threshold,
            "limit": one.limit,
            "used": one.used,
            "at": iso(one.at),
        }
        for one in found
    ]
    return web.json_response({"tenant": tenant.name, "alerts": listed})
