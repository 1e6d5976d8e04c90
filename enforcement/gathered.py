"""Tenants that are asked about together are read together: while one reading is under way, the next one gathers.

Under load a reading serves many checks for the cost of one, and the longest wait is that of two readings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

Load = Callable[[Collection[str]], Awaitable[bool]]
"""Get to know tenants; whether that could be done."""


class _Round:
    """One reading to come, and who waits for it."""

    def __init__(self) -> None:
        self.tenants: set[str] = set()
        self.loaded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class GatheredLoads:
    """Wraps a `load`."""

    def __init__(self, load: Callable[[Sequence[str]], Awaitable[bool]]) -> None:
        self._load = load
        self._next: _Round | None = None
        self._loading: asyncio.Task[None] | None = None

    async def load(self, tenants: Collection[str]) -> bool:
        """Get to know these, and perhaps more; read after this call began."""
        gathering = self._next
        if gathering is None:
            gathering = self._next = _Round()
        gathering.tenants.update(tenants)
        if self._loading is None:
            self._loading = asyncio.create_task(self._load_rounds())
        # Who asked may go away; the others still wait.
        return await asyncio.shield(gathering.loaded)

    async def _load_rounds(self) -> None:
        try:
            while self._next is not None:
                gathered, self._next = self._next, None
                try:
                    loaded = await self._load(sorted(gathered.tenants))
                except Exception as error:
                    gathered.loaded.set_exception(error)
                else:
                    gathered.loaded.set_result(loaded)
        finally:
            self._loading = None
