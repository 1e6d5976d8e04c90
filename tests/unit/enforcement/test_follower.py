"""Plans that change while others are being read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest

from enforcement import redis_reads
from enforcement.follower import Follower
from enforcement.mirror import Epoch, Mirror, Reading
from metering.catalog import Catalog
from metering.entitlement import TenantStatus, compile_snapshot, encode
from metering.period import DEFAULT_TERMS
from tests.support import SetClock, eventually


def plan(name: str, status: TenantStatus) -> bytes:
    return encode(compile_snapshot(name, status, None, DEFAULT_TERMS, Catalog(), 1))


class Plans:
    """What stands in Redis; a reading of some tenants is under way until it is let through."""

    def __init__(self) -> None:
        self.status: TenantStatus = "active"
        self.number = 10
        self.changed: list[str] = []
        self.under_way: dict[str, asyncio.Event] = {}
        self.waiting: list[str] = []

    async def signs(self, redis: Any, since: int) -> redis_reads.Signs:
        changed = self.changed if since < self.number else []
        return redis_reads.Signs(Epoch(1, 1), True, changed, self.number, True)

    async def plans(self, redis: Any, names: Sequence[str]) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {name: plan(name, self.status) for name in names}
        for name in names:
            if name in self.under_way:
                self.waiting.append(name)
                await self.under_way.pop(name).wait()
        return found

    async def counters(
        self, redis: Any, wanted: Mapping[tuple[int, int], Sequence[str]]
    ) -> dict[tuple[int, int], Reading]:
        return {
            at: Reading(
                1, "a", {n: {} for n in names}, dict.fromkeys(names, DEFAULT_TERMS), {n: {} for n in names}, 0, 1 << 53
            )
            for at, names in wanted.items()
        }

    async def position(self, redis: Any, at: tuple[int, int]) -> Reading:
        return Reading(1, "a", {}, {}, {}, 0, 1 << 53)


async def test_a_change_is_not_missed_of_who_is_read_while_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    plans, mirror = Plans(), Mirror(10)
    for name in ("signs", "plans", "counters", "position"):
        monkeypatch.setattr(redis_reads, name, getattr(plans, name))
    follower = Follower(Silent(), mirror, SetClock(1_000_000), 5.0)  # type: ignore[arg-type]
    running = asyncio.create_task(follower.run())
    await eventually(lambda: follower.trouble() is None, what="the first look")
    assert await follower.load(["known"])
    newcomer_read, known_read = plans.under_way.setdefault("newcomer", asyncio.Event()), asyncio.Event()
    loading = asyncio.create_task(follower.load(["newcomer"]))
    await eventually(lambda: plans.waiting == ["newcomer"], what="the newcomer's old plan is on its way")
    plans.under_way["known"] = known_read
    plans.status, plans.number, plans.changed = "suspended", 11, ["known", "newcomer"]
    await eventually(lambda: plans.waiting == ["newcomer", "known"], what="the change is looked at")
    newcomer_read.set()
    assert await loading
    known_read.set()
    await eventually(
        lambda: [tenant.snapshot and tenant.snapshot.status for tenant in mirror.tenants.values()] == ["suspended"] * 2,
        timeout=2,
        what="both plans",
    )
    running.cancel()


class Silent:
    """A Redis in whose channels nothing comes."""

    def pubsub(self, **_: Any) -> Silent:
        return self

    async def subscribe(self, *_: Any) -> None: ...

    async def ping(self) -> None: ...

    async def get_message(self, timeout: float) -> None:  # noqa: ASYNC109 (as redis-py has it)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await asyncio.Event().wait()

    async def aclose(self) -> None: ...
