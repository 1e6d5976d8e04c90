"""What was reserved in one epoch and the next: their holds stand in different places.

Of a new epoch's partitions it is known that nothing is held there, so that reservations need not wait as after a loss
of Redis' data (enforcement/lua/reserve.lua); but what older epochs hold has to end first.
"""

from __future__ import annotations

from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from metering import keys
from metering.clock import SECOND_MS
from metering.reservation import LONGEST_MS, MOST_UNITS
from tenancy.epochs import Epoch

_log = structlog.get_logger(__name__)
_NEVER = MOST_UNITS


async def begin_holds(redis: Redis, older: Epoch | None, epoch: int, partitions: int) -> None:
    """Let nothing more be reserved in the epoch before; in the new one from when nothing of it can last.

    Safe to repeat. Before the new epoch is made known: a crash behind it leaves an epoch that reserves nothing until
    this is done again. Where Redis does not answer, gates find out by waiting.
    """
    try:
        # redis-py types answers for both of its clients at once
        server: Any = await redis.info("server")
        seconds, _ = await redis.time()
        run, now = server["run_id"], int(seconds) * SECOND_MS
        since = 0
        for partition in range(older.partitions if older is not None else 0):
            assert older is not None
            key = keys.holding(older.epoch, partition)
            pipe = redis.pipeline(transaction=True)
            pipe.hmget(key, ["run", "latest"])
            pipe.hset(key, items=["run", run, "since", str(_NEVER)])
            pipe.hsetnx(key, "latest", str(now + LONGEST_MS))
            (known, latest), *_ = await pipe.execute()
            trusted = known is not None and known.decode() == run and latest is not None
            since = max(since, int(latest) if trusted else now + LONGEST_MS)
        pipe = redis.pipeline(transaction=False)
        for partition in range(partitions):
            mark = ["run", run, "since", str(since), "latest", str(since)]
            pipe.hset(keys.holding(epoch, partition), items=mark)
        await pipe.execute()
    except (RedisError, OSError) as error:
        _log.warning("reservations wait in the new epoch: Redis does not answer", epoch=epoch, reason=str(error))
