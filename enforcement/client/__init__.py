"""Asking the gate from a service written in Python.

    from enforcement.client import Gate

    async def main() -> None:
        async with Gate("http://127.0.0.1:8081", key) as gate:
            answer = await gate.check("hotel-adler", "voice", 600)
            if not answer.allowed:
                return refuse(answer.reason, answer.remaining)

A call takes no longer than its budget. Where the gate does not answer in it, the last answer for the same tenant and
feature decides, else `on_unknown`; the answer then says `source: fallback`. For whole applications there are
`middleware` (aiohttp), `GateASGI` (ASGI) and the decorator `gated`. `reserve`, `commit` and `release` hold what is
about to be used, so that nobody overshoots.
"""

from enforcement.client.answer import Answer
from enforcement.client.asgi import GateASGI
from enforcement.client.gate import Gate
from enforcement.client.question import Question
from enforcement.client.reservation import Reservation
from enforcement.client.web import gated, middleware

__all__ = ["Answer", "Gate", "GateASGI", "Question", "Reservation", "gated", "middleware"]
