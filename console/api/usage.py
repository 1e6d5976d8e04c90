"""`/v1/usage`: what a tenant used."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from console.deps import CATALOGS, COUNTERS, DATABASE, USAGE, tenant_of
from metering.catalog import Catalog
from metering.clock import SystemClock, parse_iso
from metering.period import PeriodKind
from service.problems import Problem
from tenancy.subscriptions import history, terms_of
from usage.reader import LAST_MS

routes = web.RouteTableDef()
_PARAMETERS = frozenset({"tenant", "meter", "from", "to", "group_by", "source", "period"})


def _instant(request: web.Request, name: str, default: int) -> int:
    if name not in request.query:
        return default
    try:
        return parse_iso(request.query[name])
    except ValueError as error:
        raise Problem(422, "invalid-time", f"{name}: {error}") from None


@routes.get("/v1/usage")
async def usage(request: web.Request) -> web.Response:
    """`?tenant&meter&from&to&group_by&source=ledger|counters`; exact decimals as strings."""
    _, tenant = await tenant_of(request, request.query.get("tenant", ""), "read")
    unknown = set(request.query) - _PARAMETERS
    if unknown:
        raise Problem(422, "invalid-query", f"not understood: {', '.join(sorted(unknown))}")
    newest = await request.app[CATALOGS].latest()
    catalog = newest.catalog if newest else Catalog()
    meters = request.query.getall("meter", None) or list(catalog.meters)
    for name in meters:
        if name not in catalog.meters:
            raise Problem(422, "unknown-meter", f"no meter {name!r}; there are: {', '.join(catalog.meters) or 'none'}")
    source = request.query.get("source", "ledger")
    if source == "ledger":
        counted = await _from_ledger(request, tenant.name, catalog, meters)
    elif source == "counters":
        counted = await _from_counters(request, tenant.name, catalog, meters)
    else:
        raise Problem(422, "invalid-source", "source is ledger or counters")
    account = await request.app[USAGE].account(tenant.name)
    return web.json_response(
        {
            "tenant": tenant.name,
            "source": source,
            "events": account.events,
            "duplicates": account.duplicates,
            "dead": account.dead,
            "meters": counted,
        }
    )


async def _from_ledger(request: web.Request, tenant: str, catalog: Catalog, meters: list[str]) -> dict[str, Any]:
    start, end = _instant(request, "from", 0), _instant(request, "to", LAST_MS)
    group_by = request.query.get("group_by")
    dimensions = {dimension for name in meters for dimension in catalog.meters[name].group_by}
    if group_by is not None and group_by not in dimensions:
        raise Problem(422, "unknown-dimension", f"group_by is one of: {', '.join(sorted(dimensions)) or 'none here'}")
    reader = request.app[USAGE]
    return {name: await reader.totals(tenant, name, catalog.meters[name], start, end, group_by) for name in meters}


async def _from_counters(request: web.Request, tenant: str, catalog: Catalog, meters: list[str]) -> dict[str, Any]:
    """Per meter its longest period (or `?period=`), and all of them under `periods`."""
    refused = [name for name in ("from", "to", "group_by") if name in request.query]
    if refused:
        raise Problem(422, "invalid-query", f"counters know open periods only; {', '.join(refused)} need the ledger")
    own = (await history(request.app[DATABASE])).get(tenant, [])
    now = SystemClock().now_ms()
    found = await request.app[COUNTERS].totals(tenant, catalog, terms_of(own), now, meters)
    return {name: _chosen(periods, request.query.get("period")) for name, periods in found.items()}


def _chosen(periods: dict[PeriodKind, dict[str, Any]], wanted: str | None) -> dict[str, Any]:
    kind = next((kind for kind in periods if kind == wanted), list(periods)[-1])
    return {**periods[kind], "period": kind, "periods": periods}
