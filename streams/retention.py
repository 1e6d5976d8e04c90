"""Retention: payloads, personal data with them, are cleared some days after they were received. Rows stay.

Whoever writes a row again, as a recovering writer does, brings its payload back; so nothing is remembered as done, and
every look begins with what stands there. Clearing again what is clear changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import structlog

from metering.clock import DAY_MS
from streams import metrics
from streams.inserts import translated

_log = structlog.get_logger(__name__)

_LONGEST_REST = 60.0


class Cutoffs(NamedTuple):
    """Payloads received before these instants (ms UTC) are to be gone; 0: none are."""

    of: Mapping[str, int]
    otherwise: int

    @property
    def newest(self) -> int:
        """The latest of all; 0: nothing is ever to be cleared."""
        return max((*self.of.values(), self.otherwise))


def cutoffs(days: Mapping[str, int], otherwise: int | None, now: int) -> Cutoffs:
    """What is due at `now` (ms UTC) if tenants' payloads are kept for their `days`, others' for `otherwise` (None: for
    ever). Counted in whole UTC days: what a day brought is cleared in one go, up to a day later."""
    today = now // DAY_MS

    def before(kept: int) -> int:
        return max(0, (today - kept) * DAY_MS)

    return Cutoffs(
        {tenant: before(kept) for tenant, kept in days.items()}, 0 if otherwise is None else before(otherwise)
    )


class Retention:
    """Clears payloads in ClickHouse. Every method raises Unavailable when it fails."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def clear(self, due: Cutoffs, stop: Callable[[], bool] = lambda: False) -> int:
        """Clear what is due, a month of events after the other and at last dead letters; returns how many rewrites that
        took. Each rests as long as it took, so that merging and inserting go on beside it.

        A rewrite that somebody else began, or that outlived this process, is not joined by another: 0, and later again.
        """
        if due.newest == 0:
            return 0
        if await self._busy():
            _log.warning("payloads wait until another rewrite is done; system.mutations tells which")
            return 0
        parameters = {
            "tenants": ["", *due.of],  # transform() takes no empty arrays; no tenant is called so
            "cutoffs": [due.otherwise, *due.of.values()],
            "otherwise": due.otherwise,
            "newest": due.newest,
        }
        steps = [("retention_events", month) for (month,) in await self._rows("retention_months", parameters)]
        if (await self._rows("retention_letters_due", parameters))[0][0]:
            steps.append(("retention_letters", ""))
        done = 0
        for name, month in steps:
            if stop():
                break
            began = time.monotonic()
            async with translated():
                await self._client.command(
                    _query(name), parameters={**parameters, "month": month}, settings={"mutations_sync": 1}
                )
            done += 1
            metrics.RETENTION_REWRITES.inc()
            await asyncio.sleep(min(time.monotonic() - began, _LONGEST_REST))
        return done

    async def _busy(self) -> bool:
        tables = ("usage_events", "dead_letters")
        return any([(await self._rows("retention_running", {"table": table}))[0][0] for table in tables])

    async def _rows(self, name: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        async with translated():
            return list((await self._client.query(_query(name), parameters=dict(parameters))).result_rows)


@cache
def _query(name: str) -> str:
    return resources.files("streams").joinpath(f"clickhouse/queries/{name}.sql").read_text()
