"""`python -m bench.load`: the load generator. A `Task` as JSON on stdin, an `Outcome` as JSON on stdout.

Closed loop: each connection sends its next request when the answer to the last has come, and none while `most_waiting`
records wait to be applied. Open loop: requests go out at `rate`, whatever the answers do. Every 20th request of a
connection is a resend of the one before.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import time
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench import events, http
from bench.progress import Progress
from bench.windows import percentiles, rates

_RESEND = 20
_CONTROL_SECONDS = 0.02
_FOLLOW_SECONDS = 0.004
_REFUSED_SECONDS = 0.05
_DRAIN_SECONDS = 120.0


class Task(msgspec.Struct, frozen=True):
    """What to send and what to watch. `rate` in requests/s; None: closed loop. `requests`: stop after so many, each
    with a body of its own (no resends); else `bodies` different ones take turns for `warm_up` + `seconds`."""

    url: str
    key: str
    tenants: list[str]
    size: int
    connections: int
    warm_up: float
    seconds: float
    windows: int
    redis: str
    epoch: int
    partitions: int
    bodies: int = 500
    requests: int | None = None
    rate: float | None = None
    most_waiting: int | None = None
    fresh: bool = False


class Outcome(msgspec.Struct):
    """Values per window: events/s answered with 202, events/s applied, ms to the answer and from the 202 until applied
    (99th percentiles). `refused` requests had another answer. `drain_seconds`: from the last answer until all was
    applied, None where nobody waited for that."""

    accepted_rates: list[float]
    applied_rates: list[float]
    answer_ms: list[float]
    fresh_ms: list[float]
    accepted: int
    refused: int
    drain_seconds: float | None


class _Answer(msgspec.Struct):
    positions: list[tuple[int, int]]


class Load:
    """One run of a task."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._address = urlsplit(task.url)
        now = time.time()
        self._bodies = itertools.cycle(
            [events.body(random.choice(task.tenants), task.size, now) for _ in range(task.requests or task.bodies)]
        )
        self._numbers = itertools.count(random.randrange(1 << 30))
        kind = "application/cloudevents-batch+json" if task.size > 1 else "application/cloudevents+json"
        self._head = (self._address.netloc, task.key, kind)
        self._left = task.requests
        self._answered = 0  # requests with 202; a request is a record, for it has one tenant
        self._applied = 0
        self._refused = 0
        self._answers: list[tuple[float, float]] = []
        self._fresh: list[tuple[float, float]] = []
        self._accepted_counts: list[tuple[float, float]] = []
        self._applied_counts: list[tuple[float, float]] = []
        self._positions: dict[tuple[int, int], float] = {}
        self._decode = msgspec.json.Decoder(_Answer).decode

    async def run(self) -> Outcome:
        """Send, watch, and where records are watched wait until the last one is applied."""
        task = self._task
        drain = None
        async with AsyncExitStack() as stack:
            progress = await stack.enter_async_context(Progress(task.redis, task.epoch, task.partitions))
            self._applied_before = await progress.records()
            watching = asyncio.create_task(self._watch(progress))
            began = time.monotonic()
            end = began + task.warm_up + task.seconds
            await (self._closed(end) if task.rate is None else self._open(task.rate, end))
            if task.most_waiting is not None or task.fresh:
                drain = await self._drained()
            watching.cancel()
        span = (began + task.warm_up, end, task.windows)
        return Outcome(
            [] if task.requests else rates(self._accepted_counts, *span),
            [] if task.requests else rates(self._applied_counts, *span),
            percentiles(self._answers, *span, 0.99),
            percentiles(self._fresh, *span, 0.99),
            self._answered * task.size,
            self._refused,
            drain,
        )

    async def _closed(self, end: float) -> None:
        await asyncio.gather(*(self._sender(end) for _ in range(self._task.connections)))

    async def _sender(self, end: float) -> None:
        connection = await self._connect()
        before = b""
        for number in itertools.count(1):
            while self._full() and time.monotonic() < end:  # noqa: ASYNC110 (the watch samples, it does not notify)
                await asyncio.sleep(_CONTROL_SECONDS / 4)
            if self._left == 0 or (self._left is None and time.monotonic() >= end):
                break
            if self._left is not None:
                self._left -= 1
            elif number % _RESEND == 0:
                await self._exchange(connection, before)
                continue
            before = self._request()
            await self._exchange(connection, before)
        connection.close()

    async def _open(self, rate: float, end: float) -> None:
        """Connections wait for their turn; a request that finds none free goes out late."""
        free: asyncio.Queue[http.Connection] = asyncio.Queue()
        for _ in range(self._task.connections):
            free.put_nowait(await self._connect())
        under_way: set[asyncio.Task[None]] = set()
        due, before = time.monotonic(), b""
        for number in itertools.count(1):
            due += 1 / rate
            if due >= end:
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            before = before if number % _RESEND == 0 else self._request()
            sending = asyncio.create_task(self._borrow(free, before))
            under_way.add(sending)
            sending.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
        while not free.empty():
            free.get_nowait().close()

    async def _borrow(self, free: asyncio.Queue[http.Connection], request: bytes) -> None:
        connection = await free.get()
        await self._exchange(connection, request)
        free.put_nowait(connection)

    async def _connect(self) -> http.Connection:
        assert self._address.hostname is not None and self._address.port is not None
        return await http.Connection.open(self._address.hostname, self._address.port)

    def _request(self) -> bytes:
        return http.request(*self._head, events.numbered(next(self._bodies), next(self._numbers)))

    async def _exchange(self, connection: http.Connection, request: bytes) -> None:
        began = time.monotonic()
        status, body = await connection.send(request)
        now = time.monotonic()
        if status != 202:
            self._refused += 1
            await asyncio.sleep(_REFUSED_SECONDS)
            return
        self._answered += 1
        self._answers.append((now, (now - began) * 1000))
        if self._task.fresh:
            for position in self._decode(body).positions:
                self._positions[position] = now

    def _full(self) -> bool:
        most = self._task.most_waiting
        return most is not None and self._answered - self._applied >= most

    async def _watch(self, progress: Progress) -> None:
        """Sample the counts; with `fresh` often enough to tell when each record became visible."""
        interval = _FOLLOW_SECONDS if self._task.fresh else _CONTROL_SECONDS
        size, partitions = self._task.size, self._task.partitions
        while True:
            offsets = await progress.offsets()
            now = time.monotonic()
            self._applied = sum(offsets) + partitions - self._applied_before
            self._accepted_counts.append((now, self._answered * size))
            self._applied_counts.append((now, self._applied * size))
            if self._positions:
                for position in [p for p in self._positions if p[1] <= offsets[p[0]]]:
                    self._fresh.append((now, (now - self._positions.pop(position)) * 1000))
            await asyncio.sleep(interval)

    async def _drained(self) -> float:
        began = time.monotonic()
        while self._applied < self._answered:
            if time.monotonic() - began > _DRAIN_SECONDS:
                raise TimeoutError(f"{self._answered - self._applied} records still wait to be applied")
            await asyncio.sleep(_CONTROL_SECONDS)
        return time.monotonic() - began


def main() -> None:
    """Run the task on stdin."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    outcome = uvloop.run(Load(task).run())
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
