"""The plans last seen in Redis, so that a check knows its feature's policy when Redis does not answer."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from metering.entitlement import TenantSnapshot, decode


class Plan(NamedTuple):
    """A tenant's snapshot, its text as it stood in Redis, and when it was last seen there (ms UTC)."""

    snapshot: TenantSnapshot
    text: bytes
    seen: int


class RememberedPlans:
    """By tenant, at most `size`; whom nobody asked for longest goes first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._plans: OrderedDict[str, Plan] = OrderedDict()

    def get(self, tenant: str) -> Plan | None:
        """What was last seen of a tenant."""
        plan = self._plans.get(tenant)
        if plan is not None:
            self._plans.move_to_end(tenant)
        return plan

    def see(self, tenant: str, text: bytes, now: int) -> Plan:
        """Remember a snapshot; decodes it only when it changed."""
        known = self._plans.get(tenant)
        snapshot = known.snapshot if known is not None and known.text == text else decode(text)
        plan = self._plans[tenant] = Plan(snapshot, text, now)
        self._plans.move_to_end(tenant)
        if len(self._plans) > self._size:
            self._plans.popitem(last=False)
        return plan

    def forget(self, tenant: str) -> None:
        """The tenant is no more."""
        self._plans.pop(tenant, None)
