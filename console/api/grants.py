"""`/v1/tenants/{tenant}/grants`: allowances beside what a plan's limit gives."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from console.deps import CATALOGS, DATABASE, body_of, instant, tenant_of
from metering import quantity
from metering.catalog import Meter
from metering.clock import iso
from metering.errors import Refused
from service.problems import Problem
from tenancy import grants
from tenancy.grants import GrantRow, Wanted

routes = web.RouteTableDef()
_INSTANTS = ("since", "until", "ended", "left_at")


class GrantForm(msgspec.Struct, forbid_unknown_fields=True):
    """A grant; quantities as integers or decimal strings, instants in RFC 3339. `rollover` null: all that is left."""

    feature: str
    amount: str | int
    priority: int = 100
    since: str | None = None
    until: str | None = None
    rollover: str | int | None = None
    id: str | None = None


def _view(row: GrantRow) -> dict[str, Any]:
    """`burnt` and `left` as of the beginning of a period, `left_at`; before any has ended, nothing is burnt."""
    told = {name: None if at is None else iso(at) for name in _INSTANTS for at in [getattr(row, name)]}
    rest = {} if row.left_at is not None else {"burnt": "0", "left": row.amount}
    return {**msgspec.structs.asdict(row), **told, **rest}


def _quantity(name: str, value: str | int, meter: Meter) -> str:
    try:
        return quantity.render(quantity.parse(value, meter.scale, signed=False))
    except Refused as error:
        raise Problem(422, "invalid-amount", f"{name}: {error.detail}") from None


async def _meter(request: web.Request, feature: str) -> Meter:
    newest = await request.app[CATALOGS].latest()
    known = newest.catalog.features.get(feature) if newest else None
    if newest is None or known is None or known.meter is None:
        detail = f"only what is metered can be granted; the catalog has no metered feature {feature}"
        raise Problem(422, "not-metered", detail)
    return newest.catalog.meters[known.meter]


@routes.post("/v1/tenants/{tenant}/grants")
async def create_grant(request: web.Request) -> web.Response:
    """Grant a tenant more (platform)."""
    principal, tenant = await tenant_of(request, request.match_info["tenant"], "platform")
    form = await body_of(request, GrantForm)
    meter = await _meter(request, form.feature)
    amount = _quantity("amount", form.amount, meter)
    if amount == "0":
        raise Problem(422, "invalid-amount", "amount: more than 0 is needed")
    rollover = None if form.rollover is None else _quantity("rollover", form.rollover, meter)
    since, until = instant("since", form.since), instant("until", form.until)
    wanted = Wanted(form.feature, amount, form.priority, since, until, rollover, form.id)
    try:
        row, made = await grants.create(request.app[DATABASE], tenant.name, wanted, principal.key_id)
    except Refused as error:
        if error.code != "id-conflict":
            raise
        raise Problem(409, error.code, error.detail) from None
    return web.json_response(_view(row), status=201 if made else 200)


@routes.get("/v1/tenants/{tenant}/grants")
async def list_grants(request: web.Request) -> web.Response:
    """A tenant's grants, ended ones too, the oldest first."""
    _, tenant = await tenant_of(request, request.match_info["tenant"], "read")
    own = (await grants.of(request.app[DATABASE], tenant.name)).get(tenant.name, [])
    return web.json_response({"tenant": tenant.name, "grants": [_view(row) for row in own]})


@routes.delete("/v1/tenants/{tenant}/grants/{id}")
async def end_grant(request: web.Request) -> web.Response:
    """Let a grant end now (platform); one that has ended stays as it was."""
    principal, tenant = await tenant_of(request, request.match_info["tenant"], "platform")
    id = request.match_info["id"]
    row = await grants.end(request.app[DATABASE], tenant.name, id, principal.key_id)
    if row is None:
        raise Problem(404, "not-found", f"no grant {id}")
    return web.json_response(_view(row))
