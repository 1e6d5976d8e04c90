"""What the gates decided for a tenant, counted."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from metering.clock import SECOND_MS
from usage.ask import ask, query

_DECISIONS = query("decisions")
Window = Literal["hour", "day"]


class DecisionRow(NamedTuple):
    """So many checks in the window that begins at `since` (ms UTC); `shadowed`: allowed by the shadow mode alone."""

    since: int
    feature: str
    allowed: bool
    shadowed: bool
    reason: str
    checks: int


class DecisionReader:
    """Asks ClickHouse. Raises Unavailable."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def of(self, tenant: str, feature: str | None, start: int, end: int, window: Window) -> list[DecisionRow]:
        """Rows of minutes in [start, end) ms, oldest first."""
        parameters = {"tenant": tenant, "feature": feature or "", "start": start, "end": end, "window": window}
        return [
            DecisionRow(since * SECOND_MS, name, bool(allowed), bool(shadowed), reason, checks)
            for since, name, allowed, shadowed, reason, checks in await ask(self._client, _DECISIONS, **parameters)
        ]
