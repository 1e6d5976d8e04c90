"""How far the counters in Redis are: `applied` of every partition, as the gate reads it."""

from __future__ import annotations

from redis.asyncio import Redis

from metering import keys


class Progress:
    """Applied offsets of one epoch. A context manager: it holds a connection."""

    def __init__(self, url: str, epoch: int, partitions: int) -> None:
        self._redis: Redis = Redis.from_url(url, protocol=3)
        self._names = [keys.applied(epoch, partition) for partition in range(partitions)]

    async def __aenter__(self) -> Progress:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()

    async def offsets(self) -> list[int]:
        """The last applied offset of each partition, -1 for none."""
        pipe = self._redis.pipeline(transaction=False)
        for name in self._names:
            pipe.hget(name, "offset")
        return [-1 if offset is None else int(offset) for offset in await pipe.execute()]

    async def records(self) -> int:
        """Records applied over all partitions."""
        return sum(await self.offsets()) + len(self._names)
