"""Reservations: holds in Redis that the scripts in lua/ grant, keep and end. Redis is waited for, but not long.

What may be held follows from the plan as the mirror knows it; what is used and held is compared in Redis, at one moment
for all gates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Literal, NamedTuple, cast

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from enforcement import metrics
from enforcement.gate import Gate
from enforcement.mirror import Mirror
from enforcement.scripts import GatheredScripts
from metering import keys
from metering.catalog import Limit
from metering.decision import NO_GROUPS, NOTHING, Decision, Knowledge, Used, decide, standings_of, steady, used_of
from metering.entitlement import CompiledEntitlement, TenantSnapshot
from metering.errors import Refused, TryLater, Unavailable
from metering.partition import partition_of
from metering.period import Period, terms_text
from metering.reservation import LONGEST_MS, MOST_UNITS, HoldName, bound, nanos_of, units_of

_LUA = resources.files("enforcement").joinpath("lua")
Outcome = Literal["granted", "again", "refused", "conflict", "counted", "too-many"]
_TURNS = 3
"""Clocks differ a little, and a period may turn on the way."""
Settled = Literal["committed", "released", "counted", "unknown", "conflict", "too-much"]


class Answer(NamedTuple):
    """What became of a reservation; `decision` with the numbers, `expires` in ms UTC."""

    outcome: Outcome
    decision: Decision
    expires: int


class End(NamedTuple):
    """What became of a commit or release: what is held now (nanos) until `expires` (ms UTC)."""

    outcome: Settled
    amount: int
    expires: int


class Reservations:
    """Of one process. `seconds`: how long Redis is waited for; `longest`: no hold is longer (ms); `most`: holds that a
    tenant has at a time."""

    def __init__(
        self, redis: Redis, mirror: Mirror, gate: Gate, seconds: float, longest: int = LONGEST_MS, most: int = 2000
    ) -> None:
        self._mirror = mirror
        self._gate = gate
        self._longest = longest
        self._most = most
        self._scripts = GatheredScripts(redis, seconds)
        self._reserve = redis.register_script(_LUA.joinpath("reserve.lua").read_text())
        self._settle = redis.register_script(_LUA.joinpath("settle.lua").read_text())

    async def reserve(
        self, name: HoldName, amount: int, ttl: int | None, groups: Mapping[str, str] = NO_GROUPS
    ) -> Answer:
        """Hold `amount` (nanos) for `ttl` ms (None: as long as may be); `groups`: of what it is.

        Raises Refused (what can never be held), TryLater (Redis lost what was held, or counters are being rebuilt),
        Unavailable.
        """
        ttl = self._longest if ttl is None else ttl
        if not 0 < ttl <= self._longest:
            raise Refused("invalid-ttl", f"`ttl_seconds` is above 0 and at most {self._longest / 1000:g}")
        await self._gate.know({name.tenant})
        tenant, _, now = self._gate.find(name.tenant)
        if tenant is None:
            raise Unavailable("plans cannot be read at the moment")
        for _ in range(_TURNS):
            answer, now = await self._reserve_at(now, tenant.snapshot, name, amount, ttl, groups)
            if answer is not None:
                return answer
        raise Unavailable(f"no period of {name.feature!r} lasts long enough to look at it")

    async def _reserve_at(
        self,
        now: int,
        snapshot: TenantSnapshot | None,
        name: HoldName,
        amount: int,
        ttl: int,
        groups: Mapping[str, str],
    ) -> tuple[Answer | None, int]:
        """What becomes of it in the periods that are open at `now` (ms UTC); None: by Redis' clock, which is then
        told, others are."""
        # What a plan refuses needs no counters: nothing is used, and nothing is asked for.
        refusal = decide(snapshot, name.feature, 0, _nothing, now, Knowledge("memory", now), groups=groups)
        right = None if snapshot is None else snapshot.entitlements.get(name.feature)
        if not refusal.allowed or right is None or snapshot is None:
            known = snapshot is not None and name.feature in snapshot.features
            self._gate.count(name.tenant, refusal, now, known)
            return Answer("refused", refusal, now), now
        if not right.reservable:
            raise Refused("not-reservable", f"the catalog does not say `reservable: true` of {name.feature!r}")
        units = units_of(amount, right.scale)
        if amount <= 0 or nanos_of(units, right.scale) != amount or units > MOST_UNITS:
            raise Refused("invalid-amount", f"`amount` is above 0, below 2^53 units, with {right.scale} decimals")
        standings = standings_of(right, snapshot, _nothing, 0, now)
        binding = name.feature not in snapshot.shadow
        bounds = [bound(right, at, binding) for at in standings]
        at = self._at(name.tenant)
        state = [keys.applied(*at), keys.holding(*at)]
        state += [key(*at, name.tenant) for key in (keys.counters, keys.holds, keys.counted)]
        state += [keys.vouched(*at), keys.config(*at), keys.counted_terms(*at)]
        asked = [keys.holds_feed(*at), *name, units, ttl, self._longest, right.scale, self._most]
        asked += [*steady(snapshot, name.feature, now), terms_text(snapshot.terms)]
        found = await self._run(
            name.tenant, self._reserve, state, [*asked, *(part for pair in bounds for part in pair)]
        )
        outcome, instant, until, reserved, _, *texts = (part.decode() for part in found)
        if outcome == "turned":
            return None, int(instant)
        metrics.RESERVATIONS.labels(outcome).inc()
        if outcome == "recovering":
            raise TryLater(
                "it is not known what is held or used: Redis or counters are begun anew, or usage is on its way",
                min(int(until) - int(instant), self._longest) / 1000,
            )
        held = nanos_of(int(reserved), right.scale)
        more = amount
        if outcome in ("granted", "again"):
            held, more = held + amount, 0
        used = dict(zip((field for field, _ in bounds), texts, strict=True))
        knowledge = Knowledge("redis", int(instant))
        decision = decide(snapshot, name.feature, more, _Counters(used), now, knowledge, held, groups=groups)
        if outcome in ("granted", "refused"):
            self._gate.count(name.tenant, decision, now, True)
        return Answer(cast(Outcome, outcome), decision, int(until)), now

    async def commit(self, name: HoldName, amount: int | None) -> End:
        """Keep `amount` (nanos; None: all that is held) until the usage event that names it is counted. Raises
        Unavailable, Refused."""
        scale = await self._scale(name)
        if scale is None:
            return End("unknown", 0, 0)
        if amount is not None and nanos_of(units_of(amount, scale), scale) != amount:
            raise Refused("too-precise", f"the meter keeps {scale} decimals; more are refused, not rounded")
        return await self._end(name, "commit", "" if amount is None else units_of(amount, scale), scale)

    async def release(self, name: HoldName) -> End:
        """Hold it no more, also where the plan has lost the feature. Raises Unavailable."""
        return await self._end(name, "release", "", await self._scale(name) or 0)

    async def _end(self, name: HoldName, action: str, units: object, scale: int) -> End:
        at = self._at(name.tenant)
        state = [keys.holding(*at), keys.holds(*at, name.tenant), keys.counted(*at, name.tenant)]
        asked = [keys.holds_feed(*at), name.tenant, name.field, action, units]
        outcome, left, until = (part.decode() for part in await self._run(name.tenant, self._settle, state, asked))
        metrics.RESERVATIONS.labels(outcome).inc()
        return End(cast(Settled, outcome), nanos_of(int(left), scale), int(until))

    async def _scale(self, name: HoldName) -> int | None:
        """The scale in which a hold is counted; None: there can be no such hold."""
        await self._gate.know({name.tenant})
        tenant, _, _ = self._gate.find(name.tenant)
        if tenant is None:
            raise Unavailable("plans cannot be read at the moment")
        right = None if tenant.snapshot is None else tenant.snapshot.entitlements.get(name.feature)
        return None if right is None or right.meter is None else right.scale

    def _at(self, tenant: str) -> tuple[int, int]:
        epoch = self._mirror.epoch
        if epoch is None:
            raise Unavailable("no writer has said yet where the counters are")
        return epoch.number, partition_of(tenant, epoch.partitions)

    async def _run(
        self, tenant: str, script: AsyncScript, state: Sequence[str], arguments: Sequence[object]
    ) -> list[bytes]:
        try:
            return cast(list[bytes], await self._scripts.run(tenant, script, state, arguments))
        except (RedisError, OSError, TimeoutError) as error:
            metrics.READS_FAILED.inc()
            raise Unavailable("Redis does not answer") from error


class _Counters:
    """metering.decision.UsedIn of counters that were read, by field."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    def __call__(self, right: CompiledEntitlement, limit: Limit, period: Period) -> Used | None:
        text = self._texts.get(keys.counter_field(right.meter or "", limit.period, period.start))
        return None if text is None else used_of(right.aggregation or "sum", text)


def _nothing(right: CompiledEntitlement, limit: Limit, period: Period) -> Used | None:
    return NOTHING
