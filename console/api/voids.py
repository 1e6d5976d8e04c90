"""`/v1/events/{id}/void`: take an event back. The void is an event too and goes through the gateway like any other."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from console import gateway
from console.deps import USAGE, body_of, instant, tenant_of
from metering.clock import HOUR_MS, iso
from metering.identity import digest
from metering.void import VOID
from service.problems import Problem
from usage.reader import NamedEvent

routes = web.RouteTableDef()


class VoidForm(msgspec.Struct, forbid_unknown_fields=True):
    """Which event is meant, where its id alone does not say so; `reason` is kept with the void."""

    source: str | None = None
    time: str | None = None
    reason: str | None = None


@routes.post("/v1/events/{id}/void")
async def void(request: web.Request) -> web.Response:
    """`?tenant`, body `{source?, time?, reason?}`; scopes `void` and `ingest`. 202 `{void, source, time, positions}`.

    409 with `candidates` where several events bear the id, or the one that does is a void itself; 404 where none does
    and no source says whose event is still to come. The same void again is a duplicate: repeating it is harmless.
    """
    principal, tenant = await tenant_of(request, request.query.get("tenant"), "void")
    form = await body_of(request, VoidForm) if request.can_read_body else VoidForm()
    id, at = request.match_info["id"], instant("time", form.time)
    source, time = await _meant(request, tenant.name, id, form.source, at)
    mark = digest(tenant.name, source, id).hex() + ("" if time is None else f"-{time // HOUR_MS}")
    data = {"source": source, "id": id, "time": None if time is None else iso(time), "reason": form.reason}
    event: dict[str, Any] = {"specversion": "1.0", "id": mark, "source": "/tallygate/void", "type": VOID, "data": data}
    if principal.platform:
        event["tenant"] = tenant.name
    accepted = await gateway.send(request, msgspec.json.encode(event), "application/cloudevents+json")
    made = {"void": mark, "source": source, "time": data["time"], "positions": accepted["positions"]}
    return web.json_response(made, status=202)


async def _meant(
    request: web.Request, tenant: str, id: str, source: str | None, time: int | None
) -> tuple[str, int | None]:
    """Source and, where it is needed, time of the event that is meant. Raises Problem where that isn't one."""
    named = await request.app[USAGE].named(tenant, id, source)
    if time is not None:
        named = [event for event in named if event.time // HOUR_MS == time // HOUR_MS]
    if not named:
        if source is None:
            raise Problem(404, "not-found", f"no event {id!r}; with its `source` it may be voided before it comes")
        return source, time
    if any(event.type == VOID for event in named):
        raise Problem(409, "void-of-a-void", "a void can't be voided; send the event again under a new id")
    standing = [event for event in named if event.standing] or named[:1]
    if len(standing) > 1:
        raise Problem(
            409,
            "ambiguous-void",
            "several events bear this id; name one by `source` and `time`",
            candidates=[{"source": event.source, "time": iso(event.time)} for event in standing],
        )
    return standing[0].source, _time(named, standing[0], time)


def _time(named: list[NamedEvent], meant: NamedEvent, time: int | None) -> int | None:
    """None where the name is enough: then the void takes a resend with another time too."""
    return time if time is not None or len(named) == 1 else meant.time
