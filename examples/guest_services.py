"""A guest-experience service behind the gate: calls, guest requests, staff seats, voice cloning, locations, an API.

    TALLYGATE_INGEST=http://127.0.0.1:8080 TALLYGATE_GATE=http://127.0.0.1:8081 TALLYGATE_KEY=tg_… \
        python -m examples.guest_services --port 8000

It asks the gate before it lets a hotel use something, and emits what was used. Which hotel asks stands in `X-Hotel`:
what a service of your own knows from its login.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, NamedTuple

from aiohttp import web

from enforcement.client import Gate, Question, gated, middleware
from ingest.client import Emitter
from metering.errors import Refused, Unavailable

CALL_SECONDS = 600
"""Held when a call begins: longer ones are cut off by the voice platform."""


class Call(NamedTuple):
    """A call that goes on; `reservation` None: it was let through without a hold, while the gate was away."""

    hotel: str
    guest: str
    language: str
    property: str
    reservation: str | None


def api_question(request: web.Request) -> Question | None:
    """Each request of a hotel's own systems counts towards its rate, and towards that of the key it comes with."""
    if not request.path.startswith("/v2/"):
        return None
    return Question(_hotel(request), "api", subject=request.headers.get("X-Api-Key"))


def cloning_question(request: web.Request) -> Question:
    """A feature that a plan has or has not."""
    return Question(_hotel(request), "voice-cloning")


class GuestServices:
    """The service's handlers. `gate` and `emitter` are open while it serves."""

    def __init__(self, gate: Gate, emitter: Emitter) -> None:
        self._gate = gate
        self._emitter = emitter
        self._calls: dict[str, Call] = {}

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[middleware(self._gate, api_question)])
        app.router.add_post("/calls", self.begin_call)
        app.router.add_post("/calls/{id}/end", self.end_call)
        app.router.add_post("/requests", self.request)
        app.router.add_post("/seats", self.seats)
        app.router.add_post("/locations", self.location)
        app.router.add_post("/voices", gated(self._gate, cloning_question)(self.clone_voice))
        app.router.add_get("/v2/guests", self.guests)
        app.cleanup_ctx.append(self._open)
        return app

    async def begin_call(self, request: web.Request) -> web.Response:
        """`{id, guest, language, property}`: only in the plan's languages, and only if ten minutes are left."""
        hotel, call = _hotel(request), await request.json()
        spoken = await self._gate.check(hotel, "language", groups={"language": call["language"]})
        if not spoken.allowed:
            return _denied(spoken.problem(), spoken.status)
        held = await self._gate.reserve(hotel, "voice", CALL_SECONDS, id=call["id"], on_unknown="open")
        if not held.answer.allowed:
            return _denied(held.answer.problem(), held.answer.status)
        self._calls[call["id"]] = Call(hotel, call["guest"], call["language"], call["property"], held.id)
        return web.json_response({"seconds": CALL_SECONDS, "left_after": held.answer.remaining}, status=201)

    async def end_call(self, request: web.Request) -> web.Response:
        """`{seconds}`: what was used of the hold is kept until the event that names it is counted."""
        id, seconds = request.match_info["id"], (await request.json())["seconds"]
        call = self._calls[id]
        named = {}
        if call.reservation is not None:
            named["reservationid"] = call.reservation
            with suppress(Unavailable, Refused):  # the call was made: it is told whatever the gate says
                await self._gate.commit(call.reservation, seconds)
        data = {"duration_seconds": seconds, "language": call.language, "property": call.property, "concurrent": 1}
        await self._emit(call.hotel, "call.completed", data, id=f"call-{id}", subject=call.guest, **named)
        self._calls.pop(id, None)
        return web.json_response({})

    async def request(self, request: web.Request) -> web.Response:
        """`{guest, priority, department, property}`: any number of them, but few that are served first."""
        hotel, asked = _hotel(request), await request.json()
        priority = asked["priority"]
        answer = await self._gate.check(hotel, "guest-requests", groups={"priority": priority})
        if not answer.allowed:
            priority = "normal"  # nobody's towels are refused; they come when it is their turn
        data = {"priority": priority, "department": asked["department"], "property": asked["property"]}
        await self._emit(hotel, "request.created", data, subject=asked["guest"])
        return web.json_response({"priority": priority, "billed": answer.reason == "over-limit"}, status=201)

    async def seats(self, request: web.Request) -> web.Response:
        """`{now, wanted}`: a gauge. The gate is asked for what is to be added; the new number is reported."""
        hotel, asked = _hotel(request), await request.json()
        answer = await self._gate.check(hotel, "staff-seats", max(0, asked["wanted"] - asked["now"]))
        if not answer.allowed:
            return _denied(answer.problem(), answer.status)
        await self._emit(hotel, "staff.seats", {"seats": asked["wanted"]})
        return web.json_response({"seats": asked["wanted"]})

    async def location(self, request: web.Request) -> web.Response:
        """Whether one more house may be opened."""
        answer = await self._gate.check(_hotel(request), "locations")
        return web.json_response({}, status=201) if answer.allowed else _denied(answer.problem(), answer.status)

    async def clone_voice(self, request: web.Request) -> web.Response:
        """Asked by the decorator."""
        return web.json_response({"voice": "like-yours"}, status=201)

    async def guests(self, request: web.Request) -> web.Response:
        """Asked by the middleware."""
        await self._emit(_hotel(request), "api.request", {"endpoint": request.path, "status": 200, "bytes": 2})
        return web.json_response([])

    async def _emit(self, hotel: str, type: str, data: dict[str, Any], **attributes: str) -> None:
        await self._emitter.emit({"tenant": hotel, "type": type, "data": data, **attributes})

    async def _open(self, app: web.Application) -> AsyncIterator[None]:
        async with self._gate, self._emitter:
            yield


def _hotel(request: web.Request) -> str:
    return request.headers["X-Hotel"]


def _denied(problem: bytes, status: int) -> web.Response:
    return web.Response(status=status, body=problem, content_type="application/problem+json")


def main() -> None:
    """Serve on loopback until Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    key = os.environ["TALLYGATE_KEY"]
    gate = Gate(os.environ.get("TALLYGATE_GATE", "http://127.0.0.1:8081"), key)
    ingest = os.environ.get("TALLYGATE_INGEST", "http://127.0.0.1:8080")
    web.run_app(GuestServices(gate, Emitter(ingest, key, source="/guest-services")).app(), host="127.0.0.1", port=port)


if __name__ == "__main__":
    main()
