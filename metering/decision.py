"""The gate's rule: may this tenant use `amount` more of a feature? A pure function of what is known.

What a check would lead to depends on the meter's aggregation:

    sum, count, unique, latest   used + reserved + amount
    max, min                     the greater or lesser of used and amount: `amount` is the value that would be reported
    avg                          used: what an event would add to it cannot be known

It exceeds when that is above the limit. `on_exceed: block` then denies; `allow` and `warn` say so and allow.
A counter that is not known (`used` None) never allows: the feature's `on_unknown` decides.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

from metering import counter, quantity
from metering.entitlement import CompiledEntitlement, TenantSnapshot
from metering.period import FOREVER, Period, period_of

Source = Literal["memory", "redis", "fallback"]
Reason = Literal[
    "within-limit",
    "unlimited",
    "granted",
    "over-limit",
    "limit-reached",
    "not-entitled",
    "unknown-feature",
    "unknown-tenant",
    "tenant-suspended",
    "tenant-cancelled",
    "recovering",
    "unavailable",
]
Unknown = Literal["recovering", "unavailable"]
"""Why a counter is not known: it is being rebuilt, or the place where it stands does not answer."""


class Used(NamedTuple):
    """A counter's value: `total` nanos, divided by `events` where an average is meant; 0 events: none yet."""

    total: int
    events: int
    approximate: bool = False


NOTHING = Used(0, 0)


class Knowledge(NamedTuple):
    """What the gate goes by: where it has it from, as of which instant (ms UTC), and why counters are unknown."""

    source: Source
    as_of: int
    unknown: Unknown = "unavailable"


class Decision(msgspec.Struct, frozen=True):
    """The answer. Quantities as exact decimal strings, instants in ms UTC, None where the feature has no such thing.

    `policy` is the entitlement's rule that counts here: its `on_exceed`, or its `on_unknown` when usage is not known.
    """

    allowed: bool
    reason: Reason
    feature: str
    source: Source
    as_of: int
    used: str | None = None
    reserved: str | None = None
    limit: str | None = None
    remaining: str | None = None
    resets_at: int | None = None
    policy: str | None = None
    mode: Literal["enforce", "shadow"] = "enforce"
    value: Any = None
    approximate: bool = False


def used_of(aggregation: str, text: str | None) -> Used:
    """A counter's text in Redis → its value; None, no such field: nothing was counted in that period."""
    if text is None:
        return NOTHING
    if aggregation == "avg":
        return Used(*counter.decode("avg", text))
    value = quantity.from_text(counter.decode_result(aggregation, text, quantity.SCALE))
    return Used(value, 1, counter.is_approximate(aggregation, text))


def counted_period(right: CompiledEntitlement, snapshot: TenantSnapshot, now: int) -> Period | None:
    """The period in which usage of an entitlement counts at `now`; None if it is not metered."""
    if right.meter is None or right.period is None:
        return None
    return period_of(right.period, now, snapshot.terms)


def decide(
    snapshot: TenantSnapshot | None,
    feature: str,
    amount: int,
    used: Used | None,
    now: int,
    knowledge: Knowledge,
    reserved: int = 0,
) -> Decision:
    """May it? `amount` and `reserved` in nanos; `used` of the period in which `now` lies, None: not known."""
    if snapshot is None:
        reason: Reason = knowledge.unknown if knowledge.source == "fallback" else "unknown-tenant"
        return Decision(False, reason, feature, knowledge.source, knowledge.as_of)
    right = snapshot.entitlements.get(feature)
    refusal = _refusal(snapshot, feature, right)
    if refusal is not None or right is None:
        return Decision(False, refusal or "not-entitled", feature, knowledge.source, knowledge.as_of)
    period = counted_period(right, snapshot, now)
    if period is None:
        return Decision(True, "granted", feature, knowledge.source, knowledge.as_of, value=right.value)
    resets_at = period.end if period.end < FOREVER else None
    if used is None:
        return _unknown(right, feature, resets_at, knowledge)
    allowed, reason = _judge(right, amount, used, reserved)
    return Decision(
        allowed,
        reason,
        feature,
        knowledge.source,
        knowledge.as_of,
        used=text_of(right, used),
        reserved=quantity.render(reserved),
        limit=right.limit,
        remaining=remaining(right, used, reserved),
        resets_at=resets_at,
        policy=right.on_exceed,
        approximate=used.approximate,
    )


def _refusal(snapshot: TenantSnapshot, feature: str, right: CompiledEntitlement | None) -> Reason | None:
    if snapshot.status == "suspended":
        return "tenant-suspended"
    if snapshot.status == "cancelled":
        return "tenant-cancelled"
    if right is None:
        return "not-entitled" if feature in snapshot.features else "unknown-feature"
    return None


def _unknown(right: CompiledEntitlement, feature: str, resets_at: int | None, knowledge: Knowledge) -> Decision:
    unlimited = right.limit is None  # then usage does not matter
    return Decision(
        unlimited or right.on_unknown == "open",
        "unlimited" if unlimited else knowledge.unknown,
        feature,
        "fallback",
        knowledge.as_of,
        limit=right.limit,
        resets_at=resets_at,
        policy=right.on_exceed if unlimited else right.on_unknown,
    )


def _judge(right: CompiledEntitlement, amount: int, used: Used, reserved: int) -> tuple[bool, Reason]:
    if right.limit is None:
        return True, "unlimited"
    after = _after(right.aggregation, used, reserved, amount)
    if after.total <= quantity.from_text(right.limit) * max(after.events, 1):
        return True, "within-limit"
    if right.on_exceed == "block":
        return False, "limit-reached"
    return True, "over-limit"


def _after(aggregation: str | None, used: Used, reserved: int, amount: int) -> Used:
    if aggregation == "avg":
        return used
    if aggregation == "max":
        return Used(max(used.total, amount) if used.events else amount, 1)
    if aggregation == "min":
        return Used(min(used.total, amount) if used.events else amount, 1)
    return Used(used.total + reserved + amount, 1)


def text_of(right: CompiledEntitlement, used: Used) -> str:
    """A counter's value as an exact decimal string."""
    if used.events > 1:
        return quantity.average(used.total, used.events, right.scale)
    return quantity.render(used.total)


def remaining(right: CompiledEntitlement, used: Used, reserved: int = 0) -> str | None:
    """What is left of the limit, at least 0; None: unlimited."""
    if right.limit is None:
        return None
    count = max(used.events, 1)
    left = quantity.from_text(right.limit) * count - used.total - reserved * count
    return "0" if left <= 0 else text_of(right, Used(left, count))
