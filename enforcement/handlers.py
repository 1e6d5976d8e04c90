"""HTTP of the gate."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from enforcement import answers, requests
from enforcement.gate import AT_ONCE, Check, Gate
from enforcement.reservations import End, Reservations
from enforcement.settings import Settings
from metering.decision import Rule
from metering.errors import TryLater
from service.auth import principal_of, require
from service.problems import Problem, retry_later
from tenancy.keys import Principal

GATE = web.AppKey("gate", Gate)
RESERVATIONS = web.AppKey("reservations", Reservations)
SETTINGS = web.AppKey("settings", Settings)
LOCAL = Principal("unix-socket", None, frozenset({"check"}))
"""Who came in by the Unix socket: its file's permission was the key."""


async def post_check(request: web.Request) -> web.Response:
    """`POST /v1/check`; `?explain=1` shows each rule that was looked at."""
    own = await _asker(request)
    check = requests.check_of(await request.read(), own)
    return _json(await _answer(request, check))


async def post_batch(request: web.Request) -> web.Response:
    """`POST /v1/check/batch`: `{"checks": […]}` → `{"results": […]}` in the same order."""
    own = await _asker(request)
    checks = requests.batch_of(await request.read(), own, request.app[SETTINGS].batch_checks)
    results: list[dict[str, Any]] = []
    for decision in await request.app[GATE].check(checks):
        if len(results) % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
        results.append(answers.document(decision))
    return _json({"results": results})


async def forward_auth(request: web.Request) -> web.Response:
    """`GET /v1/check?feature=…`: 200 or 403 for a proxy, the answer in headers too."""
    own = await _asker(request)
    check = requests.query_of(request.query, own)
    (decision,) = await request.app[GATE].check([check])
    response = _json(answers.document(decision), 200 if decision.allowed else 403)
    response.headers.update(answers.headers(decision))
    response.headers["Cache-Control"] = "no-store"
    return response


async def post_reservation(request: web.Request) -> web.Response:
    """`POST /v1/reservations`: 201 held (also again, by the same id and amount), 409 not."""
    own = await _asker(request)
    ask = requests.reservation_of(await request.read(), own)
    try:
        answer = await request.app[RESERVATIONS].reserve(*ask)
    except TryLater as error:
        raise retry_later(503, "recovering", error.detail, error.retry_after) from None
    if answer.outcome in ("granted", "again"):
        return _json(answers.reservation(ask.name.text, ask.amount, answer.decision, answer.expires), 201)
    code, detail = _NOT_HELD[answer.outcome]
    raise Problem(409, code or answer.decision.reason, detail, **answers.numbers(answer.decision))


async def post_commit(request: web.Request) -> web.Response:
    """`POST /v1/reservations/{id}/commit`: what is held from now on; again with the same amount, the same answer."""
    own = await _asker(request)
    amount = requests.commit_of(await request.read())
    name = requests.hold_named(request.match_info["id"], own)
    end = End("unknown", 0, 0) if name is None else await request.app[RESERVATIONS].commit(name, amount)
    if name is None or end.outcome in _NOT_KEPT:
        status, code, detail = _NOT_KEPT[end.outcome]
        raise Problem(status, code, detail)
    return _json(answers.commit(name.text, end.outcome, end.amount, end.expires))


async def delete_reservation(request: web.Request) -> web.Response:
    """`DELETE /v1/reservations/{id}`: 204, whether or not it was held until now."""
    own = await _asker(request)
    name = requests.hold_named(request.match_info["id"], own)
    if name is not None:
        await request.app[RESERVATIONS].release(name)
    return web.Response(status=204)


_NOT_HELD = {
    "refused": (None, "it is not granted; `reason` says why"),
    "conflict": ("id-conflict", "this id already holds another amount; take a new id"),
    "too-many": ("too-many-holds", "this tenant has too many reservations at a time; commit or release some"),
    "counted": ("already-counted", "the usage of this reservation is counted already; take a new id"),
}
_NOT_KEPT = {
    "unknown": (404, "unknown-reservation", "no such reservation: it may have expired. Usage counts all the same"),
    "conflict": (409, "already-committed", "it was committed with another amount"),
    "too-much": (409, "more-than-held", "commit at most what is held; usage beyond it is ordinary usage"),
}


async def get_entitlements(request: web.Request) -> web.Response:
    """`GET /v1/entitlements/{tenant}`."""
    own = await _asker(request)
    name = requests.visible(request.match_info["tenant"], own)
    gate = request.app[GATE]
    await gate.know({name})
    tenant, knowledge, now = gate.find(name)
    if tenant is None:
        raise Problem(503, "unavailable", "plans cannot be read at the moment", headers={"Retry-After": "1"})
    if tenant.snapshot is None:
        raise Problem(404, "unknown-tenant", f"no tenant {request.match_info['tenant'][:64]!r}")
    return _json(answers.entitlements(tenant.snapshot, tenant.used_at(now), tenant.reserved, knowledge, now))


async def _answer(request: web.Request, check: Check) -> dict[str, Any]:
    gate = request.app[GATE]
    if "explain" not in request.query:
        decision = gate.answer(check) or (await gate.check([check]))[0]
        return answers.document(decision)
    rules: list[Rule] = []
    (decision,) = await gate.check([check], rules)
    return answers.document(decision, rules)


async def _asker(request: web.Request) -> str | None:
    """The asking key's tenant, None for the platform's. Raises Problem 401, 403."""
    principal = LOCAL if _by_unix_socket(request) else await principal_of(request)
    require(principal, "check")
    return None if principal.platform or principal is LOCAL else principal.tenant


def _by_unix_socket(request: web.Request) -> bool:
    return request.transport is not None and isinstance(request.transport.get_extra_info("sockname"), str | bytes)


def _json(content: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(content), content_type="application/json")
