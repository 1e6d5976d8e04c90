"""Whether a partition's offset stands still while records wait behind it, whatever its writer believes. Pure.

A writer knows the log by what its fetches bring. When they bring nothing without failing, it looks idle: only the end
of the log, asked for by itself, tells waiting from idle.
"""

from __future__ import annotations

STILL_SECONDS = 10.0


class Standstill:
    """What one partition did lately. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.waiting = 0
        self._applied: int | None = None
        self._since: float | None = None

    def see(self, applied: int, end: int, now: float) -> None:
        """`applied`: offset of the last applied record, -1 for none; `end`: offset of the next one to be written."""
        moved = applied != self._applied
        self._applied = applied
        self.waiting = max(0, end - 1 - applied)
        if not self.waiting:
            self._since = None
        elif moved or self._since is None:
            self._since = now

    def failure(self, now: float) -> str | None:
        """What is wrong; None while nothing waits or something moves."""
        still = 0.0 if self._since is None else now - self._since
        if still <= STILL_SECONDS:
            return None
        return f"stuck: {self.waiting} records wait in the log and none was applied for {still:.0f} s"
