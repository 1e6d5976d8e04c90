"""An event loop in which nothing waits: when everybody sleeps, the clock jumps to the first who wakes."""

from __future__ import annotations

import asyncio
from typing import Any


class Stuck(AssertionError):
    """Everybody waits for something that nobody will do."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Without sockets, signals and threads; `time` is virtual."""

    def __init__(self) -> None:
        super().__init__()
        self._at = 0.0
        self._selector = self

    def time(self) -> float:
        """Virtual seconds."""
        return self._at

    def select(self, timeout: float | None) -> list[Any]:
        """The loop asks for sockets that are ready; there are none, so time passes."""
        if timeout is None:
            raise Stuck("nothing is left to do, and the schedule has not ended")
        self._at += timeout
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody wakes it from another thread."""

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """Generators of killed processes are just forgotten."""
