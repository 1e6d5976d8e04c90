"""Whether a dependency still answers, asked in the background: readiness reads it and asks nobody itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

_log = structlog.get_logger(__name__)

EVERY_SECONDS = 1.0
PATIENCE_SECONDS = 5.0


class Watch:
    """Asks one dependency once a second. `run()` goes on until cancelled.

    `ask` raises, or does not return, when there is no answer. `patience`: seconds without one after which it counts as
    away; longer where the process has what it needs in memory.
    """

    def __init__(self, name: str, ask: Callable[[], Awaitable[object]], patience: float = PATIENCE_SECONDS) -> None:
        self._name = name
        self._ask = ask
        self._patience = patience
        self._answered: float | None = None
        self._error = ""

    def failure(self) -> str | None:
        """What is wrong, for readiness; None while it answers."""
        reason = f": {self._error}" if self._error else ""
        if self._answered is None:
            return f"{self._name} has not answered yet{reason}"
        silent = time.monotonic() - self._answered
        return f"{self._name} has not answered for {silent:.0f} s{reason}" if silent > self._patience else None

    async def run(self) -> None:
        """Ask, and remember what came of it."""
        while True:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._ask()
                self._answered = time.monotonic()
                if self._error:
                    _log.info("answers again", dependency=self._name)
                self._error = ""
            except Exception as error:  # of several libraries, and none may end this
                if not self._error:
                    _log.warning("does not answer", dependency=self._name, reason=repr(error))
                self._error = str(error) or type(error).__name__
            await asyncio.sleep(EVERY_SECONDS)
