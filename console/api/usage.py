"""`/v1/usage`: what a tenant used."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from console.deps import CATALOGS, COUNTERS, DATABASE, USAGE, instant, tenant_of
from metering.catalog import Catalog
from metering.clock import SystemClock
from metering.errors import Unavailable
from metering.period import KINDS, PeriodKind
from service.problems import Problem
from tenancy.subscriptions import history, terms_of
from usage.reader import LAST_MS, Account

routes = web.RouteTableDef()
_FOR_BOTH = frozenset({"tenant", "meter", "source"})
_FOR_LEDGER = frozenset({"from", "to", "group_by"})
_FOR_COUNTERS = frozenset({"period"})


@routes.get("/v1/usage")
async def usage(request: web.Request) -> web.Response:
    """`?tenant&meter&source=ledger|counters`, of the ledger also `from&to&group_by`, of counters `period`.

    Exact decimals as strings. Counters answer without ClickHouse too; what became of the events is null then.
    """
    _, tenant = await tenant_of(request, request.query.get("tenant"), "read")
    source = request.query.get("source", "ledger")
    _refuse_unknown(request, source)
    newest = await request.app[CATALOGS].latest()
    catalog = newest.catalog if newest else Catalog()
    meters = request.query.getall("meter", None) or list(catalog.meters)
    for name in meters:
        if name not in catalog.meters:
            raise Problem(422, "unknown-meter", f"no meter {name!r}; there are: {', '.join(catalog.meters) or 'none'}")
    if source == "ledger":
        counted = await _from_ledger(request, tenant.name, catalog, meters)
    else:
        counted = await _from_counters(request, tenant.name, catalog, meters)
    account: dict[str, int | None]
    try:
        account = (await request.app[USAGE].account(tenant.name))._asdict()
    except Unavailable:
        if source == "ledger":
            raise
        account = dict.fromkeys(Account._fields)
    return web.json_response({"tenant": tenant.name, "source": source, **account, "meters": counted})


def _refuse_unknown(request: web.Request, source: str) -> None:
    """What would change nothing must not look as if it did. Raises Problem 422."""
    if source not in ("ledger", "counters"):
        raise Problem(422, "invalid-source", "source is ledger or counters")
    asked = set(request.query) - _FOR_BOTH
    of_the_other = asked & (_FOR_LEDGER if source == "counters" else _FOR_COUNTERS)
    if of_the_other:
        why = "counters know open periods only" if source == "counters" else "the ledger is asked by from and to"
        raise Problem(422, "invalid-query", f"{', '.join(sorted(of_the_other))}: {why}")
    unknown = asked - _FOR_LEDGER - _FOR_COUNTERS
    if unknown:
        raise Problem(422, "invalid-query", f"not understood: {', '.join(sorted(unknown))}")


async def _from_ledger(request: web.Request, tenant: str, catalog: Catalog, meters: list[str]) -> dict[str, Any]:
    start, end = instant("from", request.query.get("from")), instant("to", request.query.get("to"))
    start, end = max(start or 0, 0), LAST_MS if end is None else min(max(end, 0), LAST_MS)
    group_by = request.query.get("group_by")
    dimensions = {dimension for name in meters for dimension in catalog.meters[name].group_by}
    if group_by is not None and group_by not in dimensions:
        raise Problem(422, "unknown-dimension", f"group_by is one of: {', '.join(sorted(dimensions)) or 'none here'}")
    found = {}
    for name in meters:
        meter = catalog.meters[name]
        own = group_by if group_by in meter.group_by else None
        found[name] = await request.app[USAGE].totals(tenant, name, meter, start, end, own)
    return found


async def _from_counters(request: web.Request, tenant: str, catalog: Catalog, meters: list[str]) -> dict[str, Any]:
    """Per meter its longest period (or `?period=`), and all of them under `periods`; meters without are left out."""
    wanted = request.query.get("period")
    if wanted is not None and wanted not in KINDS:
        raise Problem(422, "invalid-period", f"period is one of: {', '.join(KINDS)}")
    own = (await history(request.app[DATABASE], tenant)).get(tenant, [])
    now = SystemClock().now_ms()
    found = await request.app[COUNTERS].totals(tenant, catalog, terms_of(own), now, meters)
    lacking = [name for name in request.query.getall("meter", []) if not _has(found.get(name), wanted)]
    if lacking:
        kind = f"per {wanted} " if wanted else ""
        raise Problem(422, "no-counter", f"no plan counts {kind}these, ask the ledger: {', '.join(lacking)}")
    return {name: _chosen(periods, wanted) for name, periods in found.items() if _has(periods, wanted)}


def _has(periods: dict[PeriodKind, dict[str, Any]] | None, wanted: str | None) -> bool:
    return periods is not None and (wanted is None or wanted in periods)


def _chosen(periods: dict[PeriodKind, dict[str, Any]], wanted: str | None) -> dict[str, Any]:
    kind = next((kind for kind in periods if kind == wanted), list(periods)[-1])
    return {**periods[kind], "period": kind, "periods": periods}
