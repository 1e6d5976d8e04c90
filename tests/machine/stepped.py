"""What runs call by call: killed or frozen between any two."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from tests.machine.gate import Gate, Outcome


class Stepped:
    """A process at its gate."""

    def __init__(self, at: tuple[int, int]) -> None:
        self.at = at
        self.gate = Gate()
        self.task: asyncio.Task[None]
        self.cut_off = False
        """Its connection to ClickHouse is gone: its next call there fails."""

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin; it waits before its first call."""
        self.task = asyncio.create_task(work)
        self.task.add_done_callback(lambda _: self.gate.reached.set())

    @property
    def halted(self) -> str | None:
        """Why it stopped for good."""
        raise NotImplementedError

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        raise NotImplementedError

    async def before(self, call: str) -> None:
        """What it does unasked before a call."""

    async def settle(self) -> None:
        """Until it waits for its next turn or has ended."""
        await self.gate.reached.wait()
        if self.task.done() and not self.task.cancelled() and (error := self.task.exception()) is not None:
            raise error

    async def step(self, outcome: Outcome = "done") -> str:
        """Let it make the call at which it waits; the call's name, empty when it has ended."""
        await self.settle()
        if self.gate.waiting is None:
            return ""
        call = self.gate.call
        await self.before(call)
        if call.startswith(("effect", "epochs")):
            outcome = "done"
        if self.cut_off and call.startswith("ledger"):
            outcome, self.cut_off = "refused", False
        self.gate.let_through(outcome)
        await self.settle()
        return call

    async def kill(self) -> None:
        """SIGKILL."""
        while not self.task.done():  # one that was told to stop takes the first for that
            self.task.cancel()
            await asyncio.sleep(0)
