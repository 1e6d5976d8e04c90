"""The gate's rule: with true counters it never allows beyond a hard limit, and more usage never allows more."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from metering import counter
from metering.aggregation import AGGREGATIONS, NAMES, Sample, merge
from metering.catalog import Groups, Limit
from metering.decision import Decision, Knowledge, Rule, Used, UsedIn, decide, used_of
from metering.entitlement import CompiledEntitlement, CompiledGrant, TenantSnapshot, TenantStatus
from metering.period import DEFAULT_TERMS, KINDS, PeriodKind
from metering.position import Position
from metering.quantity import ONE, average, from_text, render

NOW = 1_795_428_000_000
REDIS = Knowledge("redis", NOW, "recovering")
AMOUNTS = st.integers(0, 50 * ONE) | st.integers(0, 10**27 - 1)
LIMITS = st.integers(0, 30 * ONE).map(render)


def rights(limits: st.SearchStrategy[str | None], on_exceed: list[str]) -> st.SearchStrategy[CompiledEntitlement]:
    return st.builds(
        CompiledEntitlement,
        meter=st.just("meter"),
        aggregation=st.sampled_from(NAMES),
        scale=st.integers(0, 9),
        limit=limits,
        period=st.sampled_from(KINDS),
        on_exceed=st.sampled_from(on_exceed),
        on_unknown=st.sampled_from(["closed", "open"]),
    )


RIGHTS = rights(st.none() | LIMITS, ["block", "allow", "warn"])
HARD = rights(LIMITS, ["block"])
USED = st.builds(Used, st.integers(0, 60 * ONE), st.integers(0, 4), st.booleans()).map(
    lambda used: used if used.events else Used(0, 0)
)


def snapshot(right: CompiledEntitlement) -> TenantSnapshot:
    return TenantSnapshot("grand", "active", "starter", 1, DEFAULT_TERMS, ("f", "g"), {"f": right})


def ask(right: CompiledEntitlement, amount: int, used: Used | None, reserved: int = 0) -> Decision:
    return decide(snapshot(right), "f", amount, lambda *_: used, NOW, REDIS, reserved)


def after(aggregation: str | None, samples: list[int], amount: int) -> Fraction:
    """By hand: the aggregate once `amount` would have been reported too (an average: as it stands)."""
    if aggregation == "avg":
        return Fraction(sum(samples), len(samples)) if samples else Fraction(0)
    if aggregation in ("sum", "count", "latest"):
        base = {"sum": sum(samples), "count": ONE * len(samples), "latest": samples[-1] if samples else 0}
        return Fraction(base[aggregation] + amount)
    if aggregation == "unique":
        return Fraction(ONE * len(set(samples)) + amount)
    return Fraction(max([*samples, amount]) if aggregation == "max" else min([*samples, amount]))


@given(HARD, st.lists(st.integers(0, 40 * ONE), max_size=5), AMOUNTS)
def test_with_true_counters_a_hard_limit_is_never_passed_and_never_denied_early(
    right: CompiledEntitlement, samples: list[int], amount: int
) -> None:
    assert right.limit is not None and right.aggregation is not None
    aggregation = AGGREGATIONS[right.aggregation]
    state = None
    for line, nanos in enumerate(samples):
        sample = Sample(nanos, str(nanos), line, Position(1, 0, 0, line))
        state = merge(aggregation, state, aggregation.of(sample))
    if right.aggregation == "unique" and state is not None:
        state = counter.Distinct(len(state), False)
    text = None if state is None else counter.encode(right.aggregation, state)
    decision = ask(right, amount, used_of(right.aggregation, text))
    within = after(right.aggregation, samples, amount) <= from_text(right.limit)
    assert decision.allowed == within
    assert decision.reason == ("within-limit" if within else "limit-reached")


@given(RIGHTS, AMOUNTS, USED, AMOUNTS, AMOUNTS)
def test_more_usage_or_a_larger_amount_never_allows_more(
    right: CompiledEntitlement, amount: int, used: Used, more_used: int, more_amount: int
) -> None:
    if not ask(right, amount, used).allowed:
        assert not ask(right, amount + more_amount, used).allowed or right.aggregation == "min"
        heavier = Used(used.total + more_used, max(used.events, 1))
        assert not ask(right, amount, heavier).allowed or right.aggregation == "min"


@given(RIGHTS.filter(lambda right: right.aggregation in ("sum", "count", "unique", "latest")), AMOUNTS, USED, AMOUNTS)
def test_what_is_reserved_counts_as_used(right: CompiledEntitlement, amount: int, used: Used, reserved: int) -> None:
    held = ask(right, amount, used, reserved)
    spent = ask(right, amount, Used(used.total + reserved, 1))
    assert (held.allowed, held.reason) == (spent.allowed, spent.reason)


@given(RIGHTS, AMOUNTS)
def test_an_unknown_counter_never_allows_what_the_policy_closes(right: CompiledEntitlement, amount: int) -> None:
    decision = ask(right, amount, None)
    assert decision.allowed == (right.limit is None or right.on_unknown == "open")
    assert (decision.used, decision.remaining, decision.source) == (None, None, "fallback")
    assert decision.reason == ("unlimited" if right.limit is None else "recovering")


@given(RIGHTS, AMOUNTS, USED, st.integers(0, 10 * ONE))
def test_the_numbers_of_an_answer_agree(right: CompiledEntitlement, amount: int, used: Used, reserved: int) -> None:
    decision = ask(right, amount, used, reserved)
    assert decision.allowed or right.on_exceed == "block"
    exact_used = average(used.total, used.events, right.scale) if used.events > 1 else render(used.total)
    assert decision.used == exact_used
    if right.limit is None:
        assert decision.remaining is None
    else:
        exact = Fraction(from_text(right.limit)) - Fraction(used.total, max(used.events, 1)) - reserved
        assert decision.remaining is not None
        assert abs(Fraction(decision.remaining) * ONE - max(exact, Fraction(0))) <= Fraction(
            ONE, 10 ** (right.scale + 6)
        )


@given(RIGHTS, USED, AMOUNTS)
def test_what_the_tenant_has_no_right_to_is_denied_whatever_is_used(
    right: CompiledEntitlement, used: Used, amount: int
) -> None:
    plan = snapshot(right)
    asked = [(plan, "g", "not-entitled"), (plan, "h", "unknown-feature"), (None, "f", "unknown-tenant")]
    for known, name, reason in asked:
        decision = decide(known, name, amount, lambda *_: used, NOW, REDIS)
        assert (decision.allowed, decision.reason) == (False, reason)


ALL_LIMITS = st.tuples(
    RIGHTS,
    st.lists(
        st.builds(Limit, st.none() | LIMITS, st.sampled_from(KINDS), st.sampled_from(["block", "warn"])), max_size=3
    ),
).map(lambda parts: structs.replace(parts[0], further=tuple(parts[1])))
USED_BY_KIND = st.dictionaries(st.sampled_from(KINDS), USED)


def by_kind(used: dict[PeriodKind, Used]) -> UsedIn:
    return lambda right, limit, period: used.get(limit.period)


@given(ALL_LIMITS, USED_BY_KIND, AMOUNTS)
def test_no_hard_limit_that_is_known_is_passed_and_each_one_counts(
    right: CompiledEntitlement, used: dict[PeriodKind, Used], amount: int
) -> None:
    decision = decide(snapshot(right), "f", amount, by_kind(used), NOW, REDIS)
    alone = [
        decide(
            snapshot(structs.replace(right, limit=one.limit, period=one.period, on_exceed=one.on_exceed, further=())),
            "f",
            amount,
            by_kind(used),
            NOW,
            REDIS,
        )
        for one in right.limits
    ]
    assert decision.allowed == all(one.allowed for one in alone)
    if decision.reason == "within-limit":
        assert {one.reason for one in alone} <= {"within-limit", "unlimited"}


GRANTS = st.lists(
    st.builds(
        CompiledGrant,
        id=st.just("g"),
        amount=LIMITS,
        since=st.integers(NOW - 2, NOW + 2),
        until=st.integers(NOW - 2, NOW + 2),
    ),
    max_size=3,
).map(tuple)
SUMS = ALL_LIMITS.filter(lambda right: right.aggregation in ("sum", "count", "unique", "latest"))


@given(SUMS, GRANTS, st.fixed_dictionaries({kind: st.integers(0, 60 * ONE) for kind in KINDS}), AMOUNTS, AMOUNTS)
def test_of_true_counters_and_holds_every_hard_limit_is_kept_with_its_grants_and_none_denies_early(
    right: CompiledEntitlement,
    grants: tuple[CompiledGrant, ...],
    true: dict[PeriodKind, int],
    held: int,
    amount: int,
) -> None:
    right = structs.replace(right, grants=grants, on_unknown="closed")
    extra = sum(from_text(grant.amount) for grant in grants if grant.since <= NOW < grant.until)
    fits = all(
        true[one.period] + held + amount <= from_text(one.limit) + (extra if number == 0 else 0)
        for number, one in enumerate(right.limits)
        if one.limit is not None and one.on_exceed == "block"
    )
    used: dict[PeriodKind, Used] = {kind: Used(total, 1) for kind, total in true.items()}
    assert decide(snapshot(right), "f", amount, by_kind(used), NOW, REDIS, held).allowed == fits


@given(
    ALL_LIMITS,
    GRANTS,
    USED_BY_KIND,
    AMOUNTS,
    st.integers(0, 9_000),
    st.sampled_from(["active", "suspended", "cancelled"]),
    st.sampled_from([None, NOW, NOW + 1]),
    st.booleans(),
    st.sampled_from([(), (("room", ("a",)),)]),
)
def test_the_rules_that_are_shown_agree_with_the_answer(
    right: CompiledEntitlement,
    grants: tuple[CompiledGrant, ...],
    used: dict[PeriodKind, Used],
    amount: int,
    age: int,
    status: TenantStatus,
    trial_ends: int | None,
    shadow: bool,
    groups: Groups,
) -> None:
    right = structs.replace(right, max_staleness=5_000, grants=grants, groups=groups)
    flag = CompiledEntitlement(max_staleness=5_000, on_unknown=right.on_unknown)
    plan = structs.replace(
        snapshot(right),
        status=status,
        trial_ends=trial_ends,
        shadow=("f", "flag", "g") if shadow else (),
        features=("f", "flag", "g"),
        entitlements={"f": right, "flag": flag},
    )
    for feature in ("f", "flag", "g", "h"):
        rules: list[Rule] = []
        knowledge = Knowledge("memory", NOW - age)
        decision = decide(plan, feature, amount, by_kind(used), NOW, knowledge, 0, rules)
        assert decision == decide(plan, feature, amount, by_kind(used), NOW, knowledge)
        allowed = decision.allowed and not decision.shadowed
        assert allowed == all(rule.allows is not False for rule in rules)
        assert decision.allowed == (allowed or feature in plan.shadow)
        unclear = any(rule.allows is None for rule in rules if rule.rule == "limit")
        old = feature == "flag" and any(rule.rule == "staleness" for rule in rules)
        assert (rules[-1].rule == "on_unknown") == (old or (unclear and decision.reason != "limit-reached"))


VALUES = st.sampled_from("abc")
GROUPS = st.dictionaries(st.sampled_from(["room", "floor"]), VALUES)
MEANT = st.dictionaries(st.sampled_from(["room", "floor"]), st.sets(VALUES, min_size=1)).map(
    lambda meant: tuple((dimension, tuple(sorted(values))) for dimension, values in meant.items())
)


@given(ALL_LIMITS, st.lists(MEANT, max_size=3), MEANT, USED_BY_KIND, AMOUNTS, GROUPS)
def test_who_says_less_of_what_it_is_is_never_allowed_more(
    right: CompiledEntitlement,
    parts: list[Groups],
    entitled: Groups,
    used: dict[PeriodKind, Used],
    amount: int,
    groups: dict[str, str],
) -> None:
    further = tuple(structs.replace(limit, groups=part) for limit, part in zip(right.further, parts, strict=False))
    plan = snapshot(structs.replace(right, further=further, groups=entitled, on_unknown="closed"))
    if decide(plan, "f", amount, by_kind(used), NOW, REDIS, groups=groups).allowed:
        return
    for dimension in groups:
        less = {name: value for name, value in groups.items() if name != dimension}
        assert not decide(plan, "f", amount, by_kind(used), NOW, REDIS, groups=less).allowed
