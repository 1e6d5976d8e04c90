"""What Redis says of a tenant: its plan, and the counters that a check looks at, in one round trip.

The question is put by what was last seen (the epoch, the tenant's plan) and asks for both again; if they changed
meanwhile, it is put once more. A counter whose partition has no `applied` is being rebuilt: it is not known, however
it reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from enforcement import metrics
from enforcement.remembered import Plan, RememberedPlans
from metering import keys
from metering.clock import Clock
from metering.decision import Knowledge, Unknown, Used, counted_period, used_of
from metering.entitlement import TenantSnapshot
from metering.errors import Unavailable
from metering.partition import partition_of

_log = structlog.get_logger(__name__)
_PROBE_SECONDS = 0.25
_ATTEMPTS = 4

Wanted = Mapping[str, Collection[str] | None]
"""Features by tenant; None: all that the tenant is entitled to."""


class TenantState(NamedTuple):
    """`used` by feature holds what is known: a metered feature that is missing there is not known."""

    snapshot: TenantSnapshot | None
    used: dict[str, Used]
    now: int
    knowledge: Knowledge


class _Guess(NamedTuple):
    """Where a tenant's counters stand if nothing changed."""

    plan: Plan
    features: list[str]
    fields: list[str]


def connect(url: str, connections: int, seconds: float) -> Redis:
    """A client that waits for nothing longer than `seconds`; a connection that broke while idle is tried once more."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=seconds,
        protocol=3,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 1),
    )
    return Redis.from_pool(pool)


class RedisState:
    """Reads for checks. Never raises because of Redis: what it can't tell is said in `knowledge`."""

    def __init__(self, redis: Redis, plans: RememberedPlans, clock: Clock, seconds: float) -> None:
        self._redis = redis
        self._plans = plans
        self._clock = clock
        self._seconds = seconds
        self._epoch: bytes | None = None
        self._trouble: str | None = "Redis has not answered yet"

    def trouble(self) -> str | None:
        """What keeps checks from being answered by counters, for readiness."""
        if self._trouble is None and self._epoch is None:
            return "no writer has said yet where the counters are"
        return self._trouble

    async def watch(self) -> None:
        """Ask whether Redis is there until cancelled; while it is not, checks don't wait for it."""
        while True:
            trouble = await self._probe()
            if trouble != self._trouble:
                _log.warning("Redis", trouble=trouble) if trouble else _log.info("Redis answers")
            self._trouble = trouble
            metrics.REDIS_UP.set(trouble is None)
            await asyncio.sleep(_PROBE_SECONDS)

    async def _probe(self) -> str | None:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                epoch: Any = await self._redis.get(keys.EPOCH)
        except (RedisError, OSError, TimeoutError) as error:
            return f"Redis does not answer: {str(error) or type(error).__name__}"
        self._epoch = epoch
        return None

    async def read(self, wanted: Wanted) -> dict[str, TenantState]:
        """Everything that checks of these features need, as of now."""
        if self._trouble is None:
            try:
                async with asyncio.timeout(self._seconds):
                    return await self._read(wanted)
            except (RedisError, OSError, TimeoutError, Unavailable):
                metrics.READS_FAILED.inc()
        now = self._clock.now_ms()
        return {tenant: self._remembered(tenant, now, "unavailable") for tenant in wanted}

    async def _read(self, wanted: Wanted) -> dict[str, TenantState]:
        for _ in range(_ATTEMPTS):
            now = self._clock.now_ms()
            guesses = {tenant: self._guess(tenant, features, now) for tenant, features in wanted.items()}
            epoch = self._epoch
            answer = await self._ask(epoch, guesses)
            self._epoch = answer.epoch
            if answer.epoch != epoch or not self._still_so(answer.plans, guesses, now):
                continue
            return {tenant: self._state(tenant, guess, answer, now) for tenant, guess in guesses.items()}
        raise Unavailable("plans change faster than they can be read")

    def _guess(self, tenant: str, features: Collection[str] | None, now: int) -> _Guess | None:
        plan = self._plans.get(tenant)
        if plan is None:
            return None
        rights = plan.snapshot.entitlements
        guess = _Guess(plan, [], [])
        for feature in rights if features is None else features:
            right = rights.get(feature)
            period = counted_period(right, plan.snapshot, now) if right is not None else None
            if right is None or right.meter is None or right.period is None or period is None:
                continue
            guess.features.append(feature)
            guess.fields.append(keys.counter_field(right.meter, right.period, period.start))
        return guess

    async def _ask(self, epoch: bytes | None, guesses: Mapping[str, _Guess | None]) -> _Answer:
        pipe = self._redis.pipeline(transaction=False)
        pipe.get(keys.EPOCH)
        pipe.get(keys.SNAPSHOTS)
        for tenant in guesses:
            pipe.get(keys.snapshot(tenant))
        partitions = _by_partition(epoch, guesses)
        for (number, partition), tenants in partitions.items():
            # One transaction: the counters and the `applied` that vouches for them are of one moment.
            pipe.execute_command("MULTI")
            pipe.exists(keys.applied(number, partition))
            for tenant, guess in tenants.items():
                pipe.execute_command("HMGET", keys.counters(number, partition, tenant), *guess.fields)
            pipe.execute_command("EXEC")
        replies: list[Any] = await pipe.execute()
        plans = dict(zip(guesses, replies[2 : 2 + len(guesses)], strict=True))
        counters: dict[str, list[bytes | None]] = {}
        at = 2 + len(guesses)
        for tenants in partitions.values():
            at += 2 + len(tenants)  # MULTI and what it queued
            applied, *texts = replies[at]
            at += 1
            if applied:
                counters.update(zip(tenants, texts, strict=True))
        return _Answer(replies[0], replies[1] is not None, plans, counters)

    def _still_so(self, plans: Mapping[str, bytes | None], guesses: Mapping[str, _Guess | None], now: int) -> bool:
        """Remember the plans as they are; whether they are as guessed."""
        so = True
        for tenant, text in plans.items():
            guess = guesses[tenant]
            if text is not None:
                self._plans.see(tenant, text, now)
                so = so and guess is not None and guess.plan.text == text
        return so

    def _state(self, tenant: str, guess: _Guess | None, answer: _Answer, now: int) -> TenantState:
        if answer.plans[tenant] is None and answer.published:
            self._plans.forget(tenant)
            return TenantState(None, {}, now, Knowledge("redis", now))
        if answer.plans[tenant] is None or guess is None:
            return self._remembered(tenant, now, "recovering")
        texts = answer.counters.get(tenant)
        used = {}
        if texts is not None:
            for feature, text in zip(guess.features, texts, strict=True):
                aggregation = guess.plan.snapshot.entitlements[feature].aggregation or "sum"
                used[feature] = used_of(aggregation, None if text is None else text.decode())
        return TenantState(guess.plan.snapshot, used, now, Knowledge("redis", now, "recovering"))

    def _remembered(self, tenant: str, now: int, unknown: Unknown) -> TenantState:
        plan = self._plans.get(tenant)
        if plan is None:
            return TenantState(None, {}, now, Knowledge("fallback", now, unknown))
        return TenantState(plan.snapshot, {}, now, Knowledge("fallback", plan.seen, unknown))


class _Answer(NamedTuple):
    """`plans` and (where known) `counters` by tenant; `published`: a tenant without a plan does not exist."""

    epoch: bytes | None
    published: bool
    plans: dict[str, bytes | None]
    counters: dict[str, list[bytes | None]]


def _by_partition(
    epoch: bytes | None, guesses: Mapping[str, _Guess | None]
) -> dict[tuple[int, int], dict[str, _Guess]]:
    if epoch is None:
        return {}
    number, partitions = map(int, epoch.split(b":"))
    found: dict[tuple[int, int], dict[str, _Guess]] = {}
    for tenant, guess in guesses.items():
        if guess is not None and guess.fields:
            found.setdefault((number, partition_of(tenant, partitions)), {})[tenant] = guess
    return found
