"""The turnstile before every call that a process makes to an engine: the schedule lets it through, call by call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, TypeVar

T = TypeVar("T")

Outcome = Literal["done", "refused", "unheard"]
"""What becomes of a call: it is done; it never reaches the engine; it is done, but the answer gets lost."""


class Gate:
    """Of one process. `reached` is set while it waits to be let through."""

    def __init__(self) -> None:
        self.waiting: asyncio.Future[Outcome] | None = None
        self.reached = asyncio.Event()
        self.call = ""

    async def through(self, call: str, effect: Callable[[], T], away: Callable[[], Exception]) -> T:
        """Wait for the turn, then carry out `effect`; `away()` is raised where the call or its answer gets lost."""
        self.call = call
        self.waiting = asyncio.get_running_loop().create_future()
        self.reached.set()
        try:
            outcome = await self.waiting
        except asyncio.CancelledError:
            self.waiting = None
            self.reached.clear()
            raise
        if outcome == "refused":
            raise away()
        result = effect()
        if outcome == "unheard":
            raise away()
        return result

    def let_through(self, outcome: Outcome) -> None:
        """Give the process its turn."""
        assert self.waiting is not None
        self.reached.clear()
        waiting: asyncio.Future[Any] = self.waiting
        self.waiting = None
        waiting.set_result(outcome)
