from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import SetClock, eventually, wait_until


async def test_eventually_returns_the_first_true_answer() -> None:
    answers = iter([0, None, 7, 8])
    assert await eventually(lambda: next(answers), interval=0) == 7


async def test_eventually_awaits_an_async_condition_and_forgives_exceptions() -> None:
    answers: Iterator[Exception | str] = iter([ValueError("not yet"), "there"])

    async def condition() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await eventually(condition, interval=0) == "there"


async def test_eventually_gives_up_and_says_what_it_saw_last() -> None:
    with pytest.raises(AssertionError, match=r"the writer did not hold within 0 s; it last answered \[\]"):
        await eventually(list, timeout=0, what="the writer")


def test_wait_until_gives_up_with_the_last_exception_as_cause() -> None:
    def condition() -> bool:
        raise OSError("refused")

    with pytest.raises(AssertionError, match="refused") as caught:
        wait_until(condition, timeout=0)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_set_clock_moves_only_when_told() -> None:
    clock = SetClock(5)
    clock.advance(10)
    assert (clock.now_ms(), clock.now_ms()) == (15, 15)
