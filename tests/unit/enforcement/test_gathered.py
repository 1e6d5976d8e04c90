"""Tenants that are asked about while a reading is under way share the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from enforcement.gathered import GatheredLoads
from tests.support import eventually


class SlowLoad:
    """Answers when told to; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.open = asyncio.Event()

    async def __call__(self, tenants: Sequence[str]) -> bool:
        self.asked.append(list(tenants))
        await self.open.wait()
        if "broken" in tenants:
            raise ValueError("broken")
        return "away" not in tenants


@pytest.fixture
def slow() -> SlowLoad:
    return SlowLoad()


async def test_readings_under_way_are_joined_by_nobody_and_the_next_by_all(slow: SlowLoad) -> None:
    loads = GatheredLoads(slow)
    first = asyncio.create_task(loads.load({"a"}))
    await eventually(lambda: slow.asked, interval=0)
    later = [asyncio.create_task(loads.load(tenants)) for tenants in ({"a"}, {"c", "b"}, {"b"})]
    await asyncio.sleep(0)
    slow.open.set()
    assert await first
    assert [await each for each in later] == [True] * 3
    assert slow.asked == [["a"], ["a", "b", "c"]]


async def test_readings_one_after_the_other_are_each_asked(slow: SlowLoad) -> None:
    slow.open.set()
    loads = GatheredLoads(slow)
    assert [await loads.load({name}) for name in ("a", "away", "a")] == [True, False, True]
    assert slow.asked == [["a"], ["away"], ["a"]]


async def test_who_goes_away_takes_nothing_from_the_others(slow: SlowLoad) -> None:
    loads = GatheredLoads(slow)
    gone = asyncio.create_task(loads.load({"a"}))
    stays = asyncio.create_task(loads.load({"b"}))
    await eventually(lambda: slow.asked, interval=0)
    gone.cancel()
    slow.open.set()
    assert await stays
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_an_unexpected_error_reaches_who_waits_and_the_next_reading_works(slow: SlowLoad) -> None:
    slow.open.set()
    loads = GatheredLoads(slow)
    with pytest.raises(ValueError, match="broken"):
        await loads.load({"broken"})
    assert await loads.load({"a"})
