"""`/v1/usage`: what a tenant used."""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from console.deps import CATALOGS, COUNTERS, DATABASE, USAGE, instant, tenant_of
from console.windows import page_of, question_of
from metering.catalog import Catalog
from metering.clock import SystemClock
from metering.errors import Unavailable
from metering.period import KINDS, PeriodKind
from service.problems import Problem
from tenancy.subscriptions import history, terms_of
from usage.reader import LAST_MS, Account, Selection

routes = web.RouteTableDef()
_FOR_BOTH = frozenset({"tenant", "meter", "source"})
_FOR_LEDGER = frozenset({"from", "to", "group_by", "subject"})
_FOR_WINDOWS = frozenset({"tz", "limit", "cursor"})
_FOR_COUNTERS = frozenset({"period"})
_FILTER = re.compile(r"filter\[([^\]]*)\]")


@routes.get("/v1/usage")
async def usage(request: web.Request) -> web.Response:
    """`?tenant&meter&source=ledger|counters`, of the ledger also `from&to&group_by&subject&filter[…]`, of counters
    `period`. With `window=hour|day|month` rows for each window of the time zone `tz`, in pages of `limit`.

    Exact decimals as strings. Counters answer without ClickHouse too; what became of the events is null then.
    """
    _, tenant = await tenant_of(request, request.query.get("tenant"), "read")
    source = request.query.get("source", "ledger")
    _refuse_unknown(request, source)
    newest = await request.app[CATALOGS].latest()
    catalog = newest.catalog if newest else Catalog()
    meters = list(dict.fromkeys(request.query.getall("meter", catalog.meters)))
    for name in meters:
        if name not in catalog.meters:
            raise Problem(422, "unknown-meter", f"no meter {name!r}; there are: {', '.join(catalog.meters) or 'none'}")
    if source == "ledger":
        group_by, selection = _chosen_of(request, catalog, meters)
        meters = [name for name in meters if selection.filters.keys() <= catalog.meters[name].group_by.keys()]
        if "window" in request.query:
            asked = question_of(request, meters, group_by, selection)
            page = await page_of(request, tenant.name, catalog, meters, asked)
            return web.json_response(
                {"tenant": tenant.name, "window": asked.kind, "tz": request.query.get("tz", "UTC"), **page}
            )
        counted = await _from_ledger(request, tenant.name, catalog, meters, group_by, selection)
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
    of_ledger = {name for name in asked if name in _FOR_LEDGER | _FOR_WINDOWS | {"window"} or _FILTER.fullmatch(name)}
    if source == "counters" and of_ledger:
        raise Problem(422, "invalid-query", f"{_listed(of_ledger)}: counters know open periods only")
    if source == "ledger" and asked & _FOR_COUNTERS:
        raise Problem(422, "invalid-query", f"{_listed(asked & _FOR_COUNTERS)}: the ledger is asked by from and to")
    if "window" not in asked and asked & _FOR_WINDOWS:
        raise Problem(422, "invalid-query", f"{_listed(asked & _FOR_WINDOWS)}: of windows only, say window=day too")
    unknown = asked - of_ledger - _FOR_COUNTERS
    if unknown:
        raise Problem(422, "invalid-query", f"not understood: {_listed(unknown)}")


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _chosen_of(request: web.Request, catalog: Catalog, meters: list[str]) -> tuple[str | None, Selection]:
    """The dimension to group by, and which events. Raises Problem 422 where a filter would not be one."""
    group_by = request.query.get("group_by")
    filters = {
        found[1]: request.query.getall(name) for name in request.query if (found := _FILTER.fullmatch(name)) is not None
    }
    dimensions = {dimension for name in meters for dimension in catalog.meters[name].group_by}
    if group_by is not None and group_by not in dimensions:
        raise Problem(422, "unknown-dimension", f"group_by is one of: {', '.join(sorted(dimensions)) or 'none here'}")
    for dimension in filters:
        without = [name for name in request.query.getall("meter", []) if dimension not in catalog.meters[name].group_by]
        if without or dimension not in dimensions:
            raise Problem(
                422, "unknown-dimension", f"filter[{dimension}]: no dimension of {', '.join(without or meters)}"
            )
    return group_by, Selection(request.query.getall("subject", []), filters)


async def _from_ledger(
    request: web.Request, tenant: str, catalog: Catalog, meters: list[str], group_by: str | None, selection: Selection
) -> dict[str, Any]:
    start, end = instant("from", request.query.get("from")), instant("to", request.query.get("to"))
    start, end = max(start or 0, 0), LAST_MS if end is None else min(max(end, 0), LAST_MS)
    found = {}
    for name in meters:
        meter = catalog.meters[name]
        own = group_by if group_by in meter.group_by else None
        found[name] = await request.app[USAGE].totals(tenant, name, meter, start, end, own, selection)
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
