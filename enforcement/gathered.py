"""Checks that arrive together are read together: while one reading is under way, the next one gathers.

Under load a reading serves many checks for the cost of one, and the longest wait is that of two readings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from enforcement.redis_state import TenantState, Wanted

Read = Callable[[Wanted], Awaitable[dict[str, TenantState]]]


class _Round:
    """One reading to come, and who waits for it."""

    def __init__(self) -> None:
        self.wanted: dict[str, set[str] | None] = {}
        self.states: asyncio.Future[dict[str, TenantState]] = asyncio.get_running_loop().create_future()

    def add(self, wanted: Wanted) -> None:
        for tenant, features in wanted.items():
            known = self.wanted.setdefault(tenant, set())
            if features is None or known is None:
                self.wanted[tenant] = None
            else:
                known.update(features)


class GatheredReads:
    """Wraps a `read` with the same signature."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._next: _Round | None = None
        self._reading: asyncio.Task[None] | None = None

    async def read(self, wanted: Wanted) -> dict[str, TenantState]:
        """What `wanted` asks for, and perhaps more; read after this call began."""
        gathering = self._next
        if gathering is None:
            gathering = self._next = _Round()
        gathering.add(wanted)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_rounds())
        # Who asked may go away; the others still wait.
        return await asyncio.shield(gathering.states)

    async def _read_rounds(self) -> None:
        try:
            while self._next is not None:
                gathered, self._next = self._next, None
                try:
                    states = await self._read(gathered.wanted)
                except Exception as error:
                    gathered.states.set_exception(error)
                else:
                    gathered.states.set_result(states)
        finally:
            self._reading = None
