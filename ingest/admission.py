"""How much a process takes on at a time: bytes in flight, of all and of one tenant, and requests per key.

Full is an answer: 503 when the process is full, 429 when the sender's own share is. Nothing waits in a queue here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import limits
import msgspec
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from service.problems import Problem, retry_later

_RETRY_SECONDS = 1


class Hold:
    """Bytes that one request occupies until it is answered."""

    __slots__ = ("_admission", "_bytes", "_owner")

    def __init__(self, admission: Admission, owner: str) -> None:
        self._admission = admission
        self._owner = owner
        self._bytes = 0

    def resize(self, size: int) -> None:
        """Occupy `size` bytes from now on. Raises Problem 429 or 503, and then holds what it held."""
        self._admission.take(self._owner, size - self._bytes)
        self._bytes = size


class Admission:
    """Bytes in flight of one process. `share` is what one owner (a tenant) may occupy of `total`."""

    def __init__(self, total: int, share: int) -> None:
        self._total = total
        self._share = share
        self._by_owner: dict[str, int] = {}
        self.in_flight = 0

    @contextmanager
    def hold(self, owner: str, size: int) -> Iterator[Hold]:
        """Occupy `size` bytes during the block. Raises Problem 429 (`share-exhausted`) or 503 (`overloaded`)."""
        hold = Hold(self, owner)
        hold.resize(size)
        try:
            yield hold
        finally:
            hold.resize(0)

    def take(self, owner: str, more: int) -> None:
        """Count `more` (or, negative, fewer) bytes for `owner`."""
        held = self._by_owner.get(owner, 0) + more
        if more > 0:
            if held > self._share:
                raise retry_later(429, "share-exhausted", "too many bytes of this tenant in flight", _RETRY_SECONDS)
            if self.in_flight + more > self._total:
                raise retry_later(503, "overloaded", "this gateway is full; come back soon", _RETRY_SECONDS)
        self.in_flight += more
        if held:
            self._by_owner[owner] = held
        else:
            self._by_owner.pop(owner, None)


class Budget(msgspec.Struct, frozen=True):
    """What is left after a hit; `reset` in seconds from now."""

    remaining: int
    reset: int


class Rate:
    """At most so much per key and window, like `500/second`; an empty rate lets everything pass."""

    def __init__(self, rate: str, name: str, code: str) -> None:
        self._item = limits.parse(rate) if rate else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._name = name
        self._code = code

    async def spend(self, key: str, cost: int = 1) -> dict[str, str]:
        """Header fields that tell the sender where they stand (RateLimit fields). Raises Problem 429 with them."""
        if self._item is None or not cost:
            return {}
        passed = await self._limiter.hit(self._item, self._name, key, cost=cost)
        stats = await self._limiter.get_window_stats(self._item, self._name, key)
        wait = max(1, int(stats.reset_time - time.time()) + 1)
        fields = {
            "RateLimit-Policy": f'"{self._name}";q={self._item.amount};w={self._item.get_expiry()}',
            "RateLimit": f'"{self._name}";r={max(0, stats.remaining)};t={wait}',
        }
        if not passed:
            raise Problem(
                429,
                self._code,
                f"more than {self._item.amount} per {self._item.get_expiry()} s",
                {"Retry-After": str(wait), **fields},
            )
        return fields
