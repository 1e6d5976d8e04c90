"""Reads that arrive while one is under way share the next one."""

from __future__ import annotations

import asyncio

import pytest

from enforcement.gathered import GatheredReads
from enforcement.redis_state import TenantState, Wanted
from metering.decision import Knowledge
from tests.support import eventually


class SlowRead:
    """Answers when told to; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, set[str] | None]] = []
        self.open = asyncio.Event()

    async def __call__(self, wanted: Wanted) -> dict[str, TenantState]:
        number = len(self.asked)
        self.asked.append({tenant: None if of is None else set(of) for tenant, of in wanted.items()})
        await self.open.wait()
        if "broken" in wanted:
            raise ValueError("broken")
        return {tenant: TenantState(None, {}, number, Knowledge("redis", number)) for tenant in wanted}


@pytest.fixture
def slow() -> SlowRead:
    return SlowRead()


async def test_reads_under_way_are_joined_by_nobody_and_the_next_by_all(slow: SlowRead) -> None:
    reads = GatheredReads(slow)
    first = asyncio.create_task(reads.read({"a": {"x"}}))
    await eventually(lambda: slow.asked, interval=0)
    later = [asyncio.create_task(reads.read(w)) for w in ({"a": {"y"}}, {"b": {"x"}}, {"a": {"z"}}, {"b": None})]
    await asyncio.sleep(0)
    slow.open.set()
    assert (await first)["a"].now == 0
    assert [{state.now for state in (await read).values()} for read in later] == [{1}] * 4
    assert slow.asked == [{"a": {"x"}}, {"a": {"y", "z"}, "b": None}]


async def test_reads_one_after_the_other_are_read_each(slow: SlowRead) -> None:
    slow.open.set()
    reads = GatheredReads(slow)
    for number in range(3):
        assert (await reads.read({"a": {"x"}}))["a"].now == number


async def test_who_goes_away_takes_nothing_from_the_others(slow: SlowRead) -> None:
    reads = GatheredReads(slow)
    gone = asyncio.create_task(reads.read({"a": {"x"}}))
    stays = asyncio.create_task(reads.read({"b": {"x"}}))
    await eventually(lambda: slow.asked, interval=0)
    gone.cancel()
    slow.open.set()
    assert (await stays)["b"].now == 0
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_an_unexpected_error_reaches_who_waits_and_the_next_read_works(slow: SlowRead) -> None:
    slow.open.set()
    reads = GatheredReads(slow)
    with pytest.raises(ValueError, match="broken"):
        await reads.read({"broken": {"x"}})
    assert (await reads.read({"a": {"x"}}))["a"].now == 1
