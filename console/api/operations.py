"""`/v1/operations`: long work on the ledger. The workers do it; here it is asked for and watched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from aiohttp import web

from console.deps import CATALOGS, DATABASE, EPOCHS, OPERATIONS, body_of, instant, platform
from metering.clock import SystemClock, iso
from metering.partition import partition_of
from service.problems import Problem
from tenancy import tenants
from tenancy.epochs import Epoch
from tenancy.keys import Principal
from tenancy.operations import At, Operation

routes = web.RouteTableDef()


class Reconcile(msgspec.Struct, forbid_unknown_fields=True, tag_field="kind", tag="reconcile"):
    """Compare all stores, and with `repair` mend what differs."""

    repair: bool = False


class Rebuild(msgspec.Struct, forbid_unknown_fields=True, tag_field="kind", tag="rebuild"):
    """Make counters from the ledger again: of one tenant, or all state; or fill in `meter` for the past first."""

    tenant: str | None = None
    meter: str | None = None


class Replay(msgspec.Struct, forbid_unknown_fields=True, tag_field="kind", tag="replay"):
    """Decide once more what was counted from `from` to `to`, and with `apply` make the ledger so."""

    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    apply: bool = False


@routes.post("/v1/operations")
async def ask(request: web.Request) -> web.Response:
    """`{"kind": "reconcile", "repair"?}`, `{"kind": "rebuild", "tenant"? or "meter"?}` or `{"kind": "replay", "from",
    "to", "apply"?}` (platform). 202 with the operation; look at it until its `status` is `done` or `failed`."""
    principal = await platform(request)
    form: Reconcile | Rebuild | Replay = await body_of(request, Reconcile | Rebuild | Replay)  # type: ignore[arg-type]
    epochs = await request.app[EPOCHS].all()
    if not epochs:
        raise Problem(503, "no-epoch", "the log has no epoch yet; run tallygate migrate", headers={"Retry-After": "1"})
    parameters, parts = await _parts(request, principal, form, epochs)
    kind: Literal["reconcile", "rebuild", "replay"] = form.__struct_config__.tag  # type: ignore[assignment]
    id = await request.app[OPERATIONS].ask(kind, parameters, principal.key_id, parts)
    return web.json_response(_view(await _get(request, id)), status=202)


@routes.get("/v1/operations/{id}")
async def show(request: web.Request) -> web.Response:
    """One operation: how far each partition is, and what came of it (platform)."""
    await platform(request)
    return web.json_response(_view(await _get(request, request.match_info["id"])))


async def _parts(
    request: web.Request, principal: Principal, form: Reconcile | Rebuild | Replay, epochs: Sequence[Epoch]
) -> tuple[dict[str, Any], list[At]]:
    everywhere = [(epoch.epoch, partition) for epoch in epochs for partition in range(epoch.partitions)]
    newest = epochs[-1]
    if isinstance(form, Reconcile):
        return {"repair": form.repair}, everywhere
    if isinstance(form, Replay):
        start, end = instant("from", form.start), instant("to", form.end)
        if start is None or end is None or start >= end:
            raise Problem(422, "invalid-query", "from must be before to")
        return {"from": start, "to": end, "apply": form.apply}, everywhere
    if form.meter is not None and form.tenant is not None:
        raise Problem(422, "invalid-query", "a meter is filled in for all tenants: leave out the tenant")
    if form.tenant is None:
        parts = [at for at in everywhere if at[0] == newest.epoch]
        if form.meter is None:
            return {}, parts
        since = await request.app[CATALOGS].fill(form.meter, SystemClock().now_ms(), principal.key_id)
        return {"meter": form.meter, "since": since}, parts
    if await tenants.get(request.app[DATABASE], form.tenant) is None:
        raise Problem(404, "not-found", f"no tenant {form.tenant}")
    return {"tenant": form.tenant}, [(newest.epoch, partition_of(form.tenant, newest.partitions))]


async def _get(request: web.Request, id: str) -> Operation:
    found = await request.app[OPERATIONS].get(id)
    if found is None:
        raise Problem(404, "not-found", f"no operation {id}")
    return found


def _view(operation: Operation) -> dict[str, Any]:
    """`failed` once all parts have ended and one of them failed."""
    statuses = {part.status for part in operation.parts}
    if statuses <= {"done", "failed"}:
        status = "failed" if "failed" in statuses else "done"
    else:
        status = "waiting" if statuses == {"waiting"} else "running"
    return {
        "id": operation.id,
        "kind": operation.kind,
        "parameters": operation.parameters,
        "by": operation.by,
        "asked": iso(operation.asked),
        "status": status,
        "parts": [msgspec.structs.asdict(part) for part in operation.parts],
    }
