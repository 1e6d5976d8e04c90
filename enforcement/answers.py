"""Decisions as the world sees them: JSON with instants in RFC 3339, or headers for a proxy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import msgspec

from metering.clock import iso
from metering.decision import Decision, Knowledge, Rule, Standing, UsedIn, remaining, standings_of, text_of
from metering.entitlement import TenantSnapshot
from metering.period import FOREVER
from metering.quantity import render


def document(decision: Decision, rules: Sequence[Rule] | None = None) -> dict[str, Any]:
    """contracts.md, `POST /v1/check`. `value` only where the feature has one, `approximate` only where true, `rules`
    where they were asked for."""
    answer: dict[str, Any] = {
        "allowed": decision.allowed,
        "reason": decision.reason,
        "feature": decision.feature,
        "used": decision.used,
        "reserved": decision.reserved,
        "limit": decision.limit,
        "remaining": decision.remaining,
        "period": decision.period,
        "resets_at": _instant(decision.resets_at),
        "policy": decision.policy,
        "policy_version": decision.policy_version,
        "source": decision.source,
        "as_of": _iso(decision.as_of),
        "mode": decision.mode,
    }
    if decision.value is not None:
        answer["value"] = decision.value
    if decision.approximate:
        answer["approximate"] = True
    if rules is not None:
        answer["rules"] = [{"rule": rule, "allows": allows, **detail} for rule, allows, detail in rules]
    return answer


def encode(decision: Decision) -> bytes:
    """The JSON of `document`."""
    return msgspec.json.encode(document(decision))


def reservation(name: str, amount: int, decision: Decision, expires: int) -> dict[str, Any]:
    """contracts.md, `POST /v1/reservations`: the hold, and the numbers with it counted in."""
    held = {"id": name, "state": "held", "amount": render(amount), "expires_at": iso(expires)}
    return {**held, **document(decision)}


def commit(name: str, state: str, amount: int, expires: int) -> dict[str, Any]:
    """`POST /v1/reservations/{id}/commit`; nothing is held where its usage is counted."""
    held = None if state == "counted" else iso(expires)
    return {"id": name, "state": state, "amount": render(amount), "expires_at": held}


def numbers(decision: Decision) -> dict[str, Any]:
    """What a refusal says beside the problem."""
    return {name: value for name, value in document(decision).items() if name != "allowed"}


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
        "period": decision.period,
        "resets_at": _instant(decision.resets_at),
        "policy": decision.policy,
        "policy_version": None if decision.policy_version is None else str(decision.policy_version),
        "source": decision.source,
        "as_of": _iso(decision.as_of),
        "mode": decision.mode,
    }


def entitlements(
    snapshot: TenantSnapshot, used: UsedIn, reserved: Callable[[str, int], int], knowledge: Knowledge, now: int
) -> dict[str, Any]:
    """`GET /v1/entitlements/{tenant}`: every feature of the catalog, what the plan grants of it, what is used and held.

    `reserved`: what is held (nanos) of a feature at an instant (ms UTC).
    """
    return {
        "tenant": snapshot.tenant,
        "status": snapshot.status,
        "plan": snapshot.plan,
        "trial_ends": _instant(snapshot.trial_ends),
        "catalog_version": snapshot.catalog_version,
        "source": knowledge.source,
        "as_of": iso(knowledge.as_of),
        "features": {
            feature: _entitlement(feature, snapshot, used, reserved(feature, min(now, knowledge.as_of)), now)
            for feature in snapshot.features
        },
    }


def _entitlement(feature: str, snapshot: TenantSnapshot, used: UsedIn, reserved: int, now: int) -> dict[str, Any]:
    right = snapshot.entitlements.get(feature)
    if right is None:
        return {"entitled": False}
    if right.meter is None:
        return {"entitled": True} if right.value is None else {"entitled": True, "value": right.value}
    main, *further = [_limit(at) for at in standings_of(right, snapshot, used, reserved, now)]
    answer: dict[str, Any] = {"entitled": True, "meter": right.meter, **main, "on_unknown": right.on_unknown}
    if further:
        answer["limits"] = further
    return answer


def _limit(at: Standing) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "limit": None if at.allowance is None else render(at.allowance),
        "used": None if at.used is None else text_of(at.scale, at.used),
        "reserved": None if at.used is None else render(at.reserved),
        "remaining": remaining(at),
        "period": at.limit.period,
        "resets_at": None if at.period.end >= FOREVER else iso(at.period.end),
        "on_exceed": at.limit.on_exceed,
    }
    if at.used is not None and at.used.approximate:
        answer["approximate"] = True
    return answer


def _instant(ms: int | None) -> str | None:
    return None if ms is None else _iso(ms)


@lru_cache(maxsize=4096)
def instant(ms: int) -> bytes:
    """As it stands in the JSON."""
    return iso(ms).encode()


_iso = lru_cache(maxsize=4096)(iso)
"""Tenants of a partition share the instant as of which they are known, and periods end together."""
