"""Decisions as the world sees them: JSON with instants in RFC 3339, or headers for a proxy."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from enforcement.redis_state import TenantState
from metering.clock import iso
from metering.decision import Decision, counted_period, remaining, text_of
from metering.entitlement import CompiledEntitlement, TenantSnapshot
from metering.period import FOREVER


def document(decision: Decision) -> dict[str, Any]:
    """contracts.md, `POST /v1/check`. `value` only where the feature has one, `approximate` only where true."""
    answer = msgspec.structs.asdict(decision)
    answer["as_of"] = iso(decision.as_of)
    answer["resets_at"] = _instant(decision.resets_at)
    if decision.value is None:
        del answer["value"]
    if not decision.approximate:
        del answer["approximate"]
    return answer


def headers(decision: Decision) -> dict[str, str]:
    """`X-Tallygate-Reason` and the numbers; what the feature hasn't got is left out."""
    named = {f"X-Tallygate-{name.replace('_', '-').title()}": text for name, text in _texts(decision).items()}
    return {name: text for name, text in named.items() if text is not None}


def _texts(decision: Decision) -> dict[str, str | None]:
    return {
        "reason": decision.reason,
        "feature": quote(decision.feature, errors="replace"),
        "used": decision.used,
        "reserved": decision.reserved,
        "limit": decision.limit,
        "remaining": decision.remaining,
        "resets_at": _instant(decision.resets_at),
        "policy": decision.policy,
        "source": decision.source,
        "as_of": iso(decision.as_of),
        "mode": decision.mode,
    }


def entitlements(snapshot: TenantSnapshot, state: TenantState) -> dict[str, Any]:
    """`GET /v1/entitlements/{tenant}`: every feature of the catalog, what the plan grants of it and what is used."""
    return {
        "tenant": snapshot.tenant,
        "status": snapshot.status,
        "plan": snapshot.plan,
        "catalog_version": snapshot.catalog_version,
        "source": state.knowledge.source,
        "as_of": iso(state.knowledge.as_of),
        "features": {feature: _entitlement(feature, snapshot, state) for feature in snapshot.features},
    }


def _entitlement(feature: str, snapshot: TenantSnapshot, state: TenantState) -> dict[str, Any]:
    right = snapshot.entitlements.get(feature)
    if right is None:
        return {"entitled": False}
    if right.meter is None:
        return {"entitled": True} if right.value is None else {"entitled": True, "value": right.value}
    return {"entitled": True, **_metered(right, feature, snapshot, state)}


def _metered(right: CompiledEntitlement, feature: str, snapshot: TenantSnapshot, state: TenantState) -> dict[str, Any]:
    period = counted_period(right, snapshot, state.now)
    used = state.used.get(feature)
    answer: dict[str, Any] = {
        "meter": right.meter,
        "limit": right.limit,
        "used": None if used is None else text_of(right, used),
        "remaining": None if used is None else remaining(right, used),
        "period": right.period,
        "resets_at": None if period is None or period.end >= FOREVER else iso(period.end),
        "on_exceed": right.on_exceed,
        "on_unknown": right.on_unknown,
    }
    if used is not None and used.approximate:
        answer["approximate"] = True
    return answer


def _instant(ms: int | None) -> str | None:
    return None if ms is None else iso(ms)
