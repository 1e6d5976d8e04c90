"""Lua scripts for many callers at a time: while some are under way the next ones gather, and then go together.

One by one, a fifth of a busy gate's time goes into what redis-py does for each call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError

_UNDER_WAY = 2
"""Rounds at a time: one is on its way while Redis works at the other."""
_AT_ONCE = 32
"""Calls of a round. Those of a tenant with very many holds take Redis two milliseconds each."""


class _Call(NamedTuple):
    script: AsyncScript
    keys: Sequence[str]
    arguments: Sequence[object]
    answer: asyncio.Future[Any]
    until: float


class GatheredScripts:
    """Of one client of Redis. Tenants have their calls in turn: nobody's many are in front of somebody's one.

    No round takes longer than `seconds`, and no call sets out after so long.
    """

    def __init__(self, redis: Redis, seconds: float) -> None:
        self._redis = redis
        self._seconds = seconds
        self._waiting: dict[str, deque[_Call]] = {}
        """By tenant; whose turn is next comes first."""
        self._rounds: set[asyncio.Task[None]] = set()

    async def run(self, tenant: str, script: AsyncScript, keys: Sequence[str], arguments: Sequence[object]) -> Any:
        """What the script answers. Raises RedisError, OSError, TimeoutError: then it may have run or not."""
        loop = asyncio.get_running_loop()
        call = _Call(script, keys, arguments, loop.create_future(), loop.time() + self._seconds)
        self._waiting.setdefault(tenant, deque()).append(call)
        self._set_out()
        return await call.answer

    def _set_out(self) -> None:
        if self._waiting and len(self._rounds) < _UNDER_WAY:
            task = asyncio.create_task(self._round())
            self._rounds.add(task)
            task.add_done_callback(self._came_back)

    def _came_back(self, task: asyncio.Task[None]) -> None:
        self._rounds.discard(task)
        self._set_out()

    def _next(self) -> list[_Call]:
        calls: list[_Call] = []
        now = asyncio.get_running_loop().time()
        while self._waiting and len(calls) < _AT_ONCE:
            tenant = next(iter(self._waiting))
            own = self._waiting.pop(tenant)
            call = own.popleft()
            if own:
                self._waiting[tenant] = own
            if call.answer.done():
                continue  # who gave up asks for nothing
            if now > call.until:
                call.answer.set_exception(TimeoutError("no round had room for it"))
            else:
                calls.append(call)
        return calls

    async def _round(self) -> None:
        calls = self._next()
        try:
            async with asyncio.timeout(self._seconds):
                answers = await self._asked(calls)
        except Exception as error:  # whatever it is, nobody is to wait for ever
            answers = [error] * len(calls)
        for call, answer in zip(calls, answers, strict=True):
            if call.answer.done():
                continue
            if isinstance(answer, Exception):
                call.answer.set_exception(answer)
            else:
                call.answer.set_result(answer)

    async def _asked(self, calls: Sequence[_Call]) -> list[Any]:
        answers = await self._send(calls)
        unknown = {
            call.script for call, answer in zip(calls, answers, strict=True) if isinstance(answer, NoScriptError)
        }
        if not unknown:
            return answers
        for script in unknown:  # none of its calls has run
            await self._redis.script_load(script.script)
        again = iter(
            await self._send(
                [call for call, answer in zip(calls, answers, strict=True) if isinstance(answer, NoScriptError)]
            )
        )
        return [next(again) if isinstance(answer, NoScriptError) else answer for answer in answers]

    async def _send(self, calls: Sequence[_Call]) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        for call in calls:
            pipe.execute_command("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.arguments)
        return list(await pipe.execute(raise_on_error=False)) if calls else []
