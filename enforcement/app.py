"""Composition root of the gate: what a process is made of, how long each part lives, when it is ready."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import structlog
from aiohttp import web

from enforcement import handlers, metrics
from enforcement.decided import Tally, Teller
from enforcement.follower import Follower
from enforcement.gate import Gate
from enforcement.gathered import GatheredLoads
from enforcement.mirror import Mirror
from enforcement.redis_reads import connect
from enforcement.reservations import Reservations
from enforcement.settings import Settings
from enforcement.warm_start import WarmStart
from metering.clock import SECOND_MS, Clock
from service.auth import KEY_RING
from service.health import Health
from service.openapi import add_openapi_route
from service.problems import Handler, problem_middleware
from service.run import HEALTH, new_app
from service.watch import Watch
from tenancy.database import Database
from tenancy.keys import STALE_SECONDS, KeyRing

_log = structlog.get_logger(__name__)
_TIDY_SECONDS = 600.0
_YOUNG, _NEVER = 1_000, 1_000_000_000
_PATIENCE = 10
"""Times `redis_seconds`: who reserves can wait longer than who checks."""
DATABASE = web.AppKey("database", Database)
CLOCK = web.AppKey("clock", Clock)


def build(settings: Settings, clock: Clock) -> web.Application:
    """The application of one process. It connects when it starts, and starts whether or not others are there."""
    database = Database(settings.sql)
    app = new_app(Health(), [_measured, problem_middleware])
    app[DATABASE] = database
    app[CLOCK] = clock
    app[KEY_RING] = KeyRing(database, clock)
    app[handlers.SETTINGS] = settings
    app.cleanup_ctx.extend([_database, _gate])
    app.router.add_post("/v1/check", handlers.post_check)
    app.router.add_get("/v1/check", handlers.forward_auth)
    app.router.add_post("/v1/check/batch", handlers.post_batch)
    app.router.add_get("/v1/entitlements/{tenant}", handlers.get_entitlements)
    app.router.add_post("/v1/reservations", handlers.post_reservation)
    app.router.add_post("/v1/reservations/{id}/commit", handlers.post_commit)
    app.router.add_delete("/v1/reservations/{id}", handlers.delete_reservation)
    add_openapi_route(app, "enforcement")
    return app


async def _database(app: web.Application) -> AsyncIterator[None]:
    await app[DATABASE].open()
    watch = Watch("SQL", app[DATABASE].ping, patience=STALE_SECONDS)
    app[HEALTH].add("keys", watch.failure)
    watching = asyncio.create_task(watch.run())
    yield
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    await app[DATABASE].close()


async def _gate(app: web.Application) -> AsyncIterator[None]:
    settings, clock = app[handlers.SETTINGS], app[CLOCK]
    redis = connect(settings.redis, settings.redis_connections, settings.redis_seconds)
    mirror = Mirror(settings.tenants)
    follower = Follower(redis, mirror, clock, settings.redis_seconds)
    tally = Tally() if settings.kafka else None
    gate = app[handlers.GATE] = Gate(mirror, GatheredLoads(follower.load).load, clock, tally)
    longest = int(settings.reservation_seconds * SECOND_MS)
    patience = settings.redis_seconds * _PATIENCE
    # Connections of their own: who checks does not wait behind who reserves, and does not break off what they began.
    holding = connect(settings.redis, settings.redis_connections, patience)
    app[handlers.RESERVATIONS] = Reservations(holding, mirror, gate, patience, longest, settings.holds)
    app[HEALTH].add("counters", follower.trouble)
    warm = WarmStart(mirror, Path(settings.memory)) if settings.memory else None
    if warm is not None:
        _log.info("known from before", tenants=warm.load())
    services = [follower.run(), _tidy(), *([warm.run()] if warm else [])]
    if settings.kafka and tally is not None:
        services.append(Teller(tally, settings.kafka).run())
    running = [asyncio.create_task(service) for service in services]
    app[HEALTH].add("services", lambda: _ended(running))
    yield
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    if warm is not None:
        with suppress(OSError):
            await warm.save()
    await redis.aclose()
    await holding.aclose()


async def _tidy() -> None:
    """Look for cycles often in the little that is new, every ten minutes in all that is remembered: where ten thousand
    tenants are known no check is answered for 40 ms, and the interpreter's own thresholds do it every few seconds.
    """
    gc.set_threshold(_YOUNG, _NEVER, _NEVER)
    while True:
        await asyncio.sleep(_TIDY_SECONDS)
        gc.collect()


def _ended(services: Sequence[asyncio.Task[None]]) -> str | None:
    """What nobody expected to end."""
    for service in services:
        if service.done() and not service.cancelled():
            return f"{service.get_coro()!r} has ended: {service.exception()!r}"
    return None


@web.middleware
async def _measured(request: web.Request, handler: Handler) -> web.StreamResponse:
    began = time.perf_counter()
    response = await handler(request)
    resource = request.match_info.route.resource
    if resource is not None and resource.canonical.startswith("/v1/"):
        metrics.REQUEST_SECONDS.labels(resource.canonical).observe(time.perf_counter() - began)
    return response
