"""Liveness and readiness. `/livez` says only that the process runs; `/readyz` fails when it cannot do its work."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

Check = Callable[[], str | None]
"""Answers None when all is well, else what is wrong. Must not block: it reads what the process already knows."""


class Health:
    """The checks of one process by name."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """Register a readiness check."""
        self._checks[name] = check

    def failures(self) -> dict[str, str]:
        """Name → what is wrong, for the checks that fail."""
        answers = {name: check() for name, check in self._checks.items()}
        return {name: answer for name, answer in answers.items() if answer is not None}


def add_ops_routes(app: web.Application, health: Health) -> None:
    """`/livez`, `/readyz`, `/metrics`."""

    async def livez(request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def readyz(request: web.Request) -> web.Response:
        failures = health.failures()
        body = msgspec.json.encode({"ready": not failures, "failures": failures})
        return web.Response(status=503 if failures else 200, body=body, content_type="application/json")

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
