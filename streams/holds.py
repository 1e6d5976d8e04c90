"""What was reserved in one epoch and the next: their holds stand in different places.

Of a new epoch's partitions it is known that nothing is held there, so that reservations need not wait as after a loss
of Redis' data (enforcement/lua/reserve.lua); but what older epochs hold has to end first.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from metering import keys
from metering.reservation import LONGEST_MS, MOST_UNITS
from tenancy.epochs import Epoch

_log = structlog.get_logger(__name__)
_NEVER = MOST_UNITS
_END = resources.files("streams").joinpath("lua/end_reserving.lua").read_text()


async def begin_holds(redis: Redis, older: Epoch | None, epoch: int, partitions: int) -> None:
    """Let nothing more be reserved in the epoch before; in the new one from when nothing of it can last.

    Safe to repeat. Before the new epoch is made known: a crash behind it leaves an epoch that reserves nothing until
    this is done again. Where Redis does not answer, gates find out by waiting.
    """
    try:
        since = 0
        end = redis.register_script(_END)
        for partition in range(older.partitions if older is not None else 0):
            assert older is not None
            # redis-py types answers for both of its clients at once
            latest: Any = await end(keys=[keys.holding(older.epoch, partition)], args=[LONGEST_MS, _NEVER])
            since = max(since, int(latest))
        server: Any = await redis.info("server")
        run = server["run_id"]
        pipe = redis.pipeline(transaction=False)
        for partition in range(partitions):
            mark = ["run", run, "since", str(since), "latest", str(since)]
            pipe.hset(keys.holding(epoch, partition), items=mark)
        await pipe.execute()
    except (RedisError, OSError) as error:
        _log.warning("reservations wait in the new epoch: Redis does not answer", epoch=epoch, reason=str(error))
