"""The gate's client: one pool of connections, a budget for each call, and a fallback that says that it is one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from enforcement.client.answer import Answer, Fallback, OnUnknown
from enforcement.client.question import Amount, Question
from metering import quantity
from metering.errors import Refused

_DOWN_SECONDS = 0.25
"""After a call without an answer: for so long others don't wait for one either."""
_AWAY = (aiohttp.ClientError, OSError, TimeoutError)


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
        on_unknown: OnUnknown = "closed",
        remembered: int = 10_000,
        remembered_seconds: float = 300.0,
    ) -> None:
        """`socket`: path of the gate's Unix socket, which needs no `key`. `budget`: seconds for a call, connecting
        included. The last `remembered` answers stand in for missing ones for `remembered_seconds`, then `on_unknown`
        does."""
        self._url = url.rstrip("/")
        self._key = key
        self._socket = socket
        self._budget = budget
        self._on_unknown = on_unknown
        self._fallback = Fallback(remembered, remembered_seconds)
        self._down_until = 0.0
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
        self, tenant: str, feature: str, amount: Amount = 1, *, on_unknown: OnUnknown | None = None
    ) -> Answer:
        """May `tenant` use `amount` more of `feature`? Never later than the budget.

        Raises Refused when the gate refuses the question (a wrong key, an amount that is no number): asking again does
        not help.
        """
        (answer,) = await self._asked([Question(tenant, feature, amount)], on_unknown or self._on_unknown)
        return answer

    async def check_all(self, questions: Sequence[Question], *, on_unknown: OnUnknown | None = None) -> list[Answer]:
        """Several at once, in order. Raises like `check`."""
        return await self._asked(questions, on_unknown or self._on_unknown) if questions else []

    async def entitlements(self, tenant: str) -> dict[str, Any] | None:
        """Everything that a tenant's plan grants; None while the gate does not answer. Raises like `check`."""
        body = await self._ask("GET", f"/v1/entitlements/{tenant}", None)
        found: dict[str, Any] | None = None if body is None else msgspec.json.decode(body)
        return found

    async def _asked(self, questions: Sequence[Question], on_unknown: OnUnknown) -> list[Answer]:
        amounts = [quantity.parse(question.amount, quantity.SCALE, signed=False) for question in questions]
        asked = [
            {"tenant": question.tenant, "feature": question.feature, "amount": quantity.render(amount)}
            for question, amount in zip(questions, amounts, strict=True)
        ]
        if len(asked) == 1:
            body = await self._ask("POST", "/v1/check", asked[0])
            answers = None if body is None else [_answer(body)]
        else:
            body = await self._ask("POST", "/v1/check/batch", {"checks": asked})
            answers = None if body is None else _results(body).results
        now = time.monotonic()
        if answers is None:
            return [
                self._fallback.answer(question.tenant, question.feature, amount, on_unknown, now)
                for question, amount in zip(questions, amounts, strict=True)
            ]
        for question, answer in zip(questions, answers, strict=True):
            self._fallback.remember(question.tenant, answer, now)
        return answers

    async def _ask(self, method: str, path: str, question: Any) -> bytes | None:
        """The answer's body, None when there is none in time. Raises Refused."""
        if self._session is None:
            raise RuntimeError("open the gate first: async with Gate(…) as gate")
        if time.monotonic() < self._down_until:
            return None
        data = None if question is None else msgspec.json.encode(question)
        try:
            async with asyncio.timeout(self._budget):
                async with self._session.request(method, self._url + path, data=data) as response:
                    body = await response.read()
        except _AWAY:
            self._down_until = time.monotonic() + _DOWN_SECONDS
            return None
        if response.status >= 500 or response.status == 429:
            return None
        if response.status >= 400:
            raise _refused(response.status, body)
        return body


def _refused(status: int, body: bytes) -> Refused:
    try:
        problem = _problem(body)
    except msgspec.DecodeError:
        problem = _Problem()
    return Refused(problem.type.rsplit("/", 1)[-1] or f"http-{status}", problem.detail or f"the gate answered {status}")
