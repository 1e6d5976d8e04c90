"""A whole system for as long as the demo lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from cli.errors import UNREACHABLE, CommandError
from cli.system import System


class DemoSystem:
    """A running system; `stop` has to be awaited."""

    def __init__(self, address: System, running: asyncio.Task[int], stopping: asyncio.Event) -> None:
        self.address = address
        self._running = running
        self._stopping = stopping

    @classmethod
    async def start(
        cls, data_dir: Path, kafka: str | None, catalog: Path, workers: Mapping[str, int] | None = None
    ) -> DemoSystem:
        """Start and wait until ready; see SystemOptions. Raises CommandError if it stops instead."""
        from local.system import SystemOptions, run_system

        ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        stopping = asyncio.Event()
        options = SystemOptions(data_dir, "auto", kafka, catalog, workers or {})
        running = asyncio.create_task(run_system(options, ready.set_result, stopping))
        try:
            either: set[asyncio.Future[Any]] = {running, ready}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            stopping.set()
            await asyncio.gather(running, return_exceptions=True)
            raise
        if running.done():
            raise _stopped(running)
        state = ready.result()
        address = System(state["console"], state["admin_key"], state["ingest"], state["gate"])
        return cls(address, running, stopping)

    async def unless_it_stops(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`. Raises CommandError if the system stops before it is done."""
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task, self._running}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise _stopped(self._running)
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        """Stop everything in order."""
        self._stopping.set()
        await asyncio.gather(self._running, return_exceptions=True)


def _stopped(running: asyncio.Task[int]) -> CommandError:
    error = None if running.cancelled() else running.exception()
    if error is not None:
        raise error
    return CommandError(UNREACHABLE, "The system stopped.", "The lines above say which process failed and why.")
