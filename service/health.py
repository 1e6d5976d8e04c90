"""Liveness and readiness. `/livez` says only that the process runs; `/readyz` fails when it cannot do its work."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

Check = Callable[[], str | None]
"""Answers None when all is well, else what is wrong. Must not block: it reads what the process already knows, and from
any thread."""

PATHS = ("/livez", "/readyz", "/metrics")


class Health:
    """The checks of one process by name."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """Register a readiness check."""
        self._checks[name] = check

    def failures(self) -> dict[str, str]:
        """Name → what is wrong, for the checks that fail."""
        answers = {name: check() for name, check in list(self._checks.items())}
        return {name: answer for name, answer in answers.items() if answer is not None}


def answer(path: str, health: Health) -> tuple[int, str, bytes]:
    """(status, content type, body) for one of PATHS; 404 for any other."""
    if path == "/livez":
        return 200, "text/plain; charset=utf-8", b"alive\n"
    if path == "/readyz":
        failures = health.failures()
        body = msgspec.json.encode({"ready": not failures, "failures": failures})
        return (503 if failures else 200), "application/json", body
    if path == "/metrics":
        return 200, CONTENT_TYPE_LATEST, generate_latest(REGISTRY)
    return 404, "text/plain; charset=utf-8", b"there are " + " ".join(PATHS).encode() + b"\n"


def add_ops_routes(app: web.Application, health: Health) -> None:
    """The operational paths on a public port too."""

    async def handle(request: web.Request) -> web.Response:
        status, content_type, body = answer(request.path, health)
        return web.Response(status=status, body=body, headers={"Content-Type": content_type})

    for path in PATHS:
        app.router.add_get(path, handle)
