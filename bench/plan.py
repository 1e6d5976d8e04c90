"""How a run measures."""

from __future__ import annotations

from typing import NamedTuple

WINDOWS = 5
"""A row is the median of so many windows of one measurement."""


class Plan(NamedTuple):
    """`seconds` a row is measured after `warm_up`; `tenants` of the load; `digests` in the dedupe window before;
    `sample` distinct events from which the bytes of the log and the ledger are taken."""

    seconds: float
    warm_up: float
    tenants: int
    digests: int
    sample: int


def plan(seconds: float, tenants: int, digests: int) -> Plan:
    """The plan for rows of `seconds`."""
    return Plan(seconds, seconds / 6, tenants, digests, 300_000 if seconds >= 20 else 50_000)
