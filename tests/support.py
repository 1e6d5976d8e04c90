"""Small helpers for tests: waiting for conditions instead of sleeping, free ports, clocks that are set."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import time
from collections.abc import Callable
from typing import Any, TypeVar

from local.ports import free_ports

T = TypeVar("T")


async def eventually(
    condition: Callable[[], Any],
    timeout: float = 10.0,  # noqa: ASYNC109 (it bounds the repetition, not one call)
    interval: float = 0.02,
    what: str = "",
) -> Any:
    """The first true answer of `condition` (sync or async); exceptions count as "not yet".

    Raises AssertionError after `timeout` seconds with the last answer or exception.
    """
    deadline = time.monotonic() + timeout
    while True:
        failure: BaseException | None = None
        answer = None
        try:
            result = condition()
            answer = await result if inspect.isawaitable(result) else result
        except Exception as error:
            failure = error
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise _timed_out(what, timeout, answer, failure) from failure
        await asyncio.sleep(interval)


def wait_until(condition: Callable[[], T], timeout: float = 10.0, interval: float = 0.02, what: str = "") -> T:
    """`eventually` for tests without an event loop."""
    deadline = time.monotonic() + timeout
    while True:
        failure: BaseException | None = None
        answer: T | None = None
        try:
            answer = condition()
        except Exception as error:
            failure = error
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise _timed_out(what, timeout, answer, failure) from failure
        time.sleep(interval)


def _timed_out(what: str, timeout: float, answer: object, failure: BaseException | None) -> AssertionError:
    last = f"raised {failure!r}" if failure else f"answered {answer!r}"
    return AssertionError(f"{what or 'the condition'} did not hold within {timeout} s; it last {last}")


_given: set[int] = set()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on, below the range that outgoing connections take theirs from.

    Nobody else who asks here gets it, in this test process or those beside it: who asked may not listen yet.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        (port,) = free_ports(1)
        if port % processes == _test_process() % processes and port not in _given:
            _given.add(port)
            return port


def _test_process() -> int:
    """The number of this one of the test processes side by side."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def own_kafka() -> str | None:
    """host:port of this test process's Apache Kafka, None where there is none.

    Processes side by side have one each: they would create the same topics.
    """
    brokers = [broker for broker in os.environ.get("TALLYGATE_TEST_KAFKA", "").split(",") if broker]
    number = _test_process()
    if brokers and number >= len(brokers):
        raise RuntimeError(f"TALLYGATE_TEST_KAFKA names {len(brokers)} brokers: run with `pytest -n {len(brokers)}`")
    return brokers[number] if brokers else None


class SetClock:
    """A metering.clock.Clock that stands where it was set."""

    def __init__(self, now_ms: int) -> None:
        self.at = now_ms

    def now_ms(self) -> int:
        return self.at

    def advance(self, milliseconds: int) -> None:
        """Move it forward."""
        self.at += milliseconds


def heed_ctrl_c() -> None:
    """`preexec_fn` of a process that gets SIGINT: what a script has started in the background ignores it, and so would
    whatever the tests start there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
