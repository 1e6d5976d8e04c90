"""Composition root of the gateway: what a process is made of, how long each part lives, when it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web

from ingest import handlers, metrics
from ingest.admission import Admission, Rate
from ingest.control import Control
from ingest.publisher import Publisher
from ingest.settings import Settings
from metering.clock import Clock
from service.auth import KEY_RING
from service.health import Health
from service.openapi import add_openapi_route
from service.problems import Handler, problem_middleware
from service.run import new_app
from tenancy.database import Database
from tenancy.keys import KeyRing

DATABASE = web.AppKey("database", Database)
_EVENTS = "/v1/events"


def build(settings: Settings, clock: Clock) -> web.Application:
    """The application of one process. It connects when it starts, and starts whether or not others are there."""
    database = Database(settings.sql)
    control = Control(database, clock)
    publisher = Publisher(settings.kafka, not settings.kafka_embedded, control.epoch, settings.publish_seconds)
    admission = Admission(settings.inflight_bytes, settings.tenant_inflight_bytes)
    metrics.IN_FLIGHT.set_function(lambda: admission.in_flight)

    health = Health()
    health.add("control", control.problem)
    health.add("broker", publisher.problem)

    app = new_app(health, [_counted, problem_middleware], max_body=settings.body_bytes)
    app[DATABASE] = database
    app[KEY_RING] = KeyRing(database, clock)
    app[handlers.SETTINGS] = settings
    app[handlers.CLOCK] = clock
    app[handlers.CONTROL] = control
    app[handlers.PUBLISHER] = publisher
    app[handlers.ADMISSION] = admission
    app[handlers.REQUEST_RATE] = Rate(settings.request_rate, "requests", "too-many-requests")
    app[handlers.BACKFILL_RATE] = Rate(settings.backfill_rate, "backfill", "too-much-backfill")
    app.cleanup_ctx.append(_database)
    app.cleanup_ctx.append(_running)
    app.router.add_post(_EVENTS, handlers.post_events)
    add_openapi_route(app, "ingest")
    return app


async def _database(app: web.Application) -> AsyncIterator[None]:
    await app[DATABASE].open()
    yield
    await app[DATABASE].close()


async def _running(app: web.Application) -> AsyncIterator[None]:
    """Control plane and broker are watched for as long as requests may come, and a little longer."""
    tasks = [asyncio.create_task(app[part].run()) for part in (handlers.CONTROL, handlers.PUBLISHER)]
    yield
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@web.middleware
async def _counted(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    if request.path == _EVENTS:
        metrics.REQUESTS.labels(response.status).inc()
    return response
