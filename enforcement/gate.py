"""The gate itself: reads what is known, asks the rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from enforcement import metrics
from enforcement.gathered import Read
from enforcement.redis_state import TenantState
from metering.decision import Decision, decide


class Check(NamedTuple):
    """May `tenant` use `amount` (nanos) more of `feature`?"""

    tenant: str
    feature: str
    amount: int


class Gate:
    """Answers checks; consumes nothing."""

    def __init__(self, read: Read) -> None:
        self._read = read

    async def check(self, checks: Sequence[Check]) -> list[Decision]:
        """The answers, in order, all as of one reading."""
        wanted: dict[str, set[str]] = {}
        for check in checks:
            wanted.setdefault(check.tenant, set()).add(check.feature)
        states = await self._read(wanted)
        decisions = [_decide(check, states[check.tenant]) for check in checks]
        for decision in decisions:
            metrics.CHECKS.labels(decision.reason, decision.source).inc()
        return decisions

    async def state_of(self, tenant: str) -> TenantState:
        """A tenant's plan and what it used of everything in it."""
        return (await self._read({tenant: None}))[tenant]


def _decide(check: Check, state: TenantState) -> Decision:
    used = state.used.get(check.feature)
    return decide(state.snapshot, check.feature, check.amount, used, state.now, state.knowledge)
