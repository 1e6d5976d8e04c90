"""What gates read in Redis: plans, and counters with the position that vouches for them. Raises RedisError, OSError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from enforcement.mirror import Epoch, Reading
from metering import keys
from metering.period import terms_from

_CHANGED_AT_ONCE = 5000
"""More than are ever written with one number (tenancy/snapshots.py)."""


class Signs(NamedTuple):
    """Where counters and plans stand: a few small values that are looked at all the time.

    `published`: plans are there, as far as they are known; `changed`: tenants whose plans were written since the number
    that was asked with; `number`: the one to ask with next; `whole`: there are no more of them than these.
    """

    epoch: Epoch | None
    published: bool
    changed: Sequence[str]
    number: int
    whole: bool


def connect(url: str, connections: int, seconds: float) -> Redis:
    """A client that waits for nothing longer than `seconds`; a connection that broke while idle is tried once more."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=seconds,
        protocol=3,
        # Whoever asks has a timeout of their own; redis-py's would swallow a cancellation now and then (Python 3.11's
        # wait_for), and a task that was cancelled would go on.
        socket_timeout=None,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 1),
    )
    return Redis.from_pool(pool)


async def signs(redis: Redis, since: int) -> Signs:
    """The signs; `since`: the number that is known."""
    pipe = redis.pipeline(transaction=False)
    pipe.get(keys.EPOCH)
    pipe.get(keys.SNAPSHOTS)
    pipe.get(keys.SNAPSHOT_CHANGES)
    pipe.zrangebyscore(keys.CHANGED_SNAPSHOTS, f"({since}", "+inf", 0, _CHANGED_AT_ONCE, withscores=True)
    epoch, published, number, changed = await pipe.execute()
    names = [name.decode() for name, _ in changed]
    whole = len(names) < _CHANGED_AT_ONCE
    newest = max([int(number or 0), *(int(score) for _, score in changed)])
    if not whole:  # of those that were written with the last one's number there may be more
        newest = int(changed[-1][1]) - 1
    return Signs(_epoch(epoch), published is not None, names, newest, whole)


async def plans(redis: Redis, names: Sequence[str]) -> dict[str, bytes | None]:
    """Snapshots as they stand, None: there is no such tenant; while Redis has no plans, only those that are there."""
    pipe = redis.pipeline(transaction=False)
    for name in names:
        pipe.get(keys.snapshot(name))
    pipe.get(keys.SNAPSHOTS)
    *texts, published = await pipe.execute()
    return {name: text for name, text in zip(names, texts, strict=True) if text is not None or published is not None}


async def position(redis: Redis, at: tuple[int, int]) -> Reading:
    """Where a partition stands."""
    return (await counters(redis, {at: ()}))[at]


async def counters(redis: Redis, wanted: Mapping[tuple[int, int], Sequence[str]]) -> dict[tuple[int, int], Reading]:
    """Counters, terms and holds of tenants by partition; of one partition all are of one moment, as is its position."""
    pipe = redis.pipeline(transaction=False)
    for at, names in wanted.items():
        pipe.execute_command("MULTI")
        pipe.execute_command("HGET", keys.applied(*at), "offset")
        pipe.execute_command("GET", keys.sequence(*at))
        pipe.execute_command("HGET", keys.holding(*at), "number")
        pipe.execute_command("GET", keys.vouched(*at))
        for name in names:
            pipe.execute_command("HGETALL", keys.counters(*at, name))
            pipe.execute_command("HGETALL", keys.holds(*at, name))
            pipe.execute_command("HGET", keys.counted_terms(*at), name)
        pipe.execute_command("EXEC")
    replies: list[Any] = await pipe.execute()
    readings = {}
    end = 0
    for at, names in wanted.items():
        end += 3 * len(names) + 6
        applied, sequence, number, vouched, *own = replies[end - 1]
        offset = None if applied is None else int(applied)
        counted, held = (
            {name: _texts(found) for name, found in zip(names, some, strict=True)} for some in (own[::3], own[1::3])
        )
        terms = {name: terms_from((text or b"").decode()) for name, text in zip(names, own[2::3], strict=True)}
        where = (sequence or b"").decode()
        readings[at] = Reading(offset, where, counted, terms, held, int(number or 0), int(vouched or 0))
    return readings


def _texts(found: Any) -> dict[str, str]:
    """HGETALL's answer inside EXEC: a map with RESP3, else a flat list."""
    pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
    return {field.decode(): text.decode() for field, text in pairs}


def _epoch(text: bytes | None) -> Epoch | None:
    if text is None:
        return None
    number, partitions = map(int, text.split(b":"))
    return Epoch(number, partitions)
