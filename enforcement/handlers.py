"""HTTP of the gate."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from enforcement import answers, requests
from enforcement.gate import Check, Gate
from enforcement.settings import Settings
from metering.decision import Rule
from service.auth import principal_of, require
from service.problems import Problem
from tenancy.keys import Principal

GATE = web.AppKey("gate", Gate)
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
    decisions = await request.app[GATE].check(checks)
    return _json({"results": [answers.document(decision) for decision in decisions]})


async def forward_auth(request: web.Request) -> web.Response:
    """`GET /v1/check?feature=…`: 200 or 403 for a proxy, the answer in headers too."""
    own = await _asker(request)
    check = requests.query_of(request.query, own)
    (decision,) = await request.app[GATE].check([check])
    response = _json(answers.document(decision), 200 if decision.allowed else 403)
    response.headers.update(answers.headers(decision))
    response.headers["Cache-Control"] = "no-store"
    return response


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
    return _json(answers.entitlements(tenant.snapshot, tenant.used, knowledge, now))


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
