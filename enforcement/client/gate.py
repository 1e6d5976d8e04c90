"""The gate's client: one pool of connections, a budget for each call, and a fallback that says that it is one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec

from enforcement.client.answer import Answer, Fallback, OnUnknown
from enforcement.client.question import Amount, Question
from enforcement.client.reservation import Ended, Reservation, ended, granted, refused
from metering.errors import Refused, Unavailable

_DOWN_SECONDS = 0.25
"""After a call without an answer: for so long others don't wait for one either."""
_AWAY = (aiohttp.ClientError, OSError, TimeoutError)


class _Reply(NamedTuple):
    status: int
    body: bytes


class _Results(msgspec.Struct):
    results: list[Answer]


class _Problem(msgspec.Struct):
    type: str = ""
    detail: str = ""


_answer = msgspec.json.Decoder(Answer).decode
_results = msgspec.json.Decoder(_Results).decode
_problem = msgspec.json.Decoder(_Problem).decode


class Gate:
    """Asks one gate. Opened and closed by `async with`; may be used by many tasks at once."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8081",
        key: str | None = None,
        *,
        socket: str | None = None,
        budget: float = 0.05,
        reserve_budget: float = 0.75,
        on_unknown: OnUnknown = "closed",
        remembered: int = 10_000,
        remembered_seconds: float = 300.0,
    ) -> None:
        """`socket`: path of the gate's Unix socket, which needs no `key`. `budget`: seconds for a call, connecting
        included; `reserve_budget`: for one about a reservation, for which the gate waits for Redis (half a second
        unless set otherwise). The last `remembered` answers stand in for missing ones for `remembered_seconds`, then
        `on_unknown` does."""
        self._url = url.rstrip("/")
        self._key = key
        self._socket = socket
        self._budget = budget
        self._reserve_budget = reserve_budget
        self._on_unknown = on_unknown
        self._fallback = Fallback(remembered, remembered_seconds)
        self._down_until = {"check": 0.0, "reserve": 0.0}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(self._socket) if self._socket else aiohttp.TCPConnector(limit=0)
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        self._session = aiohttp.ClientSession(connector=connector, headers=headers)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def check(
        self,
        tenant: str,
        feature: str,
        amount: Amount = 1,
        groups: Mapping[str, str] | None = None,
        subject: str | None = None,
        *,
        on_unknown: OnUnknown | None = None,
    ) -> Answer:
        """May `tenant` use `amount` more of `feature`? (Question.) Never later than the budget.

        Raises Refused when the gate refuses the question (a wrong key, an amount that is no number): asking again does
        not help.
        """
        (answer,) = await self._asked(
            [Question(tenant, feature, amount, groups, subject)], on_unknown or self._on_unknown
        )
        return answer

    async def check_all(self, questions: Sequence[Question], *, on_unknown: OnUnknown | None = None) -> list[Answer]:
        """Several at once, in order. Raises like `check`."""
        return await self._asked(questions, on_unknown or self._on_unknown) if questions else []

    async def entitlements(self, tenant: str) -> dict[str, Any] | None:
        """Everything that a tenant's plan grants; None while the gate does not answer. Raises like `check`."""
        reply = await self._ask("GET", f"/v1/entitlements/{tenant}", None)
        found: dict[str, Any] | None = None if reply is None else msgspec.json.decode(reply.body)
        return found

    async def reserve(
        self,
        tenant: str,
        feature: str,
        amount: Amount,
        groups: Mapping[str, str] | None = None,
        *,
        seconds: float | None = None,
        id: str | None = None,
        on_unknown: OnUnknown | None = None,
    ) -> Reservation:
        """Hold `amount` for `seconds` (None: as long as may be). The same `id` and amount is the same reservation.

        Where the gate does not answer, or says that it can't know at the moment, nothing is held, and `on_unknown` says
        whether to go on without. Raises Refused (a question that can never be granted, a wrong key).
        """
        question = Question(tenant, feature, amount, groups)
        asked = question.document()
        asked |= {name: value for name, value in (("ttl_seconds", seconds), ("id", id)) if value is not None}
        reply = await self._ask("POST", "/v1/reservations", asked, self._reserve_budget, expects=409)
        if reply is None:
            policy = on_unknown or self._on_unknown
            answer = Answer(policy == "open", "unavailable", feature, "fallback", None, policy=policy)
            return Reservation(None, None, answer)
        return granted(reply.body) if reply.status == 201 else refused(reply.body)

    async def commit(self, reservation: str, amount: Amount | None = None) -> Ended:
        """Keep `amount` (at most what is held, None: all) until the usage event that names the reservation is counted.

        Raises Refused (more than is held, or committed with another amount), Unavailable: ask again, it is safe.
        """
        asked = {} if amount is None else {"amount": str(amount)}
        path = f"/v1/reservations/{reservation}/commit"
        reply = await self._ask("POST", path, asked, self._reserve_budget, expects=404)
        if reply is None:
            raise Unavailable("the gate does not answer")
        return "unknown" if reply.status == 404 else ended(reply.body)

    async def release(self, reservation: str) -> None:
        """Hold it no more. Raises Unavailable: ask again, or leave it to its time."""
        path = f"/v1/reservations/{reservation}"
        if await self._ask("DELETE", path, None, self._reserve_budget) is None:
            raise Unavailable("the gate does not answer")

    async def _asked(self, questions: Sequence[Question], on_unknown: OnUnknown) -> list[Answer]:
        asked = [question.document() for question in questions]
        if len(asked) == 1:
            reply = await self._ask("POST", "/v1/check", asked[0])
            answers = None if reply is None else [_answer(reply.body)]
        else:
            reply = await self._ask("POST", "/v1/check/batch", {"checks": asked})
            answers = None if reply is None else _results(reply.body).results
        now = time.monotonic()
        if answers is None:
            return [self._fallback.answer(question, on_unknown, now) for question in questions]
        for question, answer in zip(questions, answers, strict=True):
            self._fallback.remember(question, answer, now)
        return answers

    async def _ask(
        self, method: str, path: str, question: Any, budget: float | None = None, expects: int | None = None
    ) -> _Reply | None:
        """What was answered: a success, or the status that is expected besides; None when nothing is in time. Raises
        Refused."""
        if self._session is None:
            raise RuntimeError("open the gate first: async with Gate(…) as gate")
        # A gate that waits for Redis with a reservation still answers checks from memory.
        kind = "check" if budget is None else "reserve"
        if time.monotonic() < self._down_until[kind]:
            return None
        data = None if question is None else msgspec.json.encode(question)
        try:
            async with asyncio.timeout(budget or self._budget):
                async with self._session.request(method, self._url + path, data=data) as response:
                    body = await response.read()
        except _AWAY:
            self._down_until[kind] = time.monotonic() + _DOWN_SECONDS
            return None
        if response.status >= 500 or response.status == 429:
            return None
        if response.status >= 400 and response.status != expects:
            raise _refused(response.status, body)
        return _Reply(response.status, body)


def _refused(status: int, body: bytes) -> Refused:
    try:
        problem = _problem(body)
    except msgspec.DecodeError:
        problem = _Problem()
    return Refused(problem.type.rsplit("/", 1)[-1] or f"http-{status}", problem.detail or f"the gate answered {status}")
