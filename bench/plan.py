"""How a run measures."""

from __future__ import annotations

from typing import NamedTuple

WINDOWS = 5
"""A row is the median of so many windows of one measurement."""


class Plan(NamedTuple):
    """`seconds` a row is measured after `warm_up`; `tenants` of the load; `digests` in the dedupe window before;
    `sample` distinct events from which the bytes of the log and the ledger are taken; `window` events in the hours that
    are computed anew, `ledger` rows that are reconciled at the least."""

    seconds: float
    warm_up: float
    tenants: int
    digests: int
    sample: int
    window: int
    ledger: int


def plan(seconds: float, tenants: int, digests: int) -> Plan:
    """The plan for rows of `seconds`."""
    if seconds < 20:
        return Plan(seconds, seconds / 6, tenants, digests, 50_000, 100_000, 500_000)
    return Plan(seconds, seconds / 6, tenants, digests, 300_000, 1_000_000, 10_000_000)
