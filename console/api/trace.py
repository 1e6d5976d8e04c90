"""`/v1/events/{id}`: what became of an event."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from console.deps import TRACER, tenant_of
from metering.clock import HOUR_MS, iso
from metering.position import Position
from metering.void import VOID, target_in
from service.problems import Problem
from usage.trace import TracedEvent, TracedLetter, TracedVoid

routes = web.RouteTableDef()


@routes.get("/v1/events/{id}")
async def trace(request: web.Request) -> web.Response:
    """`?tenant&source` (read). Every event that bears the id: `counted`, `voided`, a `void`, or dead, where, and why.

    `reported` is null: nothing is reported to a billing provider yet. Repeats are not kept one by one: only those whose
    content differs, as dead letters with the reason `conflict`.
    """
    id, source = request.match_info["id"], request.query.get("source")
    _, tenant = await tenant_of(request, request.query.get("tenant"), "read")
    found = await request.app[TRACER].trace(tenant.name, id, source)
    if not found:
        where = f"of source {source!r} " if source is not None else ""
        raise Problem(
            404, "not-found", f"no event {id!r} {where}among what {tenant.name} has sent and was counted or dead"
        )
    return web.json_response(
        {
            "tenant": tenant.name,
            "id": id,
            "events": [_event(event, found.voids) for event in found.events],
            "voids": [_void(void) for void in found.voids],
            "dead": [_letter(letter) for letter in found.letters],
        }
    )


def _event(event: TracedEvent, voids: list[TracedVoid]) -> dict[str, Any]:
    by = next((void for void in voids if void.position == event.taken_back), None)
    status = "void" if event.type == VOID else "voided" if event.voided or event.taken_back else "counted"
    hour = event.time // HOUR_MS * HOUR_MS
    return {
        "status": status,
        "source": event.source,
        "type": event.type,
        "subject": event.subject or None,
        "time": iso(event.time),
        "received": iso(event.received),
        "clock": iso(event.clock),
        "position": _position(event.position),
        "catalog_version": event.catalog_version,
        "quantities": event.quantities,
        "uniques": event.uniques,
        "dimensions": {} if status == "void" else event.dimensions,
        "voids": _named(event.dimensions) if status == "void" else None,
        "voided": _taken(event, by),
        "window": {
            "hour": iso(hour),
            "revision": event.revision or None,
            "included": event.revision >= event.counted_at,
        },
        "reported": None,
    }


def _taken(event: TracedEvent, by: TracedVoid | None) -> dict[str, Any] | None:
    if event.voided:
        return {"when": "on arrival", "by": None}
    if event.taken_back is None:
        return None
    void = None if by is None else {"id": by.id, "source": by.source}
    return {"when": "afterwards", "by": void, "position": _position(event.taken_back)}


def _void(void: TracedVoid) -> dict[str, Any]:
    named = _named(void.dimensions)
    return {"id": void.id, "source": void.source, "names": named, "position": _position(void.position)}


def _named(dimensions: dict[str, str]) -> dict[str, Any]:
    target = target_in(dimensions)
    hour = None if target.hour is None else iso(target.hour * HOUR_MS)
    return {"id": target.id, "source": target.source, "hour": hour}


def _letter(letter: TracedLetter) -> dict[str, Any]:
    received = iso(letter.received)
    return {"letter": str(letter.id), "reason": letter.id.reason, "detail": letter.detail, "received": received}


def _position(position: Position) -> dict[str, int]:
    return position._asdict()
