"""`/v1/dead-letters`: what could not be counted, sent once more or dropped. A letter itself always stays."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from aiohttp import web

from console import gateway
from console.deps import DATABASE, LETTERS, body_of, instant, tenant_of
from metering.clock import iso
from service.auth import principal_of, require
from service.problems import Problem
from tenancy import audit
from tenancy.keys import Principal
from usage.letters import FIRST, WHOLE_RECORD, Action, Behind, Letter, LetterId
from usage.reader import LAST_MS

routes = web.RouteTableDef()
_LIMIT, _MOST = 100, 1000


class ReplayForm(msgspec.Struct, forbid_unknown_fields=True):
    """The event put right; as it was, if it is left out."""

    event: dict[str, Any] | None = None


@routes.get("/v1/dead-letters")
async def page(request: web.Request) -> web.Response:
    """`?tenant&reason&from&to&all&limit&cursor` (read; a platform key without `tenant`: everybody's).

    `{"letters": […], "next": cursor or null}`, the newest first; replayed and dropped ones with `all=true` only.
    """
    query = request.query
    principal = await principal_of(request)
    require(principal, "read")
    tenant = query.get("tenant")
    if tenant is not None or not principal.platform:
        _, found = await tenant_of(request, tenant, "read")
        tenant = found.name
    limit = query.get("limit", str(_LIMIT))
    if not limit.isdecimal() or not 1 <= int(limit) <= _MOST:
        raise Problem(422, "invalid-limit", f"limit is a number of letters from 1 to {_MOST}")
    start, end = instant("from", query.get("from")) or 0, instant("to", query.get("to")) or LAST_MS
    everything = query.get("all", "false") == "true"
    behind = _behind(query["cursor"]) if "cursor" in query else FIRST
    letters = await request.app[LETTERS].page(
        tenant, query.get("reason", ""), start, end, everything, behind, int(limit) + 1
    )
    shown = letters[: int(limit)]
    following = _cursor(shown[-1]) if len(letters) > len(shown) else None
    return web.json_response({"letters": [_view(letter) for letter in shown], "next": following})


@routes.get("/v1/dead-letters/{id}")
async def show(request: web.Request) -> web.Response:
    """One letter (read)."""
    _, letter = await _letter(request, "read")
    return web.json_response(_view(letter))


@routes.post("/v1/dead-letters/{id}/replay")
async def replay(request: web.Request) -> web.Response:
    """Send it once more, or `{"event": …}` in its place (admin and ingest). 202 `{id, accepted, positions}`.

    It keeps its identity, so it counts once. What the gateway refuses again is answered as the gateway says it, and the
    letter stays as it was.
    """
    principal, letter = await _letter(request, "admin")
    form = await body_of(request, ReplayForm) if request.can_read_body else ReplayForm()
    lines = [msgspec.json.encode(form.event)] if form.event is not None else letter.payload.encode().split(b"\n")
    if letter.id.reason == "conflict" and form.event is None:
        raise Problem(
            409, "conflict", "its identity has been counted: send it as `event` under another id, or void that"
        )
    if not letter.payload and form.event is None:
        raise Problem(409, "no-payload", "retention has taken its payload: send it as `event`")
    body = b"\n".join(_completed(line, letter, principal) for line in lines if line.strip())
    accepted = await gateway.send(request, body, "application/x-ndjson")
    await _mark(request, letter, "replayed", principal)
    answer = {"id": str(letter.id), "accepted": accepted["accepted"], "positions": accepted["positions"]}
    return web.json_response(answer, status=202)


@routes.delete("/v1/dead-letters/{id}")
async def drop(request: web.Request) -> web.Response:
    """Say that it need not be counted (admin). It stays, and is shown with `all=true`."""
    principal, letter = await _letter(request, "admin")
    await _mark(request, letter, "dropped", principal)
    return web.Response(status=204)


async def _letter(request: web.Request, scope: str) -> tuple[Principal, Letter]:
    """Another tenant's letter answers like one that does not exist."""
    principal = await principal_of(request)
    require(principal, scope)
    id = request.match_info["id"]
    try:
        letter = await request.app[LETTERS].get(LetterId.parse(id))
    except (ValueError, OverflowError):
        letter = None
    if letter is None or not (principal.platform or principal.tenant == letter.tenant):
        raise Problem(404, "not-found", f"no dead letter {id}")
    return principal, letter


async def _mark(request: web.Request, letter: Letter, action: Action, principal: Principal) -> None:
    await request.app[LETTERS].mark(letter.id, action, principal.key_id)
    async with request.app[DATABASE].writing() as connection:
        await audit.record(connection, principal.key_id, f"letter.{action}", letter.tenant, id=str(letter.id))


def _completed(line: bytes, letter: Letter, principal: Principal) -> bytes:
    """With what the record and not the event said: whose it is, and the received time where it has none of its own."""
    try:
        event = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return line  # the gateway says what is wrong with it
    if principal.platform:
        event.setdefault("tenant", msgspec.Raw(msgspec.json.encode(letter.tenant)))
    event.setdefault("time", msgspec.Raw(msgspec.json.encode(iso(letter.received))))
    return msgspec.json.encode(event)


def _cursor(letter: Letter) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(Behind(letter.clock, *letter.id))).decode()


def _behind(text: str) -> Behind:
    try:
        return Behind(*msgspec.json.decode(base64.urlsafe_b64decode(text), type=tuple[int, int, int, int, int, str]))
    except (ValueError, msgspec.DecodeError):
        raise Problem(422, "invalid-cursor", "cursor is the `next` of the page before") from None


def _view(letter: Letter) -> dict[str, Any]:
    id = letter.id
    done = {"action": letter.action, "by": letter.by, "at": iso(letter.at)} if letter.action else None
    return {
        "id": str(id),
        "tenant": letter.tenant,
        "reason": id.reason,
        "detail": letter.detail,
        "position": {
            "epoch": id.epoch,
            "partition": id.partition,
            "offset": id.offset,
            "line": None if id.line == WHOLE_RECORD else id.line,
        },
        "received": iso(letter.received),
        "clock": iso(letter.clock),
        "payload": letter.payload,
        "done": done,
    }
