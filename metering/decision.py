"""The gate's rule: may this tenant use `amount` more of a feature? A pure function of what is known.

What a check would lead to depends on the meter's aggregation:

    sum, count, unique, latest   used + reserved + amount
    max, min                     the greater or lesser of used and amount: `amount` is the value that would be reported
    avg                          used: what an event would add to it cannot be known

It exceeds when that is above the limit and the grants beside it. `on_exceed: block` then denies; `allow` and `warn` say
so and allow. Of several limits each must hold. A counter that is not known never allows: the feature's `on_unknown`
decides, unless another limit that is known denies; so it does where all that is known is older than `max_staleness`. A
limit of some groups counts where what is asked for may be of them; a right to some groups is denied to what does not
say that it is of them. A feature in shadow mode allows what it would deny, and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from metering import counter, quantity
from metering.catalog import Limit
from metering.entitlement import CompiledEntitlement, TenantSnapshot
from metering.period import FOREVER, Period, period_at
from metering.rate import Rate

Source = Literal["memory", "redis", "fallback"]
Mode = Literal["enforce", "shadow"]
Reason = Literal[
    "within-limit",
    "unlimited",
    "granted",
    "over-limit",
    "limit-reached",
    "rate-limited",
    "group-not-entitled",
    "not-entitled",
    "unknown-feature",
    "unknown-tenant",
    "tenant-suspended",
    "tenant-cancelled",
    "trial-ended",
    "recovering",
    "unavailable",
    "stale",
]
Unknown = Literal["recovering", "unavailable", "stale"]
"""Why a counter is not known: it is being rebuilt, the place where it stands does not answer, or what is known of it is
older than the feature allows."""

_nanos = lru_cache(maxsize=1 << 16)(quantity.from_text)
_text = lru_cache(maxsize=1 << 12)(quantity.render)


class Used(NamedTuple):
    """A counter's value: `total` nanos, divided by `events` where an average is meant; 0 events: none yet."""

    total: int
    events: int
    approximate: bool = False


NOTHING = Used(0, 0)
UsedIn = Callable[[CompiledEntitlement, Limit, Period], Used | None]
"""What was used in the period of one of an entitlement's limits; None: not known."""
NO_GROUPS: Mapping[str, str] = {}


def not_known(right: CompiledEntitlement, limit: Limit, period: Period) -> Used | None:
    """UsedIn of somebody who knows no counter."""
    return None


class Knowledge(NamedTuple):
    """What the gate goes by: where it has it from, as of which instant (ms UTC), and why counters are unknown."""

    source: Source
    as_of: int
    unknown: Unknown = "unavailable"


class Standing(NamedTuple):
    """Where a tenant stands at one limit. `allowance` in nanos: the limit and the grants beside it, None: unlimited."""

    limit: Limit
    period: Period
    used: Used | None
    reserved: int
    allowance: int | None
    scale: int

    def exceeds(self, aggregation: str | None, amount: int) -> bool:
        """Whether `amount` more passes what is allowed; usage that is not known passes nothing."""
        used, allowance = self.used, self.allowance
        if allowance is None or used is None:
            return False
        if aggregation == "avg":
            return used.total > allowance * max(used.events, 1)
        if aggregation in ("max", "min") and used.events:
            extreme = max if aggregation == "max" else min
            return extreme(used.total, amount) > allowance
        return used.total + self.reserved + amount > allowance


class Slowed(NamedTuple):
    """Where somebody stands at a rate that has no room: like a Standing. `used` are the checks that were allowed of
    late; the period ends when one more fits."""

    limit: Rate
    period: Period
    used: Used
    reserved: int
    allowance: int
    scale: int


class Rule(NamedTuple):
    """One rule that was looked at: whether it `allows`, None: it can't say; what it went by."""

    rule: str
    allows: bool | None
    detail: dict[str, Any]


class Decision(msgspec.Struct, frozen=True):
    """The answer. Quantities as exact decimal strings, instants in ms UTC, None where the feature has no such thing.

    The numbers are those of the limit that decides: of those that deny the one with the least left, else the one that
    is passed, else the one with the least left. `policy` is the rule that counts there: its `on_exceed`, or the
    feature's `on_unknown` when usage is not known. `policy_version`: of the catalog by which the plan was read.
    """

    allowed: bool
    reason: Reason
    feature: str
    source: Source
    as_of: int
    standing: Standing | Slowed | None = None
    policy: str | None = None
    mode: Mode = "enforce"
    value: Any = None
    policy_version: int | None = None
    shadowed: bool = False
    """Whether it is allowed by the shadow mode alone."""

    @property
    def used(self) -> str | None:
        """What was used in the period."""
        at = self.standing
        return None if at is None or at.used is None else text_of(at.scale, at.used)

    @property
    def reserved(self) -> str | None:
        """What is held."""
        at = self.standing
        return None if at is None or at.used is None else _text(at.reserved)

    @property
    def limit(self) -> str | None:
        """The limit and the grants beside it; None: unlimited."""
        at = self.standing
        return None if at is None or at.allowance is None else _text(at.allowance)

    @property
    def remaining(self) -> str | None:
        """What is left, at least 0."""
        return None if self.standing is None else remaining(self.standing)

    @property
    def period(self) -> str | None:
        """The kind of period that the limit is for."""
        return None if self.standing is None else self.standing.limit.period

    @property
    def resets_at(self) -> int | None:
        """When the period ends."""
        at = self.standing
        return None if at is None or at.period.end >= FOREVER else at.period.end

    @property
    def approximate(self) -> bool:
        """Whether `used` is."""
        at = self.standing
        return at is not None and at.used is not None and at.used.approximate


def used_of(aggregation: str, text: str | None) -> Used:
    """A counter's text in Redis → its value; None, no such field: nothing was counted in that period."""
    if text is None:
        return NOTHING
    if aggregation == "avg":
        return Used(*counter.decode("avg", text))
    value = quantity.from_text(counter.decode_result(aggregation, text, quantity.SCALE))
    return Used(value, 1, counter.is_approximate(aggregation, text))


def decide(
    snapshot: TenantSnapshot | None,
    feature: str,
    amount: int,
    used: UsedIn,
    now: int,
    knowledge: Knowledge,
    reserved: int = 0,
    rules: list[Rule] | None = None,
    groups: Mapping[str, str] = NO_GROUPS,
) -> Decision:
    """May it? `amount` and `reserved` in nanos; `groups`: of what it is, by dimension. Each rule that is looked at is
    added to `rules`."""
    decision = _decide(snapshot, feature, amount, used, now, knowledge, reserved, rules, groups)
    if snapshot is None:
        return decision
    version = snapshot.catalog_version
    if feature in snapshot.shadow:
        shadowed = not decision.allowed
        return replace(decision, allowed=True, mode="shadow", shadowed=shadowed, policy_version=version)
    return replace(decision, policy_version=version)


def _decide(
    snapshot: TenantSnapshot | None,
    feature: str,
    amount: int,
    used: UsedIn,
    now: int,
    knowledge: Knowledge,
    reserved: int,
    rules: list[Rule] | None,
    groups: Mapping[str, str],
) -> Decision:
    source, as_of = knowledge.source, knowledge.as_of
    if snapshot is None:
        reason: Reason = knowledge.unknown if source == "fallback" else "unknown-tenant"
        if rules is not None:
            rules.append(Rule("tenant", False, {"reason": reason}))
        return Decision(False, reason, feature, source, as_of)
    right = snapshot.entitlements.get(feature)
    refusal = _refusal(snapshot, feature, right, now)
    if rules is not None:
        _look_at_plan(rules, snapshot, refusal)
    if refusal is not None or right is None:
        return Decision(False, refusal or "not-entitled", feature, source, as_of)
    if right.groups:
        missing = [dimension for dimension, values in right.groups if groups.get(dimension) not in values]
        if rules is not None:
            rules.append(Rule("groups", not missing, {"granted": dict(right.groups), "asked": dict(groups)}))
        if missing:
            return Decision(False, "group-not-entitled", feature, source, as_of)
    stale = right.max_staleness is not None and now - as_of > right.max_staleness
    if stale and rules is not None:
        rules.append(Rule("staleness", None, {"age": now - as_of, "max_staleness": right.max_staleness}))
    if right.meter is None and stale:
        allowed = right.on_unknown == "open"
        if rules is not None:
            rules.append(Rule("on_unknown", allowed, {"policy": right.on_unknown, "why": "stale"}))
        value = right.value if allowed else None
        return Decision(allowed, "stale", feature, "fallback", as_of, policy=right.on_unknown, value=value)
    if right.meter is None:
        return Decision(True, "granted", feature, source, as_of, value=right.value)
    if stale:
        used, knowledge = not_known, Knowledge("fallback", as_of, "stale")
    standings = standings_of(right, snapshot, used, reserved, now, groups)
    return _judge(right, feature, amount, standings, knowledge, rules)


def _look_at_plan(rules: list[Rule], snapshot: TenantSnapshot, refusal: Reason | None) -> None:
    of_tenant = refusal in _OF_TENANTS
    rules.append(Rule("tenant", not of_tenant, {"status": snapshot.status, "trial_ends": snapshot.trial_ends}))
    if not of_tenant:
        detail = {"plan": snapshot.plan, "catalog_version": snapshot.catalog_version}
        rules.append(Rule("plan", refusal is None, detail))


_OF_TENANTS = ("tenant-suspended", "tenant-cancelled", "trial-ended")


def _refusal(snapshot: TenantSnapshot, feature: str, right: CompiledEntitlement | None, now: int) -> Reason | None:
    if snapshot.status != "active":
        return "tenant-suspended" if snapshot.status == "suspended" else "tenant-cancelled"
    if snapshot.trial_ends is not None and now >= snapshot.trial_ends:
        return "trial-ended"
    if right is None:
        return "not-entitled" if feature in snapshot.features else "unknown-feature"
    return None


def steady(snapshot: TenantSnapshot, feature: str, now: int) -> Period:
    """The time around `now` in which the same question has the same answer as long as nothing is used or changed.
    Without what passes by itself elsewhere: holds, rates and the age of what is known."""
    turns = [] if snapshot.trial_ends is None else [snapshot.trial_ends]
    right = snapshot.entitlements.get(feature)
    if right is not None:
        turns += [instant for limit in right.limits for instant in period_at(limit.period, now, snapshot.terms)]
        turns += [instant for grant in right.grants for instant in (grant.since, grant.until)]
    before = [instant for instant in turns if instant <= now]
    return Period(max(before, default=0), min([instant for instant in turns if instant > now], default=FOREVER))


def standings_of(
    right: CompiledEntitlement,
    snapshot: TenantSnapshot,
    used: UsedIn,
    reserved: int,
    now: int,
    groups: Mapping[str, str] = NO_GROUPS,
) -> list[Standing]:
    """Where the tenant stands at each limit of a metered feature that concerns these groups, the main one first."""
    standings: list[Standing] = []
    for limit in right.limits:
        if limit.groups and not limit.concerns(groups):
            continue
        allowance = None if limit.limit is None else _nanos(limit.limit)
        if right.grants and allowance is not None and not standings:
            allowance += sum(_nanos(grant.amount) for grant in right.grants if grant.since <= now < grant.until)
        period = period_at(limit.period, now, snapshot.terms)
        standings.append(Standing(limit, period, used(right, limit, period), reserved, allowance, right.scale))
    return standings


def _judge(
    right: CompiledEntitlement,
    feature: str,
    amount: int,
    standings: Sequence[Standing],
    knowledge: Knowledge,
    rules: list[Rule] | None,
) -> Decision:
    denies: Standing | None = None
    over: Standing | None = None
    unknown: Standing | None = None
    least = standings[0]
    for at in standings:
        exceeds = at.exceeds(right.aggregation, amount)
        if exceeds and at.limit.on_exceed == "block":
            denies = at if denies is None or _left(at) < _left(denies) else denies
        elif exceeds:
            over = over or at
        elif at.used is None and at.allowance is not None:
            unknown = unknown or at
        if at is not least and at.allowance is not None and (least.allowance is None or _left(at) < _left(least)):
            least = at
        if rules is not None:
            _look_at_limit(rules, at, exceeds)
    source, as_of = knowledge.source, knowledge.as_of
    if denies is not None:
        return Decision(False, "limit-reached", feature, source, as_of, denies, denies.limit.on_exceed)
    if unknown is not None:
        allowed = right.on_unknown == "open"
        if rules is not None:
            rules.append(Rule("on_unknown", allowed, {"policy": right.on_unknown, "why": knowledge.unknown}))
        return Decision(allowed, knowledge.unknown, feature, "fallback", as_of, unknown, right.on_unknown)
    if over is not None:
        return Decision(True, "over-limit", feature, source, as_of, over, over.limit.on_exceed)
    reason: Reason = "unlimited" if least.allowance is None else "within-limit"
    source = "fallback" if least.used is None else source
    return Decision(True, reason, feature, source, as_of, least, least.limit.on_exceed)


def slowed(decision: Decision, at: Slowed) -> Decision:
    """What is allowed so far, but comes too fast for a rate; shadow mode allows that too."""
    shadow = decision.mode == "shadow"
    return replace(
        decision, allowed=shadow, reason="rate-limited", standing=at, policy=at.limit.on_exceed, shadowed=shadow
    )


def _left(at: Standing) -> int:
    """What is left of an allowance, in nanos (of an average: of its sum)."""
    if at.allowance is None or at.used is None:
        return quantity.LIMIT * quantity.ONE
    return at.allowance * max(at.used.events, 1) - at.used.total - at.reserved


def _look_at_limit(rules: list[Rule], at: Standing, exceeds: bool) -> None:
    known = at.used is not None or at.allowance is None
    allows = (not exceeds or at.limit.on_exceed != "block") if known else None
    detail = {
        "period": at.limit.period,
        **({"groups": dict(at.limit.groups)} if at.limit.groups else {}),
        "limit": None if at.allowance is None else quantity.render(at.allowance),
        "used": None if at.used is None else text_of(at.scale, at.used),
        "reserved": quantity.render(at.reserved),
        "exceeds": exceeds,
        "on_exceed": at.limit.on_exceed,
    }
    rules.append(Rule("limit", allows, detail))


def text_of(scale: int, used: Used) -> str:
    """A counter's value as an exact decimal string; `scale`: the meter's."""
    if used.events > 1:
        return quantity.average(used.total, used.events, scale)
    return quantity.render(used.total)


def remaining(at: Standing | Slowed) -> str | None:
    """What is left of the allowance, at least 0; None: unlimited, or not known."""
    if at.allowance is None or at.used is None:
        return None
    count = max(at.used.events, 1)
    left = at.allowance * count - at.used.total - at.reserved * count
    return "0" if left <= 0 else text_of(at.scale, Used(left, count))
