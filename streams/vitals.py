"""How one partition is doing, as readiness tells it. Stuck is unhealthy: waiting too long is a failure by itself."""

from __future__ import annotations

import time

from streams.standstill import Standstill

_STUCK_SECONDS = 5.0


class Vitals:
    """What a partition's writer does, and since when without progress. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.lag: int | None = None
        self._recovered = False
        self._standstill = Standstill()
        self._doing = "starting"
        self._halted = ""
        self._trouble = ""
        self._closed = False
        self._since = time.monotonic()
        self._looked = 0.0

    def recovering(self, doing: str) -> None:
        """Not serving yet, or no more: the lag goes on from what was applied last."""
        self._doing = doing

    def running(self) -> None:
        """Serving batches."""
        self._doing = ""
        self._trouble = ""
        self._recovered = True
        self.progress()

    def progress(self) -> None:
        """A batch or a look has gone through."""
        self._since = time.monotonic()

    def log_ends(self, end: int, applied: int) -> None:
        """The log's end, asked for beside the reading: a lower bound on some brokers. Records may wait unread."""
        self._standstill.see(applied, end, time.monotonic())
        if self._recovered:
            self.lag = max(self.lag or 0, self._standstill.waiting)

    def trouble(self, reason: str) -> None:
        """A dependency failed."""
        self._trouble = reason

    def halt(self, reason: str) -> None:
        """Stopped for good."""
        self._halted = reason

    def closed(self) -> None:
        """Halted, and the operator has gone on with a new epoch: no failure any more."""
        self._halted = ""
        self._closed = True

    def look_due(self, every_seconds: float) -> bool:
        """Whether it is time to look at state and ledger again."""
        now = time.monotonic()
        if now - self._looked < every_seconds:
            return False
        self._looked = now
        return True

    def failure(self) -> str | None:
        """What is wrong, None if nothing."""
        if self._closed:
            return None
        if self._halted:
            return f"halted: {self._halted}"
        if self._trouble:
            return self._trouble
        if self._doing:
            return f"recovering: {self._doing}"
        now = time.monotonic()
        waited = now - self._since
        if waited > _STUCK_SECONDS:
            return f"stuck: no progress for {waited:.0f} s"
        return self._standstill.failure(now)
