"""For aiohttp: a middleware for an application, a decorator for one handler."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from enforcement.client.answer import Answer
from enforcement.client.gate import Gate
from enforcement.client.question import Question

Asks = Callable[[web.Request], Question | None]
"""What a request asks; None: it needs no answer."""
ANSWER = web.RequestKey("tallygate_answer", Answer)
"""Under this key a request that was let through carries the gate's answer."""


def middleware(gate: Gate, asks: Asks) -> Middleware:
    """Let requests through that the gate allows; answer others 403 (429: too fast) with the reason. `gate` is to be
    open meanwhile."""

    @web.middleware
    async def ask(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await _answered(gate, asks, request, handler)

    return ask


def gated(gate: Gate, asks: Asks) -> Callable[[Handler], Handler]:
    """The same for one handler: `@gated(gate, asks)`."""

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def ask(request: web.Request) -> web.StreamResponse:
            return await _answered(gate, asks, request, handler)

        return ask

    return decorate


async def _answered(gate: Gate, asks: Asks, request: web.Request, handler: Handler) -> web.StreamResponse:
    question = asks(request)
    if question is None:
        return await handler(request)
    answer = await gate.check(*question)
    if not answer.allowed:
        return web.Response(
            status=answer.status,
            body=answer.problem(),
            content_type="application/problem+json",
            headers=answer.headers(),
        )
    request[ANSWER] = answer
    return await handler(request)
