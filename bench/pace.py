"""Drives the load generator (bench/pace/main.go): one run of it is one window."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

LATE_MS = 1.0
"""A window in which the generator itself was later than this (99th percentile) tells little of who was asked."""


class Target(msgspec.Struct, frozen=True):
    """Whom to ask: `requests`, sent as they are, drawn at random. A right answer has `status` and contains `expect`."""

    address: str
    requests: Sequence[str]
    status: int
    expect: str


class Window(msgspec.Struct, frozen=True):
    """What one window saw. Latencies in ms, counted from when a request was due (closed loop: sent). `rate`: right
    answers a second. `lag_*`: by how much the generator itself was late. `wrong`: other answers, or none in time."""

    sent: int
    wrong: int
    first_wrong: str
    rate: float
    p50: float
    p99: float
    p999: float
    longest: float
    lag_p99: float
    lag_longest: float

    @property
    def late(self) -> bool:
        """Whether the generator was."""
        return self.lag_p99 > LATE_MS

    def right(self) -> Window:
        """Itself. Raises WrongAnswers unless every answer was right."""
        if self.wrong:
            raise WrongAnswers(f"{self.wrong} of {self.sent} answers were wrong, the first one: {self.first_wrong}")
        return self


class WrongAnswers(RuntimeError):
    """The load was not answered as expected; the message has the first such answer."""


def request(method: str, address: str, path: str, body: bytes, key: str | None = None) -> str:
    """An HTTP/1.1 request as it goes over the wire."""
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body.decode()}"
    )


def address_of(url: str) -> str:
    """host:port."""
    return urlsplit(url).netloc


async def drive(
    program: Path, target: Target, rate: float, connections: int, warm_up: float, seconds: float, seed: int
) -> Window:
    """One window of `seconds`, `rate` requests/s in an open loop; 0: a closed one, each connection at its own pace."""
    task = {
        **msgspec.structs.asdict(target),
        "rate": rate,
        "connections": connections,
        "warm_up": warm_up,
        "seconds": seconds,
        "seed": seed,
    }
    process = await asyncio.create_subprocess_exec(
        program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        answer, _ = await process.communicate(msgspec.json.encode(task))
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}; see above")
    return msgspec.json.decode(answer, type=Window)
