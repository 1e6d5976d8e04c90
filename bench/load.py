"""Load over HTTP/1.1 from keep-alive connections of raw asyncio streams, with as little Python per event as possible.

Closed loop: each connection sends its next request when the answer to the last has come. Every 20th request is a resend
of the one before. With `room` the load pauses while too much of it waits to be applied.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from bench.events import TEMPLATE, batch, event

_POSITIONS = re.compile(rb'"positions":\[(\[.*?\])\]')
_PAIR = re.compile(rb"\[(\d+),(\d+)\]")
_BODIES = 400


class Load:
    """Counts what was accepted, and when each request was answered."""

    def __init__(self, url: str, key: str, tenants: list[str], size: int, connections: int) -> None:
        self._address = urlsplit(url)
        self._key = key.encode()
        self._connections = connections
        self._size = size
        self._numbers = itertools.count(random.randrange(1 << 30))
        self._again: bytes | None = None
        chosen = [random.choice(tenants) for _ in range(_BODIES)]
        self._bodies = [batch(tenant, size) if size > 1 else event(tenant, 0) for tenant in chosen]
        self.accepted = 0
        self.records = 0
        self.refused = 0
        self.seconds: list[float] = []
        self.answered: dict[tuple[int, int], float] = {}
        self.room: Callable[[], bool] = lambda: True

    def _request(self) -> bytes:
        number = next(self._numbers)
        if number % 20 == 0 and self._again is not None:
            return self._again
        body = random.choice(self._bodies).replace(TEMPLATE, b"%08x" % (number & 0xFFFFFFFF))
        kind = b"application/cloudevents-batch+json" if self._size > 1 else b"application/cloudevents+json"
        host = f"{self._address.hostname}:{self._address.port}".encode()
        self._again = (
            b"POST /v1/events HTTP/1.1\r\nHost: %b\r\nAuthorization: Bearer %b\r\nContent-Type: %b\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (host, self._key, kind, len(body), body)
        )
        return self._again

    async def run(self, seconds: float) -> None:
        """Send for so long."""
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._connection(until) for _ in range(self._connections)))

    async def _connection(self, until: float) -> None:
        reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        try:
            while time.monotonic() < until:
                if not self.room():
                    await asyncio.sleep(0.005)
                    continue
                began = time.monotonic()
                writer.write(self._request())
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
                body = await reader.readexactly(length)
                now = time.monotonic()
                if b" 202 " in head[:16]:
                    self.accepted += self._size
                    self.seconds.append(now - began)
                    found = _POSITIONS.search(body)
                    for partition, offset in _PAIR.findall(found[1] if found else b""):
                        self.records += 1
                        self.answered[int(partition), int(offset)] = now
                else:
                    self.refused += 1
                    await asyncio.sleep(0.05)
        finally:
            writer.close()
