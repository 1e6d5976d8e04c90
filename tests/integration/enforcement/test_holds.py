"""Holds on a real Valkey: no interleaving passes a limit, and numbers are exact up to 2^53."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

import pytest
import redis as redis_sync
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from metering import keys
from metering.catalog import Catalog
from metering.clock import DAY_MS, HOUR_MS, MINUTE_MS
from metering.period import DEFAULT_TERMS, FOREVER, BillingTerm, period_of, terms_text
from metering.quantity import ONE, render
from metering.reservation import MOST_UNITS, nanos_of, units_of
from streams.holds import begin_holds
from streams.state import Applied, PartitionState
from streams.tally import CountedMeters, Counting
from tenancy.epochs import Epoch
from tests.integration.enforcement.conftest import NEVER_BEHIND, Valkey
from tests.support import wait_until

AT = 9, 0
FIELD = "seconds:hour:0"
CONFIG = "c seconds:hour "
LUA = resources.files("enforcement").joinpath("lua")
RESERVE, SETTLE = (LUA.joinpath(name).read_text() for name in ("reserve.lua", "settle.lua"))
COMMON = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Holder:
    """What gates and the writer do to one tenant's holds and counter, in units of `scale`."""

    def __init__(self, redis: Redis, scale: int) -> None:
        self.redis = redis
        self.scale = scale
        self.state = PartitionState(redis, *AT)
        self.offset = -1

    async def begin(self) -> None:
        await self.redis.flushall()
        await self.redis.hset(keys.applied(*AT), items=["offset", "-1", "checksum", "0", "clock", "0"])
        await self.redis.set(keys.config(*AT), CONFIG)
        await self.redis.set(keys.vouched(*AT), NEVER_BEHIND)
        await begin_holds(self.redis, None, AT[0], 1)

    async def reserve(
        self,
        id: str,
        units: int,
        limit: int,
        ttl: int = 60_000,
        most: int = 1000,
        when: tuple[int, int] = (0, FOREVER),
        terms: str = "",
        field: str = FIELD,
    ) -> str:
        names = [
            keys.applied(*AT),
            keys.holding(*AT),
            *(key(*AT, "t") for key in (keys.counters, keys.holds, keys.counted)),
            keys.vouched(*AT),
            keys.config(*AT),
            keys.counted_terms(*AT),
        ]
        asked: list[Any] = ["ch", "t", "f", id, units, ttl, 900_000, self.scale, most, *when, terms, field, limit]
        answer: Any = await self.redis.eval(RESERVE, len(names), *names, *asked)
        return str(answer[0].decode())

    async def settle(self, id: str, action: str, units: int | str = "") -> str:
        names = [keys.holding(*AT), keys.holds(*AT, "t"), keys.counted(*AT, "t")]
        answer: Any = await self.redis.eval(SETTLE, len(names), *names, "ch", "t", f"f:{id}", action, units)
        return str(answer[0].decode())

    async def count(self, total: int, id: str) -> None:
        """The writer's step 4 of an event that names a reservation."""
        texts = [FIELD, render(nanos_of(total, self.scale))]
        operations = [self.state.set_counters("t", texts), *self.state.count_holds({"t": [f"f:{id}"]}, 1)]
        new = Applied(self.offset + 1, 0, 0)
        assert await self.state.apply(self.offset, CONFIG, new, operations)
        self.offset += 1

    async def count_by(self, terms: tuple[BillingTerm, ...] | None) -> None:
        """The writer counts by other billing terms from now on; None: there is no subscription any more."""
        config = await self.state.config() or ""
        counting = Counting(CountedMeters(Catalog()), {} if terms is None else {"t": terms}, config)
        new = Applied(self.offset + 1, 0, 0)
        assert await self.state.apply(self.offset, config, new, self.state.set_counting(counting, ["t"]))
        self.offset += 1

    async def expire(self, id: str) -> None:
        """Its time is over."""
        field = f"f:{id}"
        text: Any = await self.redis.hget(keys.holds(*AT, "t"), field)
        if text is not None:
            state, amount, ttl, _ = text.decode().split(" ")
            await self.redis.hset(keys.holds(*AT, "t"), field, f"{state} {amount} {ttl} 1")


@pytest.fixture(scope="module", autouse=True)
def running(server: Valkey) -> None:
    with redis_sync.Redis.from_url(server.url) as client:
        wait_until(client.ping, what="Valkey")


@pytest.fixture
async def redis(server: Valkey) -> AsyncIterator[Redis]:
    yield Redis.from_url(server.url, protocol=3)  # every example runs a loop of its own


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "commit", "release", "expire", "use"]),
        st.integers(0, 4),
        st.integers(1, 12),
    ),
    max_size=25,
)


@COMMON
@given(steps=STEPS, scale=st.sampled_from([0, 3, 9]), limit=st.integers(0, 30))
def test_no_interleaving_of_holds_and_usage_passes_the_limit(
    server: Valkey, steps: list[tuple[str, int, int]], scale: int, limit: int
) -> None:
    async def play() -> None:
        async with Redis.from_url(server.url, protocol=3) as redis:
            holder = Holder(redis, scale)
            await holder.begin()
            used = 0
            held: dict[str, tuple[str, int]] = {}  # id → state and units, as it has to be
            for number, (action, which, units) in enumerate(steps):
                id = str(which)
                state, mine = held.get(id, ("", 0))
                if action == "reserve":
                    fits = used + sum(amount for _, amount in held.values()) + units <= limit
                    wanted = "granted" if fits else "refused"
                    if state:
                        wanted = "counted" if state == "counted" else "again" if units == mine else "conflict"
                    assert await holder.reserve(id, units, limit) == wanted
                    if wanted == "granted":
                        held[id] = "held", units
                elif action == "commit":
                    wanted = {"": "unknown", "counted": "counted"}.get(state, "committed")
                    if state == "held" and units > mine:
                        wanted = "too-much"
                    elif state == "committed" and units != mine:
                        wanted = "conflict"
                    assert await holder.settle(id, "commit", units) == wanted
                    if wanted == "committed":
                        held[id] = "committed", units
                elif action == "release":
                    wanted = {"": "unknown", "counted": "counted"}.get(state, "released")
                    assert await holder.settle(id, "release") == wanted
                    if wanted == "released":
                        del held[id]
                elif action == "expire":
                    await holder.expire(id)
                    if state in ("held", "committed"):
                        del held[id]
                elif state in ("held", "committed"):  # usage that keeps to what it reserved
                    used += min(units, mine)
                    await holder.count(used, id)
                    held[id] = "counted", 0
                assert used + sum(amount for _, amount in held.values()) <= limit, number

    asyncio.run(play())


@COMMON
@given(
    scale=st.sampled_from([0, 1, 3, 9]),
    limit=st.integers(MOST_UNITS - 3, MOST_UNITS) | st.integers(1, MOST_UNITS),
    used=st.integers(0, MOST_UNITS + 1000) | st.integers(0, 10**27),
    spare=st.integers(-2, 2),
)
def test_one_unit_more_than_fits_is_refused_up_to_the_largest_number(
    server: Valkey, scale: int, limit: int, used: int, spare: int
) -> None:
    async def play() -> None:
        async with Redis.from_url(server.url, protocol=3) as redis:
            holder = Holder(redis, scale)
            await holder.begin()
            await holder.count(used, "another")
            left = limit - used
            amount = min(max(left + spare, 1), MOST_UNITS)
            half = amount // 2
            if half:
                assert await holder.reserve("half", half, limit) == ("granted" if half <= left else "refused")
                left -= half if half <= left else 0
            rest = amount - half
            assert await holder.reserve("rest", rest, limit) == ("granted" if rest <= left else "refused")

    asyncio.run(play())


async def test_a_new_epoch_reserves_when_nothing_of_the_one_before_can_last(redis: Redis) -> None:
    holder = Holder(redis, 0)
    await holder.begin()
    assert await holder.reserve("a", 1, 10, ttl=60_000) == "granted"
    latest: Any = await redis.hget(keys.holding(*AT), "latest")
    for _ in range(2):  # a crash in between is repeated
        await begin_holds(redis, Epoch(AT[0], 1, "open"), AT[0] + 1, 2)
    assert await redis.hget(keys.holding(AT[0] + 1, 1), "since") == latest
    assert await holder.reserve("b", 1, 10) == "recovering"
    assert await holder.settle("a", "commit") == "committed"
    kept: Any = await redis.hget(keys.holds(*AT, "t"), "f:a")
    assert int(kept.split()[-1]) <= int(latest)
    await redis.aclose()


async def test_a_new_epoch_does_not_trust_the_holds_of_another_run(redis: Redis) -> None:
    holder = Holder(redis, 0)
    await holder.begin()
    await redis.hset(keys.holding(*AT), "run", "another")
    await begin_holds(redis, Epoch(AT[0], 1, "open"), AT[0] + 1, 1)
    seconds, _ = await redis.time()
    since: Any = await redis.hget(keys.holding(AT[0] + 1, 0), "since")
    assert 890_000 < int(since) - int(seconds) * 1000 <= 901_000
    await redis.aclose()


async def test_a_new_epoch_waits_as_long_however_often_it_is_begun(redis: Redis) -> None:
    holder = Holder(redis, 0)
    await holder.begin()
    assert await holder.reserve("a", 1, 10) == "granted"
    await redis.hset(keys.holding(*AT), "run", "another")  # a restart: what it has is not all there was
    for _ in range(2):
        await begin_holds(redis, Epoch(AT[0], 1, "open"), AT[0] + 1, 1)
        since: Any = await redis.hget(keys.holding(AT[0] + 1, 0), "since")
        assert int(since) - await now(redis) > 890_000
    await redis.aclose()


async def test_an_epoch_that_was_ended_reserves_nothing_again_after_a_restart(redis: Redis) -> None:
    holder = Holder(redis, 0)
    await holder.begin()
    await begin_holds(redis, Epoch(AT[0], 1, "open"), AT[0] + 1, 1)
    await redis.hset(keys.holding(*AT), "run", "another")
    await holder.state.distrust_holds()
    assert await holder.reserve("a", 1, 10) == "recovering"
    assert await redis.hget(keys.holding(*AT), "since") == str(MOST_UNITS).encode()
    await redis.aclose()


async def test_what_was_lost_is_waited_for_until_its_usage_would_be_counted(redis: Redis) -> None:
    holder = Holder(redis, 0)
    await holder.begin()
    since = await now(redis) - 1000
    await redis.hset(keys.holding(*AT), "since", str(since))
    await redis.set(keys.vouched(*AT), since - 1)  # its time is over, but the writer is further behind
    assert await holder.reserve("a", 1, 10) == "recovering"
    await redis.set(keys.vouched(*AT), since)
    assert await holder.reserve("a", 1, 10) == "granted"
    await redis.aclose()


async def test_a_period_is_over_when_redis_says_so(redis: Redis) -> None:
    holder = Holder(redis, 0)
    await holder.begin()
    instant = await now(redis)
    assert await holder.reserve("late", 1, 10, when=(0, instant)) == "turned"
    assert await holder.reserve("early", 1, 10, when=(instant + 60_000, FOREVER)) == "turned"
    assert await holder.reserve("now", 1, 10, when=(instant, instant + 60_000)) == "granted"
    await redis.aclose()


async def test_nothing_is_reserved_of_a_limit_that_nobody_counts_for_yet(redis: Redis) -> None:
    holder = Holder(redis, 0)
    await holder.begin()
    await redis.set(keys.config(*AT), "c seconds:day ")
    assert await holder.reserve("a", 1, 10) == "recovering"
    await redis.set(keys.config(*AT), CONFIG)
    assert await holder.reserve("a", 1, 10) == "granted"
    await redis.aclose()


async def test_nothing_is_reserved_of_a_billing_period_that_the_writer_does_not_count_yet(redis: Redis) -> None:
    holder = Holder(redis, 0)
    await holder.begin()
    await redis.set(keys.config(*AT), f"{CONFIG}seconds:billing ")
    old, new = ((BillingTerm(0, anchor, "UTC"),) for anchor in (DAY_MS, 2 * DAY_MS))
    start = period_of("billing", await now(redis), new).start

    async def reserve(terms: tuple[BillingTerm, ...], id: str, field: str = f"seconds:billing:{start}") -> str:
        return await holder.reserve(id, 1, 10, terms=terms_text(terms), field=field)

    assert await reserve(new, "of who has come long ago") == "recovering"
    instant = await now(redis)
    began = f"seconds:billing:{instant - HOUR_MS + MINUTE_MS}"
    assert await reserve(new, "of who has just come", began) == "granted"
    await holder.count_by(old)
    assert await reserve(new, "a") == "recovering"
    assert await reserve(new, "of an hour", FIELD) == "granted"
    await redis.hset(keys.counters(*AT, "t"), f"seconds:billing:{start}", "1")
    assert await reserve(new, "of a cut counter") == "recovering"
    assert await reserve(new, "of who has used something", began) == "recovering"
    await holder.count_by(new)
    assert await reserve(new, "a") == "granted"
    assert await reserve(old, "by a gate that knows the old plan") == "recovering"
    await holder.count_by(None)
    assert await reserve(new, "b") == "recovering"
    await holder.count_by(DEFAULT_TERMS)
    assert await reserve(DEFAULT_TERMS, "b") == "granted"
    await redis.aclose()


async def test_one_tenant_holds_so_many_at_a_time_and_no_more(redis: Redis) -> None:
    holder = Holder(redis, 0)
    await holder.begin()
    assert [await holder.reserve(str(number), 1, 10, most=3) for number in range(4)] == ["granted"] * 3 + ["too-many"]
    assert await holder.reserve("0", 1, 10, most=3) == "again"
    await holder.settle("1", "release")
    assert await holder.reserve("3", 1, 10, most=3) == "granted"
    await redis.aclose()


async def test_it_is_remembered_up_to_where_holds_were_ended_while_the_state_is_gone(redis: Redis) -> None:
    holder = Holder(redis, 0)
    await holder.begin()
    assert await holder.state.counted_upto() == -1
    await holder.count(3, "a")
    await holder.state.forget()
    assert await holder.state.counted_upto() == 0
    assert await holder.state.begin_rebuild("token")
    assert await holder.state.counted_upto() == 0
    await redis.aclose()


async def now(redis: Redis) -> int:
    seconds, micros = await redis.time()
    return seconds * 1000 + micros // 1000


async def test_a_rebuild_forgets_what_was_counted_and_the_clock_drops_it(redis: Redis) -> None:
    holder = Holder(redis, 0)
    await holder.begin()
    await holder.count(3, "a")
    assert await redis.hgetall(keys.counted(*AT, "t")) == {b"f:a": b""}
    answer = await holder.state.ask([], [], 1)
    assert await holder.state.apply(0, CONFIG, Applied(1, 0, 1), holder.state.drop(answer.expired))
    assert not await redis.exists(keys.counted(*AT, "t"))
    holder.offset = 1
    await holder.count(4, "b")
    assert await holder.state.begin_rebuild("token")
    assert not await redis.exists(keys.counted(*AT, "t"))
    await redis.aclose()


def test_units_round_down_and_come_back_whole() -> None:
    assert units_of(12 * ONE + ONE // 2, 0) == 12
    assert nanos_of(units_of(12 * ONE + ONE // 2, 3), 3) == 12 * ONE + ONE // 2
