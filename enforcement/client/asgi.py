"""For ASGI applications of any framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from enforcement.client.gate import Gate
from enforcement.client.question import Question

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class GateASGI:
    """Wraps `app`: HTTP requests that the gate denies are answered 403 (429: too fast) with the reason; all else
    goes through.

    `asks` tells what a request (its scope) asks, None: it needs no answer. One that was let through carries the answer
    in `scope["state"]["tallygate"]`. `gate` is to be open while the application serves.
    """

    def __init__(self, app: Application, gate: Gate, asks: Callable[[Scope], Question | None]) -> None:
        self._app = app
        self._gate = gate
        self._asks = asks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        question = self._asks(scope) if scope["type"] == "http" else None
        if question is not None:
            answer = await self._gate.check(*question)
            if not answer.allowed:
                body = answer.problem()
                fields = {
                    **answer.headers(),
                    "Content-Type": "application/problem+json",
                    "Content-Length": str(len(body)),
                }
                headers = [(name.lower().encode(), text.encode()) for name, text in fields.items()]
                await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                await send({"type": "http.response.body", "body": body})
                return
            scope.setdefault("state", {})["tallygate"] = answer
        await self._app(scope, receive, send)
