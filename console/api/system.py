"""Where the other services are, and how far the log is applied."""

from __future__ import annotations

from aiohttp import web
from redis.exceptions import RedisError

from console.deps import EPOCHS, REDIS, SETTINGS
from metering import keys
from metering.errors import Unavailable
from service.auth import principal_of
from service.problems import Problem

routes = web.RouteTableDef()


@routes.get("/v1/addresses")
async def addresses(request: web.Request) -> web.Response:
    """Where clients find the gateway and the gate."""
    await principal_of(request)
    settings = request.app[SETTINGS]
    return web.json_response({"ingest": settings.ingest_url, "gate": settings.gate_url})


@routes.get("/v1/applied")
async def applied(request: web.Request) -> web.Response:
    """The current epoch and, per partition, the last offset that ledger and counters have (-1: none yet).

    A partition that is being rebuilt is left out.
    """
    await principal_of(request)
    epoch = await request.app[EPOCHS].current()
    if epoch is None:
        raise Problem(503, "no-epoch", "the log has no epoch yet; run tallygate migrate", headers={"Retry-After": "1"})
    pipe = request.app[REDIS].pipeline(transaction=False)
    for partition in range(epoch.partitions):
        pipe.hget(keys.applied(epoch.epoch, partition), "offset")
    try:
        offsets = await pipe.execute()
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis: {error}") from error
    known = {str(partition): int(offset) for partition, offset in enumerate(offsets) if offset is not None}
    return web.json_response({"epoch": epoch.epoch, "count": epoch.partitions, "partitions": known})
