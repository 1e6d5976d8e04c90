"""Where the other services are, and how far the log is applied."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from redis.exceptions import RedisError

from console.deps import CATALOGS, DATABASE, EPOCHS, REDIS, SETTINGS, USAGE, platform
from metering import keys
from metering.clock import iso
from metering.errors import Unavailable
from service.auth import principal_of
from service.problems import Problem
from tenancy import tenants
from tenancy.epochs import Epoch

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
    known = {str(partition): offset for partition, offset in (await _applied(request, epoch)).items()}
    return web.json_response({"epoch": epoch.epoch, "count": epoch.partitions, "partitions": known})


@routes.get("/v1/status")
async def status(request: web.Request) -> web.Response:
    """How far ledger and counters are, per epoch that is not closed and partition (platform).

    What is not known now is null: an offset in `applied` while the partition is rebuilt, `ledger` without ClickHouse or
    before the partition's first record. The end of the log is the writers' knowledge: see their metrics.
    """
    await platform(request)
    newest = await request.app[CATALOGS].latest()
    every = await request.app[EPOCHS].all()
    return web.json_response(
        {
            "catalog_version": newest.version if newest else None,
            "tenants": len(await tenants.every(request.app[DATABASE])),
            "epochs": [await _epoch(request, epoch) for epoch in every if epoch.status != "closed"],
        }
    )


async def _epoch(request: web.Request, epoch: Epoch) -> dict[str, Any]:
    try:
        offsets = await _applied(request, epoch)
    except Unavailable:
        offsets = {}
    try:
        heads = await request.app[USAGE].heads(epoch.epoch)
    except Unavailable:
        heads = {}
    partitions = {}
    for partition in range(epoch.partitions):
        head = heads.get(partition)
        ledger = head and {"offset": head.offset, "clock": iso(head.clock), "written": iso(head.written)}
        partitions[str(partition)] = {"applied": offsets.get(partition), "ledger": ledger}
    return {"epoch": epoch.epoch, "status": epoch.status, "partitions": partitions}


async def _applied(request: web.Request, epoch: Epoch) -> dict[int, int]:
    """Partition → applied offset, where there is one. Raises Unavailable."""
    pipe = request.app[REDIS].pipeline(transaction=False)
    for partition in range(epoch.partitions):
        pipe.hget(keys.applied(epoch.epoch, partition), "offset")
    try:
        offsets = await pipe.execute()
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis: {error}") from error
    return {partition: int(offset) for partition, offset in enumerate(offsets) if offset is not None}
