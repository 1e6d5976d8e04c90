"""The gate itself: goes by what the mirror knows, asks the rule. Only whom nobody asked about before is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from enforcement import answers, metrics
from enforcement.decided import Tally
from enforcement.gathered import Load
from enforcement.mirror import Mirror, Tenant
from enforcement.rates import Rates
from enforcement.remembered import worth_remembering
from metering.clock import Clock
from metering.decision import NO_GROUPS, Decision, Knowledge, Rule, UsedIn, decide, not_known, slowed

AT_ONCE = 50
"""Answers of a batch without a pause: some tenths of a millisecond."""


class Check(NamedTuple):
    """May `tenant` use `amount` (nanos) more of `feature`? `groups`: of what it is, by dimension; `subject`: who within
    the tenant asks."""

    tenant: str
    feature: str
    amount: int
    groups: Mapping[str, str] = NO_GROUPS
    subject: str = ""


class Gate:
    """Answers checks; nothing is consumed but rates. `load` gets to know tenants, `tally` counts what is decided."""

    def __init__(self, mirror: Mirror, load: Load, clock: Clock, tally: Tally | None = None) -> None:
        self._mirror = mirror
        self._tally = tally
        self._load = load
        self._clock = clock
        self._rates = Rates()

    def answer(self, check: Check, rules: list[Rule] | None = None) -> Decision | None:
        """From memory, at once; None: the tenant is not known yet. Rules that are looked at are added to `rules`."""
        tenant = self._mirror.find(check.tenant)
        return None if tenant is None else self._decide(check, tenant, False, self._clock.now_ms(), rules)

    def encoded(self, check: Check) -> bytes | None:
        """The JSON of `answer`; what still stands is not worked out again."""
        tenant = self._mirror.find(check.tenant)
        if tenant is None:
            return None
        now, as_of = self._clock.now_ms(), self._mirror.as_of(tenant)
        known = tenant.answers.get(check.feature)
        if known is not None and known.stands(check.amount, check.groups, now, as_of):
            self.count(check.tenant, known.decision, now, True)
            return known.as_of(as_of)
        decision = self._decide(check, tenant, False, now)
        text = answers.encode(decision)
        # With other terms than those counted by, what is known depends on the hour (Tenant.used_at).
        if not tenant.moved:
            known = worth_remembering(decision, tenant.snapshot, check.amount, check.groups, now, text)
            if known is not None:
                tenant.answers[check.feature] = known
        return text

    async def check(self, checks: Sequence[Check], rules: list[Rule] | None = None) -> list[Decision]:
        """The answers, in order; others are answered in between."""
        loaded = await self.know({check.tenant for check in checks})
        decisions: list[Decision] = []
        for check in checks:
            if len(decisions) % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            tenant = self._mirror.find(check.tenant)
            decisions.append(self._decide(check, tenant, check.tenant in loaded, self._clock.now_ms(), rules))
        return decisions

    async def know(self, tenants: set[str]) -> set[str]:
        """Get to know these; answers which had to be read just now."""
        missing = {tenant for tenant in tenants if self._mirror.find(tenant) is None}
        return missing if missing and await self._load(missing) else set()

    def find(self, tenant: str) -> tuple[Tenant | None, Knowledge, int]:
        """What is known of a tenant, as of when, and what time it is."""
        now = self._clock.now_ms()
        found = self._mirror.find(tenant)
        if found is None:
            return None, Knowledge("fallback", now), now
        return found, self._mirror.knowledge(found), now

    def _decide(
        self, check: Check, tenant: Tenant | None, read: bool, now: int, rules: list[Rule] | None = None
    ) -> Decision:
        """`read`: the tenant was not known before this check came."""
        reserved = 0
        used: UsedIn = not_known
        snapshot, knowledge = None, Knowledge("fallback", now)
        if tenant is not None:
            used, snapshot, knowledge = tenant.used_at(now), tenant.snapshot, self._mirror.knowledge(tenant)
            if read:
                knowledge = knowledge._replace(source="redis")
            reserved = tenant.reserved(check.feature, min(now, knowledge.as_of))
        decision = decide(snapshot, check.feature, check.amount, used, now, knowledge, reserved, rules, check.groups)
        right = None if snapshot is None else snapshot.entitlements.get(check.feature)
        if right is not None and right.rates and decision.allowed:
            at = self._rates.slowed(right.rates, check.tenant, check.feature, check.subject, check.amount, now, rules)
            decision = decision if at is None else slowed(decision, at)
        self.count(check.tenant, decision, now, snapshot is not None and check.feature in snapshot.features)
        return decision

    def count(self, tenant: str, decision: Decision, now: int, known: bool) -> None:
        """What was decided at `now` (ms UTC), of a check or a reservation; `known`: the catalog has such a feature."""
        metrics.answered(decision.reason, decision.source, decision.shadowed)
        if self._tally is not None:
            self._tally.add(tenant, decision, now, known)
